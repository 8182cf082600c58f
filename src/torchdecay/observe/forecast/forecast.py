"""`forecast`: what decay will do in a run, before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from torchdecay.apply.handle import handle_of
from torchdecay.apply.lowering import lower
from torchdecay.errors import ApplyError, UnitError
from torchdecay.observe.forecast.course import KEYS, Course, course_of, is_under_way, moved_decay
from torchdecay.observe.forecast.equilibrium import Equilibrium, equilibrium
from torchdecay.observe.forecast.predictability import predict, rounded
from torchdecay.observe.forecast.remarks import Remark, remarks_on
from torchdecay.observe.forecast.result import Curve, Forecast, GroupForecast
from torchdecay.observe.forecast.stand_in import rows_alike, stand_in
from torchdecay.observe.fractions import half_life, timescale
from torchdecay.observe.groups import as_number, name_all, optimizers_of
from torchdecay.observe.lr_curve import group_curves, steps_left
from torchdecay.observe.pulls import Pulled, pulls_of
from torchdecay.observe.run import Run
from torchdecay.observe.verify.pulled import as_measured
from torchdecay.observe.verify.result import Verification
from torchdecay.optimizers.peaks import peak_of
from torchdecay.plans.decay import Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.rows import Row
from torchdecay.plans.tree import ModelLike, names_of, one_model
from torchdecay.text import dtype_name, listed

_POINTS = 256
Curves = Mapping[str, Sequence[Any]]


def forecast(
    plan_or_optimizer: Any,
    *,
    run: Run,
    optimizer: Any = None,
    model: ModelLike = None,
    verified: Verification | None = None,
) -> Forecast:
    r"""Say what decay will do in a run: how much per step, how fast, how much in all, and where weights come to rest.

    $$w_T = w_0 \prod_{t=0}^{T-1}(1 - c_t\lambda_t), \qquad
    \text{half-life} = \frac{\ln 2}{-\ln(1 - f)}, \qquad \tau = \frac1f$$

    for a weight w without gradient, the factor c_t of the decay's scale (the learning rate η_t for decoupled decay),
    the coefficient λ_t with its schedule, and f the mean of c_t·λ_t. Learning rates come from the real scheduler: a
    copy of it is run on an optimizer with parameters of one element. Coupled decay under SGD goes through the
    momentum buffer as it does there. What can't be told beforehand is `unknown` and has no numbers: coupled decay in
    adaptive optimizers, controllers, ReduceLROnPlateau.

    `torchdecay.inspect` reads the learning rate of the moment and `torchdecay.verify` measures one step; this is about
    the whole run. Both agree with it step by step.

    Args:
        plan_or_optimizer: a `Plan`; or an optimizer with a plan attached or its own weight_decay, or several.
        run: how long, and how the learning rate moves. A scheduler that is under way tells what is left.
        optimizer: for a plan: what it will be carried out on; or its class, `torch.optim.AdamW`, which is then built
            with `run.lr` on parameters without memory. Without it, `run.lr` is needed, and what depends on the
            optimizer is unknown. The scheduler's own optimizer is taken by itself.
        model: for names, where the optimizer's groups have no `param_names`; several models in a list or dict.
        verified: what `td.verify` found of the same optimizers: of classes that nobody knows it is what is forecast.

    Returns:
        A `Forecast`, one `GroupForecast` per group and decay.

    Raises:
        UnitError: no learning rate, one that is 0 or negative, a schedule that ends before the run, or a scheduler of
            another optimizer.
        ApplyError: plan and optimizer do not fit.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
        >>> run = td.Run(epochs=10, batch_size=100, num_samples=50_000, lr_schedule="cosine")
        >>> group = td.forecast(optimizer, run=run).of("weight")
        >>> f"{group.timescale:.0f} steps, {group.timescale_epochs:.1f} epochs, {group.total_shrink:.3f} gone"
        '2000 steps, 4.0 epochs, 0.918 gone'

    Reference: How to set AdamW's weight decay as you scale model and dataset size, arXiv 2405.13698; Rotational
    Equilibrium: How Weight Decay Balances Learning Across Neural Networks, arXiv 2305.17212.
    """
    if not isinstance(run, Run):
        raise UnitError(f"run is a {type(run).__name__}.", fix="Write run=td.Run(steps=10_000).")
    scheduler = run.lr_schedule if isinstance(run.lr_schedule, (LRScheduler, ReduceLROnPlateau)) else None
    if isinstance(plan_or_optimizer, Plan) and callable(optimizer):
        optimizer = stand_in(plan_or_optimizer, optimizer, run.lr)
    plan, optimizers = _sides(plan_or_optimizer, optimizer, scheduler)
    curves: list[Curves | None]
    if not optimizers:
        assert plan is not None
        alike = [_of_rows(rows, index, run.lr) for index, rows in enumerate(rows_alike(plan))]
        pulls = [one.pulled for one in alike]
        free = run.lr is None and run.lr_schedule is None and all(course_of(one, None, 1) for one in pulls)
        found = None if free else group_curves(run, [one.values for one in pulls], KEYS)
        curves = [None] * len(pulls) if found is None else [*found]
    else:
        _require_own(scheduler, optimizers)
        _require_same_lr(run, optimizers)
        alike, curves, models = [], [], one_model(model)
        for number, one in enumerate(optimizers):
            own, moving = _of_optimizer(one, number, plan, models, scheduler, verified), _curves(run, scheduler, one)
            alike += own
            curves += [None if moving is None else moving[entry.pulled.index] for entry in own]
        _require_covered(plan, alike)
    return Forecast(
        groups=tuple(_group(one, curve, run) for one, curve in zip(alike, curves, strict=True)),
        num_steps=run.num_steps,
        steps_per_epoch=run.steps_per_epoch,
        schedule=_schedule(run),
    )


@dataclass(frozen=True)
class _Alike:
    """Parameters of one group that one decay pulls."""

    number: int
    pulled: Pulled
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[str, ...]


def _of_rows(rows: Sequence[Row], index: int, lr: float | None) -> _Alike:
    """Rows of a plan by itself with the same decay and options."""
    decay, values = rows[0].decay, ({} if lr is None else {"lr": lr}) | dict(rows[0].options)
    needs_peak = decay is not None and (decay.scale.needs_max_lr or decay.schedule.needs_lr) and "lr" in values
    pulled = Pulled(
        optimizer=None,
        index=index,
        values=values,
        decay=decay,
        spoken="" if decay is None else repr(decay),
        # As attach does it: by hook, except for what only the optimizer can do.
        hooked=decay is not None and decay.site in (Site.BEFORE, Site.AFTER),
        peak=peak_of(decay, values, index) if decay is not None and needs_peak else None,
    )
    names, sizes = tuple(row.name for row in rows), tuple(row.num_elements for row in rows)
    return _Alike(0, pulled, names, sizes, tuple(dict.fromkeys(row.dtype for row in rows)))


def _of_optimizer(
    optimizer: Any,
    number: int,
    plan: Plan | None,
    model: nn.Module | None,
    scheduler: Any,
    verified: Verification | None,
) -> list[_Alike]:
    """The trainable parameters of an optimizer, those together that one decay pulls."""
    handle = handle_of(optimizer)
    model = model if model is not None or handle is None else handle.model
    foreign = plan is not None and (handle is None or plan is not handle.plan)
    lowering = lower(plan, optimizer, model=model) if plan is not None and foreign else None
    names = name_all(optimizer, {} if model is None else names_of(model))
    pulls = pulls_of(optimizer, plan=plan, model=model, lowering=lowering, scheduler=scheduler)
    pulls = as_measured(pulls, names, verified, number)
    found: dict[Pulled, list[tuple[str, Tensor]]] = {}
    for group, own_names, own in zip(optimizer.param_groups, names, pulls, strict=True):
        for param, name, pulled in zip(group["params"], own_names, own, strict=True):
            if pulled.error is not None:
                raise pulled.error
            if param.requires_grad:
                found.setdefault(pulled, []).append((name, param))
    made = []
    for pulled, alike in found.items():
        dtypes = dict.fromkeys(dtype_name(param.dtype) for _, param in alike)
        sizes = (0 if is_lazy(param) else param.numel() for _, param in alike)
        made.append(_Alike(number, pulled, tuple(name for name, _ in alike), tuple(sizes), tuple(dtypes)))
    return made


def _require_covered(plan: Plan | None, alike: Sequence[_Alike]) -> None:
    covered = {name for one in alike for name in one.names}
    rows = () if plan is None else plan.rows
    lacking = [row.name for row in rows if row.decay is not None and covered.isdisjoint(row.names)]
    if lacking:
        raise ApplyError(
            f"plan and optimizer disagree: the plan decays {listed(lacking)}, which the optimizer does not have.",
            "What is in no optimizer is never trained.",
            "Give the optimizer that was built for this model, or all of them as a list.",
        )


def _sides(given: Any, optimizer: Any, scheduler: Any) -> tuple[Plan | None, list[Any]]:
    if isinstance(given, Plan):
        if optimizer is None:
            optimizer = getattr(scheduler, "optimizer", None)
        return given, [] if optimizer is None else optimizers_of(optimizer)
    if optimizer is not None:
        raise ApplyError(
            f"forecast got a {type(given).__name__} and an optimizer as well.",
            fix="Write td.forecast(optimizer, run=...), or td.forecast(plan, optimizer=optimizer, run=...).",
        )
    return None, optimizers_of(given)


def _require_own(scheduler: Any, optimizers: Sequence[Any]) -> None:
    if scheduler is not None and not any(_drives(scheduler, one) for one in optimizers):
        raise UnitError(
            f"the scheduler {type(scheduler).__name__} drives another optimizer.",
            "What it says has nothing to do with this one's learning rate.",
            "Give the scheduler that was built on this optimizer.",
        )


def _require_same_lr(run: Run, optimizers: Sequence[Any]) -> None:
    groups = [group for one in optimizers for group in one.param_groups]
    said = [group.get(key) for group in groups for key in ("lr", "initial_lr", "max_lr")]
    known = [number for lr in said if (number := as_number(lr)) is not None]
    # A learning rate in float32 is not that of the run to the last digit.
    if run.lr is not None and known and not any(abs(run.lr - lr) <= 1e-6 * run.lr for lr in known):
        raise UnitError(
            f"run and optimizer disagree: lr is {run.lr:g} in the run, {known[0]:g} in the optimizer.",
            fix="Leave lr out of the run: the optimizer has its own.",
        )


def _drives(scheduler: Any, optimizer: Any) -> bool:
    return getattr(getattr(scheduler, "optimizer", None), "param_groups", None) is optimizer.param_groups


def _curves(run: Run, scheduler: Any, optimizer: Any) -> list[dict[str, list[Any]]] | None:
    """The curves of each group; None where another optimizer's scheduler, or a metric, leaves them open."""
    if scheduler is not None and not _drives(scheduler, optimizer):
        return None
    groups = optimizer.param_groups
    if all(group.get("lr") is None for group in groups) and run.lr is None:
        return None
    return group_curves(run, groups, KEYS)


