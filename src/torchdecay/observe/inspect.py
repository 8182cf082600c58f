"""`inspect`: what each parameter group says about weight decay, read and not measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from torch.nn.parameter import is_lazy

from torchdecay.apply.handle import Handle, handle_of
from torchdecay.errors import ApplyError
from torchdecay.observe.groups import Wiring, float_of, name_all, optimizers_of, why_unusable, wiring_of
from torchdecay.observe.pulls import Pulled, pulls_of
from torchdecay.optimizers.cards import has_trait, native_of
from torchdecay.optimizers.formulas import Pace
from torchdecay.plans.decay import Site
from torchdecay.plans.tree import ModelLike, names_of, one_model
from torchdecay.records import JsonRecord
from torchdecay.tables import DIM, FOLD, Entries, Printed, rich_table
from torchdecay.text import dtype_name, first_of, group_label

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Meaning = Literal["coupled", "decoupled", "none", "unknown"]

_METHODS = {
    "decoupled": "w ← w − lr·λ·w",
    "independent": "w ← w − λ·w, whatever the schedule, as td.per_step",
    "palm": "w ← w − lr²·λ·w",
    "l2": "g ← g + λ·w",
}
"""What NVIDIA's optimizers mean by their `weight_decay_method`; "independent" follows the schedule elsewhere."""


