"""WD3xx: how hard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import torch

from torchdecay.observe.audit.case import Case, Group, Member
from torchdecay.observe.audit.check import Hit, check
from torchdecay.observe.groups import as_number, decay_of
from torchdecay.observe.pulls import Pulled
from torchdecay.plans.decay import Site

_HUGE = 0.01 * (1 + 1e-9)
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
    for group, pulled, members in case.pulls:
        taken, settled = _now(group, pulled), pulled.fraction(group.lr or 0.0) or 0.0
        if taken < 1 and settled > _HUGE:
            what = f"{pulled.means} at lr {group.lr:g} removes {settled:.3g} of each weight per step"
            yield Hit(group.where, what, _names(members))


@check("WD303")
def flips(case: Case) -> Iterator[Hit]:
    """Groups that remove a whole weight or more per step, now or at the peak of their schedule."""
    for group, pulled, members in case.pulls:
        if pulled.is_free:
            # A Decay refuses a fraction above 1, and who writes per_step(1) means it.
            continue
        taken, when = max([(_now(group, pulled), "now"), *_peak_of_run(case, group, pulled)])
        if taken >= 1:
            what = f"{pulled.means} removes {taken:.3g} of each weight per step, {when}"
            yield Hit(group.where, what, _names(members))


@check("WD304")
def rounded_away(case: Case) -> Iterator[Hit]:
    """Native decay on bf16 or fp16 weights, too small for one step to show."""
    for group, pulled, members in case.pulls:
        if pulled.site is not Site.BEFORE:
            continue
        taken = _largest(case, group, pulled)
        if not taken or pulled.hooked:
            continue
        for member in members:
            if member.param.dtype not in (torch.bfloat16, torch.float16):
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
    for group, pulled, members in case.pulls:
        scale = _timescale(case, group, pulled)
        if scale is not None and per_epoch is not None and scale < per_epoch:
            what = f"{pulled.means}: time scale {scale:,.0f} steps, an epoch has {per_epoch:,}"
            yield Hit(group.where, what, _names(members))


@check("WD306", needs="run")
def idle(case: Case) -> Iterator[Hit]:
    """Groups whose decay is too weak to act within the run."""
    assert case.run is not None
    for group, pulled, members in case.pulls:
        scale = _timescale(case, group, pulled)
        if scale is not None and scale > case.run.num_steps:
            what = f"{pulled.means}: time scale {scale:,.0f} steps, the run has {case.run.num_steps:,}"
            yield Hit(group.where, what, _names(members))


@check("WD307")
def above_peak(case: Case) -> Iterator[Hit]:
    """Groups whose learning rate is above the peak that their decay is scaled by."""
    for group, pulled, members in case.pulls:
        highest = max([group.lr or 0.0, *(case.curve(group) or ())])
        if group.handle is not None and pulled.peak is not None and highest > pulled.peak * (1 + 1e-12):
            yield Hit(
                group.where, f"lr reaches {highest:g}, max_lr={pulled.peak:g} for {pulled.means}", _names(members)
            )


def _names(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(member.name for member in members)


def _now(group: Group, pulled: Pulled) -> float:
    return pulled.taken(group.lr or 0.0) or 0.0


def _over_run(case: Case, group: Group, pulled: Pulled) -> Iterator[tuple[float, int, int]]:
    """(part taken, step, how many such steps) over the run; steps alike are counted, not repeated."""
    curve = case.curve(group) or []
    if pulled.is_constant:
        first = {lr: step for step, lr in reversed(list(enumerate(curve)))}
        steps: Iterable[tuple[int, float, int]] = ((first[lr], lr, count) for lr, count in Counter(curve).items())
    else:
        steps = ((step, lr, 1) for step, lr in enumerate(curve))
    for step, lr, count in steps:
        taken = pulled.taken(lr, step)
        if taken is not None:
            yield taken, step, count


def _peak_of_run(case: Case, group: Group, pulled: Pulled) -> list[tuple[float, str]]:
    largest = max(((taken, -step) for taken, step, _ in _over_run(case, group, pulled)), default=None)
    return [] if largest is None else [(largest[0], f"at step {-largest[1]:,} of the run")]


def _largest(case: Case, group: Group, pulled: Pulled) -> float:
    """The most that a step takes: over the run, or at the highest learning rate that the group tells of."""
    over = [taken for taken, _, _ in _over_run(case, group, pulled)]
    rates = [as_number(group.values.get(key)) or 0.0 for key in ("lr", "initial_lr", "max_lr")]
    return max([*over, *(pulled.taken(lr) or 0.0 for lr in rates)])


def _timescale(case: Case, group: Group, pulled: Pulled) -> float | None:
    """1/(mean fraction per step) over the run, in steps."""
    taken = [(one * count, count) for one, _, count in _over_run(case, group, pulled)]
    total, count = sum(one for one, _ in taken), sum(count for _, count in taken)
    return count / (total * (pulled.settled or 1.0)) if total > 0 else None
