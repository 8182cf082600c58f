"""Who is pulled by what: the parameters of an optimizer or a plan, put together where they undergo the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from torchdecay.apply.handle import Handle
from torchdecay.apply.lowering import lower, name_parameters
from torchdecay.errors import ApplyError, UnitError
from torchdecay.observe.audit.case import native_decay
from torchdecay.observe.inspect import name_all
from torchdecay.observe.pulls import attached, bad_number, decay_of
from torchdecay.optimizers.cards import native_of
from torchdecay.optimizers.peaks import peak_of
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.rows import Row
from torchdecay.text import listed


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """Parameters of one group that one decay pulls.

    Attributes:
        optimizer: whose, or None for a plan by itself.
        number: which of the optimizers.
        index: which of its groups.
        values: the group's options.
        decay: what pulls; NATIVE only where nobody knows what that means; None for spared ones.
        spoken: the decay as it was said.
        hooked: whether it runs by hook, which pays what a low precision would round away.
        steps: steps already taken, for the decay's schedule.
        peak: the peak learning rate, where the decay needs one.
        lost: why a decay that was planned is not at work, or "".
        names, sizes, dtypes: of the parameters.
    """

    optimizer: Any
    number: int
    index: int
    values: Mapping[str, Any] = field(repr=False)
    decay: Decay | None
    spoken: str
    hooked: bool = False
    steps: int = 0
    peak: float | None = None
    lost: str = ""
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ()


def of_plan(plan: Plan, lr: float | None) -> list[Pulled]:
    """The rows of a plan by itself, put together by decay and options.

    Args:
        plan: the plan.
        lr: learning rate of rows that have none among their options.
    """
    return [_of_rows(rows, index, lr) for index, rows in enumerate(rows_alike(plan))]


def rows_alike(plan: Plan) -> list[list[Row]]:
    """The rows of a plan, those with the same decay and options together."""
    found: list[list[Row]] = []
    for row in plan.rows:
        for rows in found:
            if rows[0].decay == row.decay and rows[0].options == row.options:
                rows.append(row)
                break
        else:
            found.append([row])
    return found


def _of_rows(rows: Sequence[Row], index: int, lr: float | None) -> Pulled:
    decay, values = rows[0].decay, dict(rows[0].options)
    if lr is not None:
        values = {"lr": lr} | values
    return Pulled(
        optimizer=None,
        number=0,
        index=index,
        values=values,
        decay=decay,
        spoken=_spoken(decay),
        # As attach does it: by hook, except for what only the optimizer can do.
        hooked=decay is not None and decay.site is not Site.NATIVE,
        peak=_peak(decay, values, index, None, None) if "lr" in values else None,
        names=tuple(row.name for row in rows),
        sizes=tuple(row.num_elements for row in rows),
        dtypes=tuple(dict.fromkeys(row.dtype for row in rows)),
    )


def of_optimizers(
    optimizers: Sequence[Any], plan: Plan | None, model: nn.Module | None, scheduler: Any
) -> list[Pulled]:
    """The parameters of optimizers, under a plan, the attached plan, or the groups' own weight_decay.

    Args:
        optimizers: at least one.
        plan: instead of what is attached.
        model: for names, where the groups have none.
        scheduler: that may know a peak, for optimizers without a handle.

    Raises:
        ApplyError: plan and optimizers do not fit.
        UnitError: a weight_decay that is no usable number.
    """
    found: list[Pulled] = []
    for number, optimizer in enumerate(optimizers):
        handle = attached(optimizer)
        chosen = plan if plan is not None else handle.plan if handle is not None else None
        if chosen is None:
            found += _own(optimizer, number, model)
        else:
            found += _planned(optimizer, number, chosen, handle, model, scheduler)
    if plan is not None:
        covered = {name for one in found for name in one.names}
        lacking = [row.name for row in plan.rows if row.decay is not None and covered.isdisjoint(row.names)]
        if lacking:
            raise ApplyError(
                f"plan and optimizer disagree: the plan decays {listed(lacking)}, which the optimizer does not have.",
                "What is in no optimizer is never trained.",
                "Give the optimizer that was built for this model, or all of them as a list.",
            )
    return found


def _planned(
    optimizer: Optimizer, number: int, plan: Plan, handle: Handle | None, model: nn.Module | None, scheduler: Any
) -> Iterator[Pulled]:
    model = model if model is not None or handle is None else handle.model
    own = handle is not None and handle.plan is plan
    lowering = handle.lowering if handle is not None and own else lower(plan, optimizer, model=model)
    hooked = {row.name for row in lowering.rows if row.route == "hook"}
    named = name_parameters(plan, optimizer, model)
    for index, (values, members) in enumerate(zip(optimizer.param_groups, named, strict=True)):
        live = [(name, param, decay) for param, name, decay in members if param.requires_grad]
        known = native_of(optimizer, values)
        steps = handle.steps(index) if handle is not None else 0
        for decay, alike in _by_decay(live):
            means = decay
            if decay is not None and decay.site is Site.NATIVE and known is not None:
                kept = native_decay(optimizer, known, decay.coefficient)
                means = None if kept is None else kept.replace(schedule=decay.schedule)
            yield _with_params(
                Pulled(
                    optimizer=optimizer,
                    number=number,
                    index=index,
                    values=values,
                    decay=means,
                    spoken=_spoken(decay),
                    hooked=alike[0][0] in hooked,
                    steps=steps,
                    peak=_peak(means, values, index, handle, scheduler),
                ),
                alike,
            )


def _own(optimizer: Any, number: int, model: nn.Module | None) -> Iterator[Pulled]:
    """By the groups' own weight_decay."""
    named = name_all(optimizer, model)
    for index, (values, names) in enumerate(zip(optimizer.param_groups, named, strict=True)):
        key, asked = decay_of(optimizer, values)
        wrong = bad_number(asked, key) if key else ""
        if wrong:
            raise UnitError(f"group {index}: {wrong}.", fix="Give a finite number, at least 0.")
        decay = native_decay(optimizer, native_of(optimizer, values), float(asked) if key else 0.0)
        live = [(n, p, decay) for n, p in zip(names, values["params"], strict=True) if p.requires_grad]
        if live:
            spoken = _spoken(decay) if decay is None or decay.site is not Site.NATIVE else f"{key}={float(asked):g}"
            yield _with_params(
                Pulled(optimizer=optimizer, number=number, index=index, values=values, decay=decay, spoken=spoken,
                       lost=_lost(values)),
                live,
            )  # fmt: skip


