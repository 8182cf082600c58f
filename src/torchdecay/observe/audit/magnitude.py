"""WD3xx: how hard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import torch

from torchdecay.observe.audit.case import Case, Group, Member, as_number
from torchdecay.observe.audit.check import Hit, check
from torchdecay.observe.pulls import decay_of
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.schedules import Constant

_HUGE = 0.01
"""A fraction per step above this leaves a weight less than half of itself after 70 steps."""


@check("WD301")
def unusable(case: Case) -> Iterator[Hit]:
    """weight_decay that is negative, NaN, infinite, a string or the like."""
    for group in case.groups:
        name, value = decay_of(group.optimizer, group.values)
        if not name:
            continue
        number = as_number(value)
        if number is None:
            yield Hit(group.where, f"{name}={value!r} of type {type(value).__name__}")
        elif number < 0:
            yield Hit(group.where, f"{name}={number:g} makes weights grow")


@check("WD302")
def huge(case: Case) -> Iterator[Hit]:
    """Groups that lose more than a hundredth of each weight per step."""
    for group, decay, members in case.pulls():
        taken = group.fraction(decay, group.lr or 0.0)
        settled = (taken or 0.0) * group.settled(decay)
        if taken is not None and taken < 1 and settled > _HUGE:
            what = f"{decay!r} at lr {group.lr:g} removes {settled:.3g} of each weight per step"
            yield Hit(group.where, what, _names(members))


@check("WD303")
def flips(case: Case) -> Iterator[Hit]:
    """Groups that remove a whole weight or more per step, now or at the peak of their schedule."""
    for group, decay, members in case.pulls():
        if decay.scale is Scale.ONE and decay.site in (Site.BEFORE, Site.AFTER):
            # A Decay refuses a fraction above 1, and who writes per_step(1) means it.
            continue
        taken, when = max([(_now(group, decay), "now"), *_peak_of_run(case, group, decay)])
        if taken >= 1:
            what = f"{decay!r} removes {taken:.3g} of each weight per step, {when}"
            yield Hit(group.where, what, _names(members))


@check("WD304")
def rounded_away(case: Case) -> Iterator[Hit]:
    """Native decay on bf16 or fp16 weights, too small for one step to show."""
    for group, decay, members in case.pulls():
        if decay.site is not Site.BEFORE:
            continue
        taken = _largest(case, group, decay)
        if not taken:
            continue
        hooked = _hooked(group)
        for member in members:
            if member.param.dtype not in (torch.bfloat16, torch.float16) or member.name in hooked:
                continue
            # Half the distance to the next number below 1, the shortest relative step that the dtype has.
            visible = torch.finfo(member.param.dtype).eps / 4
            if taken < visible:
                dtype = str(member.param.dtype).removeprefix("torch.")
                what = f"{taken:.2g} of each weight per step, and {dtype} shows no less than {visible:.2g}"
                yield Hit(group.where, what, (member.name,))


@check("WD305", needs="run")
def hasty(case: Case) -> Iterator[Hit]:
    """Groups whose weights forget faster than the data comes round."""
    assert case.run is not None
    per_epoch = case.run.steps_per_epoch
    for group, decay, members in case.pulls():
        scale = _timescale(case, group, decay)
        if scale is not None and per_epoch is not None and scale < per_epoch:
            what = f"{decay!r}: time scale {scale:,.0f} steps, an epoch has {per_epoch:,}"
            yield Hit(group.where, what, _names(members))


@check("WD306", needs="run")
def idle(case: Case) -> Iterator[Hit]:
    """Groups whose decay is too weak to act within the run."""
    assert case.run is not None
    for group, decay, members in case.pulls():
        scale = _timescale(case, group, decay)
        if scale is not None and scale > case.run.num_steps:
            what = f"{decay!r}: time scale {scale:,.0f} steps, the run has {case.run.num_steps:,}"
            yield Hit(group.where, what, _names(members))


@check("WD307")
def above_peak(case: Case) -> Iterator[Hit]:
    """Groups whose learning rate is above the peak that their decay is scaled by."""
    for group, decay, members in case.pulls():
        if group.handle is None or not (decay.scale.needs_max_lr or decay.schedule.needs_lr):
            continue
        peak = group.peak(decay)
        highest = max([group.lr or 0.0, *(case.curve(group) or ())])
        if peak is not None and highest > peak * (1 + 1e-12):
            yield Hit(group.where, f"lr reaches {highest:g}, max_lr={peak:g} for {decay!r}", _names(members))


def _names(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(member.name for member in members)


def _now(group: Group, decay: Decay) -> float:
    return group.fraction(decay, group.lr or 0.0) or 0.0


def _over_run(case: Case, group: Group, decay: Decay) -> Iterator[tuple[float, int, int]]:
    """(fraction, step, how many such steps) over the run; steps alike are counted, not repeated."""
    curve = case.curve(group) or []
    if decay.schedule == Constant():
        first = {lr: step for step, lr in reversed(list(enumerate(curve)))}
        steps: Iterable[tuple[int, float, int]] = ((first[lr], lr, count) for lr, count in Counter(curve).items())
    else:
        steps = ((step, lr, 1) for step, lr in enumerate(curve))
    for step, lr, count in steps:
        taken = group.fraction(decay, lr, step)
        if taken is not None:
            yield taken, step, count


def _peak_of_run(case: Case, group: Group, decay: Decay) -> list[tuple[float, str]]:
    largest = max(((taken, -step) for taken, step, _ in _over_run(case, group, decay)), default=None)
    return [] if largest is None else [(largest[0], f"at step {-largest[1]:,} of the run")]


def _largest(case: Case, group: Group, decay: Decay) -> float:
    """The most that a step takes: over the run, or at the highest learning rate that the group tells of."""
    over = [taken for taken, _, _ in _over_run(case, group, decay)]
    rates = [as_number(group.values.get(key)) or 0.0 for key in ("lr", "initial_lr", "max_lr")]
    return max([*over, *(group.fraction(decay, lr) or 0.0 for lr in rates)])


def _timescale(case: Case, group: Group, decay: Decay) -> float | None:
    """1/(mean fraction per step) over the run, in steps."""
    taken = [(one * count, count) for one, _, count in _over_run(case, group, decay)]
    total, count = sum(one for one, _ in taken), sum(count for _, count in taken)
    return count / (total * group.settled(decay)) if total > 0 else None


def _hooked(group: Group) -> set[str]:
    """Who decays by hook, which pays what rounds away with stochastic rounding."""
    if group.handle is None:
        return set()
    return {name for _, name, _ in group.handle.lowering.groups[group.index].hooked}