def _group(alike: _Alike, curves: Curves | None, run: Run) -> GroupForecast:
    pulled = alike.pulled
    prediction, why = predict(pulled)
    rates = None if curves is None else curves["lr"]
    if rates is not None:
        _require_usable(pulled, rates)
    num_steps = run.num_steps if rates is None else steps_left(run)
    course: Course | None = None
    moving = moved_decay(pulled, curves)
    if moving is not None and prediction != "unknown" and (pulled.source != "class" or not pulled.decay):
        prediction, why = "unknown", "the scheduler moves weight_decay as well"
    if moving is not None and any(as_number(one) is None for one in moving):
        prediction, why = "unknown", "the scheduler makes weight_decay something that is no number"
    if prediction != "unknown":
        course = course_of(pulled, curves, num_steps)
        if course is None:
            prediction, why = "unknown", _no_rate(run)
        elif (left := rounded(pulled, alike.dtypes, course)) is not None:
            prediction, why = left
        elif course.swings and is_under_way(pulled):
            prediction, why = "unknown", "momentum swings, and where in a swing it is now is not known"
    if prediction == "unknown":
        course = None
    remarks = remarks_on(pulled, alike.dtypes, course, rates, prediction, why, run.steps_per_epoch)
    mean = None if course is None else course.mean_fraction
    return GroupForecast(
        optimizer="" if pulled.optimizer is None else type(pulled.optimizer).__name__,
        optimizer_index=alike.number,
        index=pulled.index,
        names=alike.names,
        sizes=alike.sizes,
        dtypes=alike.dtypes,
        decay=pulled.spoken or "none",
        prediction=prediction,
        why=why,
        num_steps=num_steps,
        first_step=run.num_steps - num_steps,
        steps_per_epoch=run.steps_per_epoch,
        max_lr=None if rates is None else max(rates),
        fraction=mean,
        max_fraction=None if course is None else max(course.fractions),
        half_life=None if mean is None else half_life(mean),
        timescale=None if mean is None else timescale(mean),
        total_shrink=None if course is None else course.total_shrink,
        equilibrium=(rest := _at_rest(pulled, course, curves)),
        equilibrium_step=None if rest is None or course is None else _arrival(course),
        curve=None if course is None else _sampled(course, rates, num_steps, 1 if pulled.decay is None else _POINTS),
        remarks=(*remarks, *_rises(pulled, run)),
        _logs=None if course is None or course.stride > 1 else course.logs,
    )


