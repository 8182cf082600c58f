"""WD3xx: how hard."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from torchdecay.apply.rounding import is_low
from torchdecay.findings.rule import Severity
from torchdecay.observe.audit.case import Case, Hit, Member, is_readable
from torchdecay.observe.audit.check import check
from torchdecay.observe.groups import as_number, decay_of
from torchdecay.observe.pulls import Pulled
from torchdecay.plans.decay import Site
from torchdecay.text import dtype_name, percent

_HUGE = 0.01
"""A fraction per step above this leaves a weight less than half of itself after 70 steps."""

_MUCH = 0.1
"""A run that takes more than this of a weight is no run without decay."""

_SAMPLED = 2**16
"""So many weights of a tensor tell how it rounds."""

_SURELY = 1 + 1e-9
"""Products of decimal fractions are off by their last digit: 0.1 times 0.1 is not more than 0.01."""


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
        taken, pace = pulled.taken(lr) or 0.0, pulled.pace(lr)
        if pace is not None and taken < 1 and pace.fraction > _HUGE * _SURELY:
            what = f"{pulled.means} at lr {lr:g} removes {pace.fraction:.3g} of each weight per step"
            yield from _all(members, f"{what}, and momentum swings it through zero" if pace.swings else what)


@check("WD303")
def flips(case: Case) -> Iterator[Hit]:
    """Groups that remove a whole weight or more per step, now or at the peak of their schedule."""
    for pulled, members in case.pulls.items():
        if pulled.is_free:
            # A Decay refuses a fraction above 1, and who writes per_step(1) means it.
            continue
        taken, when = pulled.taken(_rate(pulled)) or 0.0, "now"
        peak, step = max(((one, -step) for one, step, _ in _over_run(case, pulled, pulled.taken)), default=(0.0, 0))
        if peak > taken:
            taken, when = peak, f"at step {-step:,} of the run"
        if taken * _SURELY >= 1:
            yield from _all(members, f"{pulled.means} removes {taken:.3g} of each weight per step, {when}")


@check("WD304", reads=True)
def rounded_away(case: Case) -> Iterator[Hit]:
    """Decay of bf16 or fp16 weights that is too small for one step to show."""
    for pulled, members in case.pulls.items():
        low = [one for one in members if is_low(one.param)]
        if pulled.site is Site.GRADIENT:
            for member in low:
                yield from [*_lost_in_gradient(member)] or _lost_in_step(case, member)
        elif low and pulled.site in (Site.BEFORE, Site.NATIVE) and not pulled.hooked:
            yield from _lost_in_weight(case, pulled, low)


@check("WD305", needs="run")
def hasty(case: Case) -> Iterator[Hit]:
    """Groups whose weights forget faster than the data comes round."""
    assert case.run is not None
    per_epoch = case.run.steps_per_epoch
    for pulled, members in case.pulls.items():
        scale = _timescale(case, pulled)
        if scale is not None and per_epoch is not None and scale * _SURELY < per_epoch:
            yield from _all(members, f"{pulled.means}: time scale {scale:,.0f} steps, an epoch has {per_epoch:,}")


@check("WD306", needs="run")
def idle(case: Case) -> Iterator[Hit]:
    """Groups whose decay is too weak to act within the run."""
    assert case.run is not None
    for pulled, members in case.pulls.items():
        scale = _timescale(case, pulled)
        if scale is not None and scale > case.run.num_steps * _SURELY:
            shares = ((min(one, 1.0 - 1e-9), n) for one, _, n in _over_run(case, pulled, pulled.fraction))
            lost = -math.expm1(sum(n * math.log1p(-share) for share, n in shares))
            what = (
                f"{pulled.means} takes {'about ' * pulled.gathers}{percent(lost)} of a weight in the whole run: "
                f"its time scale is {scale:,.0f} steps, the run has {case.run.num_steps:,}"
            )
            yield from _all(members, what, "info" if lost > _MUCH else None)


@check("WD307")
def above_peak(case: Case) -> Iterator[Hit]:
    """Groups whose learning rate is above the peak that their decay is scaled by."""
    for pulled, members in case.pulls.items():
        highest = max([_rate(pulled), *(case.curve(pulled.optimizer, pulled.index) or ())])
        if pulled.wiring != "attached" or pulled.peak is None:
            continue
        handle = next(iter(members)).group.handle
        outgrown = None if handle is None else handle.outgrown(pulled.index)
        if outgrown is not None and highest <= pulled.peak * _SURELY:
            yield from _all(members, f"lr rose above {outgrown:g}, which {pulled.means} went by as its peak until then")
        if highest > pulled.peak * _SURELY:
            yield from _all(members, f"lr reaches {highest:g}, max_lr={pulled.peak:g} for {pulled.means}")


def _all(members: Iterable[Member], what: str, severity: Severity | None = None) -> Iterator[Hit]:
    return (member.hit(what, severity) for member in members)


def _lost_in_weight(case: Case, pulled: Pulled, members: Iterable[Member]) -> Iterator[Hit]:
    """Shrinks after which each weight is, sooner or later, what it was before."""
    # The most that a step takes: over the run, or at the highest learning rate that the group tells of.
    rates = _rates(pulled)
    known = pulled.site is Site.BEFORE
    if known:
        over = (one for one, *_ in _over_run(case, pulled, pulled.taken))
        taken = max([*over, *(pulled.taken(lr) or 0.0 for lr in rates)])
    elif pulled.decay is None:
        return
    else:
        taken = max(rates) * pulled.decay.coefficient
    for member in members:
        if not known and pulled.keeps_rounded(member.param):
            continue
        # Half a unit in the last place, as a part of the largest number of a binade and of the smallest.
        dtype = member.param.dtype
        eps = torch.finfo(dtype).eps
        if 0 < taken * _SURELY < eps / 2:
            share = f"{taken:.2g} of each weight per step" + ("" if known else ", if it is decoupled as in AdamW")
            none = taken < eps / 4
            keeps = f"keeps no shrink below {eps / 4:.2g}" if none else f"takes between none and {eps:.2g} of it"
            yield member.hit(f"{share}; {dtype_name(dtype)} {keeps}", None if known and none else "warning")


def _lost_in_gradient(member: Member) -> Iterator[Hit]:
    """Pulls that are too small beside the gradient that they are added to, by the gradient that is there."""
    param, grad, decay = member.param.detach(), member.param.grad, member.decay
    if decay is None or grad is None or not is_readable(grad) or grad.dtype is not param.dtype:
        return
    pull = decay.coefficient * param
    asked = float(pull.double().square().sum())
    arrives = float(((grad + pull).double() - grad.double()).mul_(pull.double()).sum())
    if asked > 0 and decay.is_plain_l2 and arrives < 0.5 * asked:
        share = percent(max(arrives / asked, 0.0))
        yield member.hit(f"{share} of {member.pulled.means} arrives beside the gradient in {dtype_name(param.dtype)}")


def _lost_in_step(case: Case, member: Member) -> Iterator[Hit]:
    """Pulls that reach the gradient, in a step of plain SGD that is too small to move the weight."""
    param, grad, pulled = member.param.detach(), member.param.grad, member.pulled
    decay = member.decay
    if decay is None or not decay.is_plain_l2 or not pulled.is_linear or pulled.gathers:
        # Momentum moves weights, and with them what decay asks for arrives.
        return
    lr = max([*_rates(pulled), *(case.curve(pulled.optimizer, pulled.index) or ())])
    dtype, asked = dtype_name(param.dtype), lr * decay.coefficient
    if not asked or pulled.keeps_rounded(param) or not is_readable(param):
        return
    if grad is None:
        least = torch.finfo(param.dtype).eps / 4
        if asked * _SURELY < least:
            what = f"{asked:.2g} of each weight per step; {dtype} keeps no shrink below {least:.2g}"
            yield member.hit(f"{what}, so a weight stays where it is unless gradients move it", "info")
    elif is_readable(grad) and grad.dtype is param.dtype:
        share = _arriving(param, grad, lr, decay.coefficient)
        if share < 0.5:
            how = f"arrives, as {asked:.2g} of each weight per step rounds away in {dtype}"
            yield member.hit(f"{percent(max(share, 0.0))} of {pulled.means} {how} where gradients are this small")


def _arriving(param: Tensor, grad: Tensor, lr: float, coefficient: float) -> float:
    """The share of the decay that steps w - lr (g + c w) take in the weights' own precision, beside w - lr g."""
    every = max(param.numel() // _SAMPLED, 1)
    weight, gradient = param.reshape(-1)[::every], grad.reshape(-1)[::every]
    taken = asked = 0.0
    # One step of few weights tells by chance: gradients of other sizes and signs stand for those of other steps.
    for size in (-1.4, -1.2, -1.0, -0.8, -0.6, 0.6, 0.8, 1.0, 1.2, 1.4):
        likely = gradient * size
        moved = weight.add(likely.add(weight, alpha=coefficient), alpha=-lr)
        taken += float(((weight.add(likely, alpha=-lr) - moved).double() * weight).sum())
        asked += lr * coefficient * float(weight.double().square().sum())
    return taken / asked if asked > 0 else 1.0


def _rates(pulled: Pulled) -> list[float]:
    return [as_number(pulled.values.get(key)) or 0.0 for key in ("lr", "initial_lr", "max_lr")]


def _rate(pulled: Pulled) -> float:
    return as_number(pulled.values.get("lr")) or 0.0


def _over_run(
    case: Case, pulled: Pulled, part: Callable[[float, int], float | None]
) -> Iterator[tuple[float, int, int]]:
    """(part taken, step, how many such steps) over the run; steps alike are counted, not repeated."""
    curve = case.curve(pulled.optimizer, pulled.index) or []
    if pulled.is_constant:
        first = {lr: step for step, lr in reversed(list(enumerate(curve)))}
        steps: Iterable[tuple[int, float, int]] = ((first[lr], lr, count) for lr, count in Counter(curve).items())
    else:
        steps = ((step, lr, 1) for step, lr in enumerate(curve))
    for step, lr, count in steps:
        taken = part(lr, step)
        if taken is not None:
            yield taken, step, count


def _timescale(case: Case, pulled: Pulled) -> float | None:
    """1/(mean fraction per step) over the run, in steps."""
    if pulled.gathers and "max_momentum" in pulled.values:
        # A schedule moves the momentum as well, which the curve of learning rates does not tell; td.forecast does.
        return None
    taken = [(one * count, count) for one, _, count in _over_run(case, pulled, pulled.fraction)]
    total, count = sum(one for one, _ in taken), sum(count for _, count in taken)
    return count / total if total > 0 else None
