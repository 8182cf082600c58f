"""Which tensors are recorded together, what should pull them, and how that can be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.handle import Handle
from torchdecay.errors import ApplyError
from torchdecay.observe.groups import name_all
from torchdecay.observe.monitor.momentum import Carrying, carries
from torchdecay.observe.monitor.series import Series, Source
from torchdecay.observe.pulls import Pulled, pulls_of
from torchdecay.optimizers.steps import tells_update
from torchdecay.plans.census import census
from torchdecay.plans.controllers import Cautious, LazyRows, Multiplier
from torchdecay.plans.decay import Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import Models, names_of
from torchdecay.text import dtype_name, nearest

By = Literal["role", "block", "tensor"]


@dataclass(eq=False)
class Tracked:
    """One tensor of an optimizer: what should pull it, and how its decay's displacement is known, see `Series.source`.

    `carries` is whether momentum has decay of earlier steps; `series` the place of its series in the layout;
    `invariant` whether it is scale-invariant, None until its first gradient.
    """

    param: Tensor
    name: str
    role: str
    group: int
    pulled: Pulled
    source: Source = "none"
    carries: Carrying = ""
    series: int = 0
    invariant: bool | None = None

    @property
    def counts_zeros(self) -> bool:
        """Whether its decay makes exact zeros."""
        return self.pulled.decay is not None and not self.pulled.decay.regularizer.smooth

    @property
    def is_cautious(self) -> bool:
        """Whether its decay spares elements by the update's sign."""
        return self.pulled.decay is not None and isinstance(self.pulled.decay.gate, Cautious)

    @property
    def is_constrained(self) -> bool:
        """Whether its decay has a dual variable."""
        return self.pulled.decay is not None and isinstance(self.pulled.decay.controller, Multiplier)


@dataclass(eq=False)
class Layout:
    """The tensors of one optimizer, in the series that they are recorded in."""

    series: tuple[Series, ...]
    members: list[Tracked]
    known: list[list[Tensor]] = field(repr=False)
    first: int = 0

    @property
    def dtypes(self) -> list[torch.dtype]:
        """The coarsest dtype of each series."""
        each = self._of_each(lambda one: one.param.dtype)
        return [max(own, key=lambda dtype: torch.finfo(dtype).eps) for own in each]

    @property
    def exact(self) -> list[bool]:
        """For each series, whether its planned shrink is what must come out: caution leaves alone what it will."""
        return [not any(own) for own in self._of_each(lambda one: one.is_cautious)]

    def _of_each(self, ask: Callable[[Tracked], Any]) -> list[list[Any]]:
        found: list[list[Any]] = [[] for _ in self.series]
        for member in self.members:
            found[member.series].append(ask(member))
        return found

    def is_outdated(self, optimizer: Optimizer) -> bool:
        """Whether the optimizer has other tensors by now."""
        groups = optimizer.param_groups
        return [[id(param) for param in group["params"]] for group in groups] != [
            [id(param) for param in params] for params in self.known
        ]


def lay_out(
    optimizer: Optimizer,
    handle: Handle | None,
    *,
    plan: Plan | None,
    model: nn.Module | None,
    by: By | Callable[[str], str],
    prefix: str,
) -> Layout:
    """Arrange an optimizer's tensors in series: those of one label that are pulled alike, and measured alike.

    Raises:
        ApplyError: the plan and the optimizer do not fit, or an unknown `by`.
    """
    if not callable(by) and by not in ("role", "block", "tensor"):
        raise ApplyError(
            f"by is {by!r}.",
            'Records are grouped by "role", "block" or "tensor", or by a function from a name to a label.',
            nearest(str(by), ("role", "block", "tensor")),
        )
    if handle is not None:
        plan = plan if plan is not None else handle.plan
        model = model if model is not None else handle.model
    names = name_all(optimizer, {} if model is None else names_of(model))
    pulls = pulls_of(optimizer, plan=plan, model=model)
    roles = _roles(optimizer, names, plan, model)
    members: list[Tracked] = []
    keys: dict[tuple[str, str, Source], list[Tracked]] = {}
    for index, (group, own_names, own) in enumerate(zip(optimizer.param_groups, names, pulls, strict=True)):
        readable = tells_update(optimizer, group)
        for param, name, pulled in zip(group["params"], own_names, own, strict=True):
            # What is stored sparse, or not yet at all, has no elements that could be measured.
            dense = param.layout in (torch.strided, torch.jagged) and not param.is_meta
            if dense and (param.is_floating_point() or param.is_complex()):
                source = _source(pulled, readable)
                carried = carries(pulled) if source == "shadow" else ""
                member = Tracked(param, name, roles.get(name, ""), index, pulled, source, carried)
                members.append(member)
                keys.setdefault((_label(member, by), pulled.spoken, source), []).append(member)
    called = _called(list(keys))
    series = []
    for place, ((_, decay_text, source), own_members) in enumerate(keys.items()):
        for member in own_members:
            member.series = place
        dtypes = dict.fromkeys(dtype_name(member.param.dtype) for member in own_members)
        own_roles = dict.fromkeys(member.role for member in own_members)
        series.append(
            Series(
                name=prefix + called[place],
                role=next(iter(own_roles)) if len(own_roles) == 1 else "",
                decay=decay_text,
                source=source,
                carried=own_members[0].carries,
                unplanned=own_members[0].pulled.why if source == "shadow" else "",
                dtype=", ".join(dtypes),
                names=tuple(member.name for member in own_members),
                num_elements=sum(member.param.numel() for member in own_members),
            )
        )
    return Layout(tuple(series), members, [list(group["params"]) for group in optimizer.param_groups])


def _roles(optimizer: Optimizer, names: list[list[str]], plan: Plan | None, model: nn.Module | None) -> dict[str, str]:
    if plan is not None and not isinstance(model, Models):
        return {name: row.role for row in plan.rows for name in row.names}
    if model is not None:
        return {name: one.role for one in census(model) for name in one.names}
    tensors = {
        name: param
        for group, own in zip(optimizer.param_groups, names, strict=True)
        if len(group.get("param_names", ())) == len(group["params"])
        for param, name in zip(group["params"], own, strict=True)
    }
    return {name: one.role for one in census(tensors) for name in one.names} if tensors else {}


def _source(pulled: Pulled, readable: bool) -> Source:
    decay = pulled.decay
    if decay is not None and pulled.hooked:
        return "planned" if isinstance(decay.gate, LazyRows) else "pass"
    if pulled.site is Site.LOSS:
        return "planned"
    # Adafactor, whose update reads the weight before its decay, is no exception here: it has no rule.
    if readable and (decay is None or decay.site is Site.BEFORE or pulled.is_linear):
        return "state"
    return "none" if decay is None else "shadow"


def _label(member: Tracked, by: By | Callable[[str], str]) -> str:
    if callable(by):
        return str(by(member.name))
    if by == "tensor":
        return member.name
    if by == "block":
        parts = member.name.split(".")
        numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        return ".".join(parts[: numbered + 1]) if numbered is not None else parts[0]
    return member.role or f"group {member.group}"


def _called(keys: list[tuple[str, str, Source]]) -> list[str]:
    """A name for each series: its label, with what tells it from others of that label."""
    names = []
    for label, decay, source in keys:
        alike = [one for one in keys if one[0] == label]
        name = label
        if len({one[1] for one in alike}) > 1:
            name += f", {decay or 'spared'}"
        if sum(one[1] == decay for one in alike) > 1:
            name += f", {source}"
        names.append(name)
    return names