def _lost(values: Mapping[str, Any]) -> str:
    mark = str(values.get(MARK, ""))
    if mark.startswith("not attached"):
        return f"{mark.removeprefix('not attached: ')} was planned and never attached"
    return "a plan was attached, and its hooks are gone" if mark else ""


def _by_decay(
    members: Iterable[tuple[str, Any, Decay | None]],
) -> list[tuple[Decay | None, list[tuple[str, Any, Decay | None]]]]:
    found: list[tuple[Decay | None, list[tuple[str, Any, Decay | None]]]] = []
    for member in members:
        for decay, alike in found:
            if decay is member[2] or decay == member[2]:
                alike.append(member)
                break
        else:
            found.append((member[2], [member]))
    return found


def _with_params(pulled: Pulled, members: Sequence[tuple[str, Any, Any]]) -> Pulled:
    params = [param for _, param, _ in members]
    return replace(
        pulled,
        names=tuple(str(name) for name, _, _ in members),
        sizes=tuple(0 if is_lazy(param) else param.numel() for param in params),
        dtypes=tuple(dict.fromkeys(str(param.dtype).removeprefix("torch.") for param in params)),
    )


def _peak(
    decay: Decay | None, values: Mapping[str, Any], index: int, handle: Handle | None, scheduler: Any
) -> float | None:
    if decay is None or not (decay.scale.needs_max_lr or decay.schedule.needs_lr):
        return None
    return peak_of(decay, values, index, scheduler) if handle is None else handle.max_lr(index, decay)


def _spoken(decay: Decay | None) -> str:
    return "none" if decay is None else repr(decay)
