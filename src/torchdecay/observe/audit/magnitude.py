"""WD3xx: how hard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import torch

from torchdecay.observe.audit.case import Case, Hit, Member
from torchdecay.observe.audit.check import check
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
    for pulled, members in case.pulls.items():
        lr = _rate(pulled)
        taken, settled = pulled.taken(lr) or 0.0, pulled.fraction(lr) or 0.0
        if taken < 1 and settled > _HUGE:
            yield from _all(members, f"{pulled.means} at lr {lr:g} removes {settled:.3g} of each weight per step")


@check("WD303")
def flips(case: Case) -> Iterator[Hit]:
    """Groups that remove a whole weight or more per step, now or at the peak of their schedule."""
    for pulled, members in case.pulls.items():
        if pulled.is_free:
            # A Decay refuses a fraction above 1, and who writes per_step(1) means it.
            continue
        taken, when = pulled.taken(_rate(pulled)) or 0.0, "now"
        peak, step = max(((one, -step) for one, step, _ in _over_run(case, pulled)), default=(0.0, 0))
        if peak > taken:
            taken, when = peak, f"at step {-step:,} of the run"
        if taken >= 1:
            yield from _all(members, f"{pulled.means} removes {taken:.3g} of each weight per step, {when}")


@check("WD304")
def rounded_away(case: Case) -> Iterator[Hit]:
    """Native decay on bf16 or fp16 weights, too small for one step to show."""
    for pulled, members in case.pulls.items():
        if pulled.site is not Site.BEFORE or pulled.hooked:
            continue
        # The most that a step takes: over the run, or at the highest learning rate that the group tells of.
        rates = [as_number(pulled.values.get(key)) or 0.0 for key in ("lr", "initial_lr", "max_lr")]
        taken = max([*(one for one, *_ in _over_run(case, pulled)), *(pulled.taken(lr) or 0.0 for lr in rates)])
        for member in members:
            dtype = member.param.dtype
            if not taken or dtype not in (torch.bfloat16, torch.float16):
                continue
            # Half the distance to the next number below 1, the shortest relative step that the dtype has.
            visible = torch.finfo(dtype).eps / 4
            if taken < visible:
                spelled = str(dtype).removeprefix("torch.")
                yield member.hit(f"{taken:.2g} of each weight per step, and {spelled} shows no less than {visible:.2g}")


@check("WD305", needs="run")
def hasty(case: Case) -> Iterator[Hit]:
    """Groups whose weights forget faster than the data comes round."""
    assert case.run is not None
    per_epoch = case.run.steps_per_epoch
    for pulled, members in case.pulls.items():
        scale = _timescale(case, pulled)
        if scale is not None and per_epoch is not None and scale < per_epoch:
            yield from _all(members, f"{pulled.means}: time scale {scale:,.0f} steps, an epoch has {per_epoch:,}")


@check("WD306", needs="run")
def idle(case: Case) -> Iterator[Hit]:
    """Groups whose decay is too weak to act within the run."""
    assert case.run is not None
    for pulled, members in case.pulls.items():
        scale = _timescale(case, pulled)
        if scale is not None and scale > case.run.num_steps:
            what = f"{pulled.means}: time scale {scale:,.0f} steps, the run has {case.run.num_steps:,}"
            yield from _all(members, what)


@check("WD307")
def above_peak(case: Case) -> Iterator[Hit]:
    """Groups whose learning rate is above the peak that their decay is scaled by."""
    for pulled, members in case.pulls.items():
        highest = max([_rate(pulled), *(case.curve(pulled.optimizer, pulled.index) or ())])
        if pulled.wiring == "attached" and pulled.peak is not None and highest > pulled.peak * (1 + 1e-12):
            yield from _all(members, f"lr reaches {highest:g}, max_lr={pulled.peak:g} for {pulled.means}")


def _all(members: Iterable[Member], what: str) -> Iterator[Hit]:
    return (member.hit(what) for member in members)


def _rate(pulled: Pulled) -> float:
    return as_number(pulled.values.get("lr")) or 0.0


def _over_run(case: Case, pulled: Pulled) -> Iterator[tuple[float, int, int]]:
    """(part taken, step, how many such steps) over the run; steps alike are counted, not repeated."""
    curve = case.curve(pulled.optimizer, pulled.index) or []
    if pulled.is_constant:
        first = {lr: step for step, lr in reversed(list(enumerate(curve)))}
        steps: Iterable[tuple[int, float, int]] = ((first[lr], lr, count) for lr, count in Counter(curve).items())
    else:
        steps = ((step, lr, 1) for step, lr in enumerate(curve))
    for step, lr, count in steps:
        taken = pulled.taken(lr, step)
        if taken is not None:
            yield taken, step, count


def _timescale(case: Case, pulled: Pulled) -> float | None:
    """1/(mean fraction per step) over the run, in steps."""
    taken = [(one * count, count) for one, _, count in _over_run(case, pulled)]
    total, count = sum(one for one, _ in taken), sum(count for _, count in taken)
    return count / (total * (pulled.settled or 1.0)) if total > 0 else None
