"""The learning rate of every step of a run, by running a copy of the real scheduler."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from torchdecay.errors import UnitError
from torchdecay.observe.groups import as_number, float_of
from torchdecay.observe.run import Run, named
from torchdecay.text import describe_error

_ALL, _PART = 250_000, 100_000
"""A curve tells of all steps up to so many; of more it tells of so many, each standing for those around it."""
_LONGEST = 10_000_000
"""Steps that a copy of a torch scheduler is run for, at most."""


def lr_curve(run: Run, groups: Sequence[Mapping[str, Any]]) -> list[list[float]] | None:
    """For each parameter group the learning rate at each step of the run, from the first; see `group_curves`."""
    found = group_curves(run, groups, ("lr",))
    return None if found is None else [curves["lr"] for curves in found]


def group_curves(
    run: Run, groups: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[dict[str, list[Any]]] | None:
    """For each parameter group the learning rate, and what else a scheduler may move, at each step of the run.

    Args:
        run: the run, with its schedule.
        groups: parameter groups; their `lr` is where the schedule starts, or `run.lr` where they have none.
        keys: "lr", and others, such as "betas"; a group that lacks one has no curve of it.

    Returns:
        Per group and key one number per step that is `told`, or a tuple of them; None where nobody can know:
        ReduceLROnPlateau follows a metric. A scheduler that is under way tells only what is left, at least one step.

    Raises:
        UnitError: no usable learning rate anywhere, or a scheduler that ends before the run does.
    """
    schedule = run.lr_schedule
    if isinstance(schedule, ReduceLROnPlateau):
        return None
    if _can_be_run(schedule):
        return _simulated(schedule, run, keys)
    told_alone = hasattr(schedule, "_get_lr")
    rates = (
        _told_alone(run, groups)
        if told_alone
        else _multiplied(run, [_start(run, group, index) for index, group in enumerate(groups)])
    )
    fixed = [{key: _plain(group[key]) for key in keys if key != "lr" and key in group} for group in groups]
    return [
        {"lr": curve} | {key: [value] * len(curve) for key, value in others.items() if value is not None}
        for curve, others in zip(rates, fixed, strict=True)
    ]


def _can_be_run(schedule: Any) -> bool:
    """Whether it is a scheduler that goes from step to step: torch's, or one that does as they do, as DeepSpeed's."""
    steps = callable(getattr(schedule, "step", None)) and callable(getattr(schedule, "get_last_lr", None))
    own = getattr(getattr(schedule, "optimizer", None), "param_groups", None)
    return isinstance(schedule, LRScheduler) or (steps and own is not None and not callable(schedule))


def _told_alone(run: Run, groups: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """What timm's schedulers say of each step, times the scale that they give to each group."""
    every = _every(run)
    said = [run.lr_schedule._get_lr(step // every) for step in told(run)]
    curves = []
    for index, group in enumerate(groups):
        rates = [float_of(each[min(index, len(each) - 1)]) for each in said]
        scale = as_number(group.get("lr_scale", 1.0))
        if None in rates or scale is None:
            raise UnitError(
                f"{type(run.lr_schedule).__name__} says {said[0]!r} for group {index}, which is no learning rate.",
                fix='Give a function from the step to a multiplier, or a name such as "cosine".',
            )
        curves.append([rate * scale for rate in rates if rate is not None])
    return curves


def _multiplied(run: Run, starts: Sequence[float]) -> list[list[float]]:
    """Each start times what the schedule says, step by step."""
    schedule = run.lr_schedule
    steps, every = told(run), _every(run) if schedule is not None else 1
    if schedule is None:
        factors = [1.0] * len(steps)
    elif isinstance(schedule, str):
        factors = list(map(named(schedule, run.num_steps, run.warmup_steps, every), steps))
    else:
        by_call = {call: _multiplier(schedule, call) for call in dict.fromkeys(step // every for step in steps)}
        factors = [by_call[step // every] for step in steps]
    return [[lr * factor for factor in factors] for lr in starts]


def told(run: Run) -> Sequence[int]:
    """The steps that a curve tells of: all that are left of the run; of very many a part, evenly taken."""
    left = steps_left(run)
    first = run.num_steps - left
    count = points(left)
    return (
        range(first, run.num_steps)
        if count == left
        else [first + (2 * place + 1) * left // (2 * count) for place in range(count)]
    )


def points(num_steps: int) -> int:
    """How many steps a curve tells of, of so many."""
    return num_steps if num_steps <= _ALL else _PART


def steps_left(run: Run) -> int:
    """How many steps of the run are to come, by its scheduler: at least one."""
    schedule = run.lr_schedule
    taken = _taken(schedule) * _every(run) if _can_be_run(schedule) else 0
    return max(1, run.num_steps - taken)


def _every(run: Run) -> int:
    """How many optimizer steps lie between two steps of the schedule."""
    every = 1 if run.scheduler_interval == "step" else run.steps_per_epoch
    if every is None:
        raise UnitError(
            'scheduler_interval is "epoch", but the run does not say how many steps an epoch has.',
            fix="Give batch_size and num_samples, or steps and epochs.",
        )
    return every


def light_copy(scheduler: LRScheduler) -> tuple[LRScheduler, Optimizer]:
    """A scheduler like this one, on an optimizer with the same groups but parameters of one element.

    Copying a scheduler as it is copies its optimizer, state and model along.
    """
    real = scheduler.optimizer
    groups = [
        # Schedulers fill a learning rate that is a tensor in place.
        {
            key: value.detach().clone() if isinstance(value, torch.Tensor) else value
            for key, value in group.items()
            if key not in ("params", "param_names")
        }
        | {"params": [nn.Parameter(torch.zeros(1))]}
        for group in real.param_groups
    ]
    light = torch.optim.SGD([{"params": group["params"]} for group in groups], lr=1.0)
    for mine, theirs in zip(light.param_groups, groups, strict=True):
        mine.clear()
        mine.update(theirs)
    # A scheduler holds the optimizer's step, which it wraps, so that too must lead to the light one.
    copied = copy.deepcopy(scheduler, {id(real): light, id(getattr(real, "step", None)): light.step})
    return copied, light


def _simulated(scheduler: LRScheduler, run: Run, keys: Sequence[str]) -> list[dict[str, list[Any]]]:
    every = _every(run)
    if steps_left(run) > _LONGEST:
        raise UnitError(
            f"{type(scheduler).__name__} would have to be run for {steps_left(run):,} steps.",
            "A torch scheduler tells its learning rates one after the other, and that takes hours.",
            'Give a function from the step to a multiplier, or a name such as "cosine".',
        )
    copied, light = light_copy(scheduler)
    for index, group in enumerate(light.param_groups):
        _start(run, group, index)
    curves: list[dict[str, list[Any]]] = [{key: [] for key in keys if key in group} for group in light.param_groups]
    with warnings.catch_warnings():
        # The light optimizer takes no step, and torch warns of schedulers that run ahead.
        warnings.simplefilter("ignore")
        steps = told(run)
        kept = set(steps) if len(steps) < steps_left(run) else None
        for step in range(run.num_steps - steps_left(run), run.num_steps):
            if kept is None or step in kept:
                for found, group in zip(curves, light.param_groups, strict=True):
                    for key, curve in found.items():
                        curve.append(_plain(group[key]))
            if (step + 1) % every == 0 and step + 1 < run.num_steps:
                try:
                    copied.step()
                except ValueError as error:
                    raise UnitError(
                        f"the scheduler {type(scheduler).__name__} ends at step {step + 1}, the run has "
                        f"{run.num_steps}: {error}",
                        "A schedule shorter than the run says nothing about the rest of it.",
                        "Give the scheduler the run's number of steps, or correct the run.",
                    ) from error
    return curves


def _plain(value: Any) -> Any:
    """A number or several, without tensors; None for anything else."""
    if not isinstance(value, (tuple, list)):
        return float_of(value)
    numbers = tuple(map(float_of, value))
    return None if None in numbers else numbers


def _taken(scheduler: LRScheduler) -> int:
    """How often the scheduler has stepped; a ChainedScheduler does not count, those that it chains do."""
    if hasattr(scheduler, "last_epoch"):
        return max(0, scheduler.last_epoch)
    if hasattr(scheduler, "last_batch_iteration"):
        # DeepSpeed's count from -1, at which no step was taken.
        return max(0, int(scheduler.last_batch_iteration) + 1)
    return max(map(_taken, getattr(scheduler, "_schedulers", ())), default=0)


def _start(run: Run, group: Mapping[str, Any], index: int) -> float:
    lr = group.get("lr")
    lr = run.lr if lr is None else lr
    if lr is None:
        raise UnitError(f"group {index} has no learning rate, and neither has the run.", fix="Write td.Run(lr=...).")
    number = float_of(lr)
    if number is None:
        raise UnitError(f"group {index} has lr={lr!r}, which is no number.", fix="Correct the group.")
    return number


def _multiplier(schedule: Any, step: int) -> float:
    if not callable(schedule):
        raise UnitError(
            f"what the scheduler {type(schedule).__name__} will do can't be told.",
            "It is no torch scheduler, of which a copy can be run, and no function.",
            'Give a function from the step to a multiplier, or a name such as "cosine".',
        )
    try:
        said = schedule(step)
    except Exception as error:
        raise UnitError(
            f"lr_schedule({step}) raised {describe_error(error)}.",
            fix="Give a function from the number of a step, from 0, to a multiplier of the learning rate.",
        ) from error
    value = as_number(said)
    if value is None or value < 0:
        raise UnitError(f"lr_schedule returned {said!r} at step {step}.", fix="Return a finite number, at least 0.")
    return value