def _require_usable(pulled: Pulled, rates: Sequence[float]) -> None:
    where = f"group {pulled.index}"
    if not min(rates) >= 0.0:
        raise UnitError(f"{where}: the learning rate is {min(rates):g}.", fix="Give one above 0.")
    if pulled.decay is not None and max(rates) == 0.0:
        raise UnitError(
            f"{where}: the learning rate is 0 over the whole run.",
            "No weight moves, whatever the decay.",
            "Give one above 0, and the scheduler as td.Run(lr_schedule=scheduler) where it begins at 0.",
        )


def _no_rate(run: Run) -> str:
    if isinstance(run.lr_schedule, ReduceLROnPlateau):
        return "ReduceLROnPlateau follows a metric that is not there yet"
    return "nobody knows this optimizer's learning rate"


def _rises(pulled: Pulled, run: Run) -> list[Remark]:
    """CosineAnnealingLR turns around where it was told that the run ends."""
    schedule = run.lr_schedule
    if pulled.decay is None or not isinstance(schedule, CosineAnnealingLR):
        return []
    every = 1 if run.scheduler_interval == "step" else run.steps_per_epoch or 1
    if schedule.T_max * every >= run.num_steps:
        return []
    text = f"CosineAnnealingLR(T_max={schedule.T_max}) is at its lowest at step {schedule.T_max * every:,} of "
    return [Remark("the schedule turns", text + f"{run.num_steps:,}, and rises again.")]


