"""What a probe's steps start from: learning rates, weights and gradients at which decay shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchdecay.observe.verify.expected import Expectation
from torchdecay.observe.verify.slots import Slot
from torchdecay.plans.decay import Scale, Site
from torchdecay.sharding import local

STEPS = 3
"""Three steps: the first shows signs, the next ones what went into momentum and second moments."""

MORE_STEPS = (12, 120)
"""For optimizers that do not move at once: RAdam's kin begin at the sixth, others after a warm-up or a large batch."""

STRENGTH = 0.25
"""Share of a weight that the strongest pull takes per step: visible in bf16, and far from 1."""

_LEVEL = 8.0
"""Pulls weaker than the strongest of their group by more than this are measured apart from it."""

_MOST_LEVELS = 6
_HIGHEST_LR = {torch.float16: 512.0}
"""float16 ends at 65,504, and weights are drawn four times as large as the learning rate."""


def levels(
    slots: Sequence[Slot], wanted: Sequence[Expectation], active: Sequence[bool], lrs: Sequence[float | None]
) -> list[list[bool]]:
    """Which slots to measure together: in every group those whose pulls are about as strong as each other."""
    strengths = [strength(one, lrs[slot.group] or 1.0) for one, slot in zip(wanted, slots, strict=True)]
    tops: dict[int, float] = {}
    for slot, strong, on in zip(slots, strengths, active, strict=True):
        if on:
            tops[slot.group] = max(tops.get(slot.group, 0.0), strong)
    found = []
    for slot, strong in zip(slots, strengths, strict=True):
        top = tops.get(slot.group, 0.0)
        below = int(math.log(top / strong, _LEVEL)) if strong and top > strong else 0
        found.append(min(below, _MOST_LEVELS - 1))
    present = sorted({level for level, on in zip(found, active, strict=True) if on})
    return [[on and level == now for level, on in zip(found, active, strict=True)] for now in present]


def telling_lr(now: float | None, members: Sequence[tuple[Slot, Expectation]]) -> float | None:
    """A learning rate at which the strongest pull takes `STRENGTH` of each weight, or up to half of that."""
    if now is None:
        return None
    lr = base = now or 1.0
    pulls = list({one.key: one for _, one in members}.values())
    if any(one.decay is not None and one.decay.steering is not None for one in pulls):
        # How much it takes elsewhere is its own affair: at a higher rate it may be more than the whole.
        lr = base
    elif max((strength(one, base) for one in pulls), default=0.0) == 0:
        lr = base * 2.0 ** round(math.log2(STRENGTH / base))
    else:
        for _ in range(80):
            if max(strength(one, lr) for one in pulls) > STRENGTH:
                lr /= 2
            elif max(strength(one, 2 * lr) for one in pulls) <= STRENGTH:
                lr *= 2
    dtypes = {local(slot.param).dtype for slot, _ in members}
    return min([lr, *(_HIGHEST_LR[dtype] for dtype in dtypes if dtype in _HIGHEST_LR)])


def strength(one: Expectation, lr: float) -> float:
    """How much of a weight a pull takes per step at this learning rate, roughly, in the hardest of a few steps."""
    if one.decay is None or one.wrong or one.decay.site is Site.LOSS:
        return 0.0
    amount = max(one.amount(lr, step) for step in range(STEPS))
    free = one.decay.scale is Scale.ONE and not one.decay.schedule.needs_lr
    return amount * lr if one.decay.site is Site.GRADIENT or free else amount


def push(one: Expectation, size: float) -> float:
    """Typical size of the gradients at weights of this size: about what a coupled decay would add to them."""
    if one.decay is None:
        return 1.0
    if not one.is_plain:
        # Then an update is about as large as a threshold.
        return min(max(one.decay.coefficient, 1e-3), 1.0)
    return min(max(one.decay.coefficient * size, 1e-3), 1e3)


def signed(size: int, seed: int = 0) -> Tensor:
    """Numbers of either sign with sizes from 1 to 2, always the same ones, drawn from no shared generator."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2, size, generator=generator, dtype=torch.float64)
    return torch.where(drawn[0] < 0.5, -1.0, 1.0) * (1 + drawn[1])


def against(weights: Tensor, step: int) -> Tensor:
    """Gradients that a coupled decay of the weights' size changes visibly, but never nearly cancels.

    Some point with the weight and are smaller than the decay; some point against it and are larger; in the first
    step a third lies just beside what would cancel it, so that even an optimizer that sees only signs shows whether
    the decay is there, and once.
    """
    size = weights.numel()
    drawn = 1 + signed(size, 2 + step).abs()
    kind = (torch.arange(size) + step) % (3 if step == 0 else 2)
    near = torch.where(torch.arange(size) % 2 == 0, -0.75, -1.3) * weights
    small, large = weights.sign() * (drawn - 1.75).abs() / 2, -weights.sign() * 2 * drawn
    return torch.where(kind == 0, small, torch.where(kind == 1, large, near))
