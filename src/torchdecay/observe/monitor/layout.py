"""Which tensors are recorded together, what should pull them, and how that can be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.handle import Handle
from torchdecay.errors import ApplyError
from torchdecay.observe.inspect import name_all
from torchdecay.observe.monitor.series import Series, Source
from torchdecay.observe.pulls import Expectation, expectations
from torchdecay.optimizers.cards import settled_factor
from torchdecay.optimizers.steps import tells_update
from torchdecay.plans.census import census
from torchdecay.plans.controllers import Cautious, LazyRows, Multiplier, RowGate
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.regularizers import L2
from torchdecay.text import nearest

By = Literal["role", "block", "tensor"]


@dataclass(eq=False)
class Tracked:
    """One tensor of an optimizer.

    Attributes:
        param: the tensor.
        name: its name.
        role: its role, "" where that is not known.
        group: index of its parameter group.
        expected: what should pull it.
        source: how its decay's displacement is known, see `Series.source`.
        series: place of its series in the layout.
        invariant: whether it is scale-invariant; None until its first gradient.
    """

    param: Tensor
    name: str
    role: str
    group: int
    expected: Expectation
    source: Source = "none"
    series: int = 0
    invariant: bool | None = None

    @property
    def decay(self) -> Decay | None:
        """What should pull it."""
        return self.expected.decay

    @property
    def counts_zeros(self) -> bool:
        """Whether its decay makes exact zeros."""
        return self.decay is not None and not self.decay.regularizer.smooth

    @property
    def is_cautious(self) -> bool:
        """Whether its decay spares elements by the update's sign."""
        return self.decay is not None and isinstance(self.decay.gate, Cautious)

    @property
    def pulls_after(self) -> bool:
        """Whether its decay meets the weights after the update."""
        return self.decay is not None and self.decay.site is Site.AFTER

    @property
    def is_constrained(self) -> bool:
        """Whether its decay has a dual variable."""
        return self.decay is not None and isinstance(self.decay.controller, Multiplier)


@dataclass(eq=False)
class Layout:
    """The tensors of one optimizer, in the series that they are recorded in."""

    series: tuple[Series, ...]
    members: list[Tracked]
    known: list[list[Tensor]] = field(repr=False)
    first: int = 0

    def is_outdated(self, optimizer: Optimizer) -> bool:
        """Whether the optimizer has other tensors by now."""
        groups = optimizer.param_groups
        return len(groups) != len(self.known) or any(
            len(group["params"]) != len(known) or any(a is not b for a, b in zip(group["params"], known, strict=True))
            for group, known in zip(groups, self.known, strict=True)
        )


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
    model = model if model is not None else handle.model if handle is not None else None
    expected = expectations(optimizer, plan, model)
    names = name_all(optimizer, model)
    roles = _roles(optimizer, names, plan if plan is not None else handle.plan if handle is not None else None, model)
    hooked = _hooked(handle)
    members = []
    for index, (group, own) in enumerate(zip(optimizer.param_groups, names, strict=True)):
        readable = tells_update(optimizer, group)
        for param, name in zip(group["params"], own, strict=True):
            if param.is_floating_point() or param.is_complex():
                member = Tracked(param, name, roles.get(name, ""), index, expected[id(param)])
                member.source = _source(optimizer, group, member, param, id(param) in hooked, readable)
                members.append(member)
    spoken: dict[int, str] = {}
    keys: dict[tuple[str, str, Source], list[Tracked]] = {}
    for member in members:
        decay = member.decay
        if id(decay) not in spoken:
            spoken[id(decay)] = "" if decay is None else member.expected.spoken or repr(decay)
        keys.setdefault((_label(member, by), spoken[id(decay)], member.source), []).append(member)
    called = _called(list(keys))
    series = []
    for place, ((_, decay_text, source), own_members) in enumerate(keys.items()):
        for member in own_members:
            member.series = place
        dtypes = dict.fromkeys(str(member.param.dtype).removeprefix("torch.") for member in own_members)
        own_roles = dict.fromkeys(member.role for member in own_members)
        series.append(
            Series(
                name=prefix + called[place],
                role=next(iter(own_roles)) if len(own_roles) == 1 else "",
                decay=decay_text,
                source=source,
                dtype=", ".join(dtypes),
                names=tuple(member.name for member in own_members),
                num_elements=sum(member.param.numel() for member in own_members),
            )
        )
    return Layout(tuple(series), members, [list(group["params"]) for group in optimizer.param_groups])


def _roles(optimizer: Optimizer, names: list[list[str]], plan: Plan | None, model: nn.Module | None) -> dict[str, str]:
    if plan is not None:
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


def _hooked(handle: Handle | None) -> set[int]:
    """Tensors that a pass of the attached plan displaces."""
    if handle is None:
        return set()
    return {
        id(param)
        for group in handle.lowering.groups
        for param, _, decay in group.hooked
        if decay.site in (Site.BEFORE, Site.AFTER)
    }


def _source(
    optimizer: Optimizer, group: Mapping[str, Any], member: Tracked, param: Tensor, by_pass: bool, has_rule: bool
) -> Source:
    decay = member.decay
    if by_pass:
        lazy = decay is not None and isinstance(decay.gate, LazyRows)
        return "planned" if lazy else "pass"
    if decay is not None and decay.site is Site.LOSS:
        return "planned"
    # Adafactor, whose update reads the weight before its decay, is no exception here: it has no rule.
    if has_rule and (decay is None or decay.site is Site.BEFORE or settled_factor(optimizer, group) is not None):
        return "state"
    return "none" if decay is None else "planned"


def planned_fraction(
    optimizer: Optimizer, group: Mapping[str, Any], expected: Expectation, lr: float, ahead: int
) -> float | None:
    """The fraction of each weight that decay is to take in the step that comes, None where it is no fraction.

    Args:
        optimizer: whose.
        group: the live group.
        expected: what should pull.
        lr: the group's learning rate.
        ahead: steps that the group took since `expected` was made.
    """
    decay = expected.decay
    if expected.wrong or expected.unsayable or expected.source == "group":
        return None
    if decay is None or lr == 0:
        return 0.0
    plain = type(decay.regularizer) is L2 and decay.reference is None and decay.mask is None
    if not plain or isinstance(decay.gate, RowGate):
        return None
    amount = expected.amount(lr, ahead)
    if decay.site in (Site.GRADIENT, Site.LOSS):
        settled = settled_factor(optimizer, group)
        return None if settled is None else lr * amount * settled
    return amount / (1 + amount) if decay.proximal else amount


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