@dataclass(frozen=True, kw_only=True)
class InspectedGroup:
    """What one parameter group says.

    Attributes:
        optimizer: the optimizer's class.
        optimizer_index: which of the optimizers that were given.
        index: which of its groups.
        names: of its parameters: by the model, else `param_names`, else "group 0, #3".
        lr: its learning rate as it stands; None without one, or when it is no number.
        weight_decay: as it stands, as a number; None without one, or when it is no number.
        problem: why lr or weight_decay is no usable number, or "".
        meaning: what `weight_decay` means here: "coupled", "decoupled", "none" (the optimizer has none), or
            "unknown" (`torchdecay.verify` measures it).
        claim: what an optimizer that is not known says itself: by a `weight_decay_method`, or by a `decouple_lr` in
            the group; "" where it says nothing. Two libraries call different decays "independent".
        wiring: whether a plan is at work: "attached"; "not attached" (the group was built from a plan that needs
            it); "hooks lost" (one was attached, and a copy or a pickle dropped its hooks); "" without a plan.
        decays: what an attached plan does here, as (decay or "spared", route, number of parameters).
        pull: the fraction of each weight that decay takes per step, at the learning rate as it stands, lowest and
            highest of its parameters; for SGD with coupled decay, the fraction once momentum has settled;
            None where it depends on gradients, or is not known.
        swings: whether momentum carries weights without gradient through zero and back; `pull` is then of how far.
        num_params: how many parameters.
        num_elements: how many elements.
        num_frozen: how many of the parameters ask for no gradient.
        dtypes: of the parameters, torch's spelling without the prefix.
        devices: where they lie.
    """

    optimizer: str
    optimizer_index: int
    index: int
    names: tuple[str, ...]
    lr: float | None
    weight_decay: float | None
    problem: str
    meaning: Meaning
    claim: str
    wiring: Wiring
    decays: tuple[tuple[str, str, int], ...]
    pull: tuple[float, float] | None
    swings: bool
    num_params: int
    num_elements: int
    num_frozen: int
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Inspection(Entries[InspectedGroup], Printed, JsonRecord, kind="inspection"):
    """`torchdecay.inspect`: one entry per group; prints as a table.

    Attributes:
        groups: the entries.
    """

    groups: tuple[InspectedGroup, ...]

    @property
    def summary(self) -> str:
        """How many groups, parameters and elements, and how many elements some decay pulls."""
        total = sum(group.num_elements for group in self.groups)
        params = sum(group.num_params for group in self.groups)
        pulled = sum(group.num_elements for group in self.groups if _may_decay(group))
        return (
            f"{len(self.groups)} groups, {params} parameters, {total:,} elements; "
            f"{pulled:,} elements in groups with decay"
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        heads = ("group", "parameters", "elements", "dtype", "lr", "weight_decay", "per step")
        meaning = ("what it means", {**DIM, **FOLD, "ratio": 1})
        several = any(group.optimizer_index for group in self.groups)
        yield rich_table(
            [*((head, FOLD) for head in heads), meaning], [_cells(group, several) for group in self.groups]
        )
        yield ""
        yield self.summary


def inspect(optimizer: Any, *, model: ModelLike = None) -> Inspection:
    r"""Read what each parameter group of an optimizer says about weight decay; takes no step, changes nothing.

    The pull per step is

    $$f = \eta\lambda \text{ (decoupled)}, \qquad
    f \approx \eta\lambda\,\frac{1 - \text{dampening}}{1 - \text{momentum}} \text{ (coupled, SGD)}$$

    with the group's learning rate η and weight_decay λ; an attached plan's pulls are c·λ as each `Decay` says. Under
    momentum it is what weights without gradient come to lose per step, of which the formula is the first order. In
    adaptive optimizers a coupled decay takes off what the gradients leave it to, so no number is given there.
    What groups say may not be what happens: `torchdecay.verify` measures.

    Args:
        optimizer: an optimizer, or several.
        model: for names, where the groups have no `param_names`; several models in a list or dict.

    Returns:
        An `Inspection`, one `InspectedGroup` per group.

    Raises:
        ApplyError: something that is no optimizer.
        PlanError: something that is no model.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
        >>> group = td.inspect(optimizer)[0]
        >>> group.names, group.meaning, f"{group.pull[1]:g}"
        (('weight',), 'decoupled', '0.001')
    """
    model = one_model(model)
    known = {} if model is None else names_of(model)
    groups = []
    for number, one in enumerate(optimizers_of(optimizer)):
        names = name_all(one, known)
        try:
            pulls = pulls_of(one, model=model)
        except ApplyError:
            # The plan at work no longer fits the optimizer.
            pulls = [[] for _ in names]
        groups += [_inspected(one, number, i, own, pulls[i]) for i, own in enumerate(names)]
    return Inspection(tuple(groups))


def _inspected(
    optimizer: Any, number: int, index: int, names: Sequence[str], pulls: Sequence[Pulled]
) -> InspectedGroup:
    group, handle = optimizer.param_groups[index], handle_of(optimizer)
    params: list[Tensor] = group["params"]
    problems = [_lr_problem(group.get("lr"))]
    if "weight_decay" in group:
        problems.append(why_unusable(group["weight_decay"], "weight_decay"))
    problem = "; ".join(one for one in problems if one)
    lr = float_of(group.get("lr"))
    paces = [] if problem else _paces(pulls, lr)
    return InspectedGroup(
        optimizer=type(optimizer).__name__,
        optimizer_index=number,
        index=index,
        names=tuple(names),
        lr=lr,
        weight_decay=float_of(group.get("weight_decay")),
        problem=problem,
        meaning=_meaning(optimizer, group),
        claim=_claim(optimizer, group),
        wiring=wiring_of(group, handle),
        decays=_decays(handle, index),
        pull=None if not paces else (paces[0].fraction, paces[-1].fraction),
        swings=any(one.swings for one in paces),
        num_params=len(params),
        num_elements=sum(param.numel() for param in params if not is_lazy(param)),
        num_frozen=sum(not param.requires_grad for param in params),
        dtypes=tuple(dict.fromkeys(dtype_name(param.dtype) for param in params)),
        devices=tuple(dict.fromkeys(str(param.device) for param in params)),
    )


def _meaning(optimizer: Any, group: Mapping[str, Any]) -> Meaning:
    known = native_of(optimizer, group)
    if known is not None:
        return "coupled" if known.site is Site.GRADIENT else "decoupled"
    return "none" if has_trait(optimizer, "no decay") or "weight_decay" not in group else "unknown"


def _claim(optimizer: Any, group: Mapping[str, Any]) -> str:
    method = getattr(optimizer, "weight_decay_method", None)
    if native_of(optimizer, group) is not None or "weight_decay" not in group:
        return ""
    if group.get("decouple_lr"):
        return "independent: w ← w − lr/max_lr·λ·w, along the schedule, as td.independent"
    return f"{method}: {_METHODS[method]}" if isinstance(method, str) and method in _METHODS else ""


def _decays(handle: Handle | None, index: int) -> tuple[tuple[str, str, int], ...]:
    if handle is None:
        return ()
    counts: dict[tuple[str, str], int] = {}
    for row in handle.lowering.rows:
        if row.group == index:
            key = (repr(row.decay) if row.decay is not None else "spared", row.route)
            counts[key] = counts.get(key, 0) + 1
    return tuple((decay, route, count) for (decay, route), count in counts.items())


def _paces(pulls: Iterable[Pulled], lr: float | None) -> list[Pace]:
    """What decay takes of a weight per step, the least first, where it takes the same of each; else nothing."""
    paces = []
    for pulled in dict.fromkeys(pulls):
        pace = pulled.pace(lr or 0.0) if pulled.is_even else None
        if pace is None or (pulled.decay is not None and lr is None):
            return []
        paces.append(pace)
    return sorted(paces)


def _may_decay(group: InspectedGroup) -> bool:
    if group.decays:
        return any(decay != "spared" for decay, _, _ in group.decays)
    return bool(group.weight_decay) and group.meaning != "none"


def _lr_problem(lr: Any) -> str:
    if lr is None:
        return ""
    number = float_of(lr)
    return "" if number is not None and math.isfinite(number) and number >= 0 else f"lr is {lr!r}"


def _cells(group: InspectedGroup, several: bool) -> list[str | tuple[str, str]]:
    tone = "red" if group.problem or group.wiring in ("not attached", "hooks lost") else "default"
    return [
        group_label(group.optimizer, group.optimizer_index, group.index, several=several),
        first_of(group.names),
        f"{group.num_elements:,}",
        ", ".join(group.dtypes),
        _short(group.lr),
        _short(group.weight_decay),
        _pull_text(group.pull),
        (_told(group), tone),
    ]


def _told(group: InspectedGroup) -> str:
    """What the last column says."""
    parts = [group.problem] if group.problem else []
    if group.wiring == "attached":
        parts += [f"{decay} ({route}) x{count}" if decay != "spared" else f"spared x{count}"
                  for decay, route, count in group.decays]  # fmt: skip
    elif group.wiring:
        parts.append(f"{group.wiring}: the plan is not at work")
    elif group.meaning == "unknown":
        parts.append(
            f"{group.claim} (so it says: td.verify measures it)" if group.claim else "not known: td.verify measures it"
        )
    else:
        parts.append("has no weight_decay" if group.meaning == "none" else group.meaning)
    if group.swings:
        parts.append("momentum swings weights through zero")
    if group.num_frozen:
        parts.append(f"{group.num_frozen} frozen")
    return "; ".join(parts)


def _pull_text(pull: tuple[float, float] | None) -> str:
    if pull is None:
        return "?"
    low, high = pull
    return f"{high:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
