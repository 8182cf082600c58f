"""How a plan will be carried out on an optimizer: per row native, hook or loss; exact or rounded; and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.rounding import is_low
from torchdecay.apply.row_pulls import check_rows
from torchdecay.apply.runtimes import check_controller
from torchdecay.errors import ApplyError
from torchdecay.optimizers.cards import SWITCH, Native, has_trait, keeps_average, native_of, settled_factor
from torchdecay.optimizers.steps import is_matched, reads_update_sign
from torchdecay.plans.controllers import Cautious, LazyRows
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.schedules import Constant
from torchdecay.plans.tree import parameters_by_name
from torchdecay.text import listed, nearest

Via = Literal["auto", "hook"]
Route = Literal["native", "hook", "loss", "none"]


@dataclass(frozen=True, kw_only=True)
class LoweringRow:
    """How one parameter's decay is carried out.

    Attributes:
        name: the parameter.
        group: index of its parameter group.
        decay: its Decay, or None.
        route: "native" (the optimizer's own weight_decay), "hook" (our pass around the step), "loss"
            (`handle.penalty`), or "none".
        exact: whether the numbers are those of the Decay's equation to the last bit of the arithmetic in use.
        why: the reason for the route, and what is rounded or different when not exact.
    """

    name: str
    group: int
    decay: Decay | None
    route: Route
    exact: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class GroupLowering:
    """How one parameter group is carried out.

    Attributes:
        index: which group.
        native: the Decay that is written into the group, None when there is nothing to write but 0.
        switch: the value that `decoupled_weight_decay` must have, None where the optimizer has no such key.
        every_step: whether what is written changes from step to step.
        is_fraction: whether a step removes the fraction lr·weight_decay of each weight, for what is written.
        hooked: rows carried out by hook, as (parameter, name, Decay).
        loss: rows carried out by a penalty, as (parameter, name, Decay).
        replaces: the weight_decay that stood in the group.
    """

    index: int
    native: Decay | None
    switch: bool | None
    every_step: bool
    is_fraction: bool
    hooked: tuple[tuple[Tensor, str, Decay], ...] = field(repr=False)
    loss: tuple[tuple[Tensor, str, Decay], ...] = field(repr=False)
    replaces: Any = None


@dataclass(frozen=True)
class Lowering:
    """What `torchdecay.lower` found: one `LoweringRow` per parameter of the optimizer that the plan has.

    Attributes:
        rows: by parameter.
        groups: by parameter group.
    """

    rows: tuple[LoweringRow, ...]
    groups: tuple[GroupLowering, ...]

    def __getitem__(self, name: str) -> LoweringRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise ApplyError(f'the lowering has no parameter "{name}".', fix=nearest(name, [row.name for row in self.rows]))

    def __str__(self) -> str:
        alike: dict[tuple[Any, ...], list[str]] = {}
        for row in self.rows:
            alike.setdefault((row.group, row.decay, row.route, row.exact, row.why), []).append(row.name)
        return "\n".join(
            f"group {group}: {decay!r} by {route}, {'exact' if exact else 'not exact'}: {why}"
            f"  [{listed(names, most=3)}]"
            for (group, decay, route, exact, why), names in alike.items()
        )


def lower(plan: Plan, optimizer: Optimizer, *, model: nn.Module | None = None, via: Via = "auto") -> Lowering:
    """Say how each row of a plan will be carried out on this optimizer; changes nothing.

    Native where it is the same number: what is written is weight_decay = c_t·λ_t/η_t, and the optimizer's own, fused
    kernel does the work. Decoupled: λ, once. Independent: λ/η_max, once. Scheduled and per-step: one float per step.
    A group whose rows differ is never split: it runs by hook.

    Args:
        plan: the plan.
        optimizer: the optimizer.
        model: the model, needed when the optimizer's groups have no `param_names`.
        via: "hook" never uses the optimizer's own weight_decay.

    Raises:
        ApplyError: the optimizer can't carry a row out, or its parameters and the plan's do not fit.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> plan = td.plan(model, td.decoupled(0.1))
        >>> td.lower(plan, torch.optim.SGD(plan.param_groups(model), lr=0.1))["weight"].route
        'hook'
        >>> td.lower(plan, torch.optim.AdamW(plan.param_groups(model), lr=0.1))["weight"].route
        'native'
    """
    if via not in ("auto", "hook"):
        raise ApplyError(f"via is {via!r}.", fix='Write "auto" or "hook".')
    named = name_parameters(plan, optimizer, model)
    groups, rows = [], []
    for index, (group, members) in enumerate(zip(optimizer.param_groups, named, strict=True)):
        made, made_rows = _lower_group(optimizer, group, index, members, via)
        groups.append(made)
        rows += made_rows
    return Lowering(tuple(rows), tuple(groups))


def name_parameters(
    plan: Plan, optimizer: Optimizer, model: nn.Module | None
) -> list[list[tuple[Tensor, str, Decay | None]]]:
    """For each group, its trainable parameters with the name and the decay that the plan has for them.

    Raises:
        ApplyError: no names to go by, a parameter that the plan or the model lacks, or one that is there twice.
    """
    by_identity = None
    if model is not None:
        by_identity = {id(p): name for name, p in reversed(parameters_by_name(model).items())}
    made, seen = [], set()
    for index, group in enumerate(optimizer.param_groups):
        names = _names_of(group, index, by_identity)
        members = []
        for param, name in zip(group["params"], names, strict=True):
            if id(param) in seen:
                raise ApplyError(
                    f'group {index}: the parameter "{name}" is there twice.',
                    "torch only warns, and the weight would decay twice per step.",
                    "Give each parameter to the optimizer once; td.param_groups does.",
                )
            seen.add(id(param))
            if name in plan:
                members.append((param, name, plan[name].decay))
            elif param.requires_grad:
                raise ApplyError(
                    f'group {index}: the plan has no row for "{name}".',
                    "It was added since, was frozen when the plan was made, or belongs to another model.",
                    "Make the plan again from the model as it is now; on a running job: handle.update(plan). "
                    + nearest(name, (row.name for row in plan.rows)),
                )
        made.append(members)
    if not any(made):
        raise ApplyError("the optimizer has none of the plan's parameters.", fix="Plan the model that it trains.")
    return made


def _names_of(group: Mapping[str, Any], index: int, by_identity: Mapping[int, str] | None) -> Iterable[str]:
    if by_identity is not None:
        missing = [tuple(p.shape) for p in group["params"] if id(p) not in by_identity]
        if missing:
            raise ApplyError(
                f"group {index}: {len(missing)} parameters are not in the model; the first is of shape {missing[0]}.",
                "The model was re-created or wrapped (FSDP2 replaces parameters) after the optimizer was built; "
                "such an optimizer trains nothing.",
                "Build the optimizer from the model as it is now.",
            )
        return [by_identity[id(p)] for p in group["params"]]
    if "param_names" in group:
        names: list[str] = group["param_names"]
        return names
    raise ApplyError(
        f"group {index} has no param_names, so its parameters can't be found in the plan.",
        fix="Pass model=..., or build the optimizer from plan.param_groups(model).",
    )


def _lower_group(
    optimizer: Optimizer,
    group: Mapping[str, Any],
    index: int,
    members: list[tuple[Tensor, str, Decay | None]],
    via: Via,
) -> tuple[GroupLowering, list[LoweringRow]]:
    known = native_of(optimizer, group)
    decays = [decay for _, _, decay in members]
    uniform = all(decay == decays[0] for decay in decays)
    written: Decay | None = None
    switch: bool | None = None
    hooked, loss, rows = [], [], []
    for param, name, decay in members:
        route: Route = "none"
        exact, why = True, "spared"
        if decay is None:
            pass
        elif decay.site is Site.LOSS:
            route, why = "loss", "add handle.penalty(model) to the loss"
            loss.append((param, name, decay))
        elif has_trait(optimizer, "reevaluating"):
            raise ApplyError(
                f"{decay!r} can't run on {type(optimizer).__name__}.",
                "It evaluates the closure many times a step, and every evaluation must see the same function.",
                "Use td.penalized(wd) and add handle.penalty(model) to the loss inside the closure.",
            )
        else:
            check_controller(optimizer, group, decay)
            obstacle = _obstacle(optimizer, group, known, decay, uniform, via)
            if obstacle is None:
                route, written = "native", decay
                exact, why, switch = _native_terms(group, known, decay)
            else:
                route = "hook"
                by_hook = _by_hook(optimizer, group, index, known, decay)
                _check_averaging(optimizer, group, by_hook)
                check_rows(param, name, by_hook)
                hooked.append((param, name, by_hook))
                exact, why = _hook_terms(optimizer, group, param, by_hook, obstacle)
        rows.append(LoweringRow(name=name, group=index, decay=decay, route=route, exact=exact, why=why))
    every_step = written is not None and (
        written.schedule != Constant()
        or written.scale is Scale.LR_SQUARED
        or (written.scale is Scale.ONE and written.site is Site.BEFORE)
    )
    site = written.site if written is not None else None
    if site is Site.NATIVE and known is not None:
        site = known.site
    made = GroupLowering(
        index=index,
        native=written,
        switch=switch,
        every_step=every_step,
        is_fraction=site is Site.BEFORE or (site is Site.GRADIENT and settled_factor(optimizer, group) is not None),
        hooked=tuple(hooked),
        loss=tuple(loss),
        replaces=group.get("weight_decay"),
    )
    return made, rows


def _obstacle(
    optimizer: Optimizer,
    group: Mapping[str, Any],
    known: Native | None,
    decay: Decay,
    uniform: bool,
    via: Via,
) -> str | None:
    """Why this decay can't be the optimizer's own weight_decay here, or None when it can."""
    if not decay.is_plain_l2 or decay.proximal or decay.site is Site.AFTER:
        return "no torch optimizer does this natively"
    if via == "hook":
        return 'via="hook" was asked for'
    if not uniform:
        return "the group's rows differ, and groups are never split"
    if decay.site is Site.NATIVE:
        if "weight_decay" not in optimizer.defaults:
            raise ApplyError(
                f"{type(optimizer).__name__} has no weight_decay of its own, so {decay!r} means nothing there.",
                fix="Say td.decoupled(wd) or td.coupled(wd), and torchdecay.attach carries it out.",
            )
        return None
    if known is None:
        return f"what weight_decay means in {type(optimizer).__name__} is not known"
    if decay.site is Site.BEFORE and any(is_low(param) for param in group["params"]):
        return "low-precision weights: the optimizer's own decay would be rounded away"
    if decay.site is not known.site and known.switch != "chooses":
        means = "coupled" if known.site is Site.GRADIENT else "decoupled"
        return f"{type(optimizer).__name__}'s own weight_decay is {means}"
    return None


def _native_terms(group: Mapping[str, Any], known: Native | None, decay: Decay) -> tuple[bool, str, bool | None]:
    if decay.site is Site.NATIVE:
        return True, "the optimizer's own weight_decay, by definition", None
    assert known is not None
    # Written even where it stands there already: a checkpoint may bring another.
    switch = decay.site is Site.BEFORE if SWITCH in group else None
    why = "the optimizer's own weight_decay is the same number"
    if decay.scale is not Scale.LR and decay.site is Site.BEFORE:
        why = f"weight_decay = {decay.scale.value}·λ/η, rounded once in float64"
    if known.site is not decay.site:
        why += f", with {SWITCH}={switch}"
    if known.note:
        why += f"; {known.note}"
    same = decay.site is Site.GRADIENT or decay.scale is Scale.LR
    return same and known.exact, why, switch


def _by_hook(optimizer: Optimizer, group: Mapping[str, Any], index: int, known: Native | None, decay: Decay) -> Decay:
    """The decay as a hook carries it out: NATIVE becomes what native means on this optimizer."""
    if decay.site is not Site.NATIVE:
        return decay
    if known is None:
        raise ApplyError(
            f"group {index}: {decay!r} must run by hook here, but what weight_decay means in "
            f"{type(optimizer).__name__} is not known.",
            "A group whose rows differ can't use the optimizer's own weight_decay, and nothing is guessed.",
            "Say td.coupled(wd) or td.decoupled(wd), or build the optimizer from plan.param_groups(model).",
        )
    return known.resolve(decay)


def _check_averaging(optimizer: Optimizer, group: Mapping[str, Any], decay: Decay) -> None:
    """Refuse a pull on the parameters where the weights behind them would not be pulled."""
    if decay.site in (Site.BEFORE, Site.AFTER) and keeps_average(optimizer, group):
        raise ApplyError(
            f"{decay!r} can't run on {type(optimizer).__name__}.",
            "Its parameters are a mixture of hidden weights and their average, so that a pull on them would miss the "
            "hidden weights, and move the average far too much.",
            "Use its own decay, td.native(wd), or td.coupled(wd), which goes through the gradient.",
        )


def _hook_terms(
    optimizer: Optimizer, group: Mapping[str, Any], param: Tensor, decay: Decay, obstacle: str
) -> tuple[bool, str]:
    why = obstacle
    if decay.site is not Site.GRADIENT and is_low(param):
        why += "; what is too small for the dtype is owed, then applied with stochastic rounding"
    if isinstance(decay.gate, LazyRows):
        why += "; rows pay when they are touched, all of them at handle.flush()"
    if isinstance(decay.gate, Cautious):
        read = reads_update_sign(optimizer, group)
        why += "; u's sign is read from state and gradient" if read else "; u is measured against a copy of the weights"
    if not decay.regularizer.smooth and decay.proximal and not is_matched(optimizer, group, param):
        return False, (
            f"{why}; the threshold is not matched to {type(optimizer).__name__}, "
            "so training ends at another optimum than that of loss + penalty"
        )
    return not (decay.site is not Site.GRADIENT and is_low(param)), why