def _at_rest(pulled: Pulled, course: Course | None, curves: Curves | None) -> Equilibrium | None:
    if course is None or curves is None or pulled.optimizer is None:
        return None
    most = course.worst
    values = dict(pulled.values) | {key: curve[most] for key, curve in curves.items()}
    return equilibrium(pulled, values, lr=curves["lr"][most], pull=course.pulls[most])


def _arrival(course: Course) -> int | None:
    """When what was taken adds up to ½: at a constant pace, after 1/(2f) steps."""
    taken = accumulate(course.stride * fraction for fraction in course.fractions)
    found = next(((place, total) for place, total in enumerate(taken, start=1) if total >= 0.5), None)
    if found is None or course.stride == 1:
        return None if found is None else found[0]
    place, total = found
    return math.ceil(place * course.stride - (total - 0.5) / course.fractions[place - 1])


def _sampled(course: Course, rates: Sequence[float] | None, num_steps: int, points: int) -> Curve:
    last = len(course.logs) - 1
    places = sorted({round(i * last / points) for i in range(points + 1)})
    return Curve(
        steps=tuple(round(place * num_steps / last) for place in places),
        log_retention=tuple(course.logs[place] for place in places),
        lr=None if rates is None else tuple(rates[min(place, last - 1)] for place in places),
    )


def _schedule(run: Run) -> str:
    schedule = run.lr_schedule
    if schedule is None:
        return "constant"
    if isinstance(schedule, str):
        return f"{schedule}, after {run.warmup_steps:,} steps of warm-up" if run.warmup_steps else schedule
    if isinstance(schedule, (LRScheduler, ReduceLROnPlateau)):
        return type(schedule).__name__
    return f"by {getattr(schedule, '__qualname__', type(schedule).__name__)}"
