"""From what each tensor did to the numbers of its series."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch.optim import Optimizer

from torchdecay.apply.rounding import is_low
from torchdecay.observe.monitor.layout import Layout
from torchdecay.observe.monitor.measured import Measured
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.optimizers.cards import card_of

INVARIANT = 1e-4
"""|⟨θ, g⟩|/(‖θ‖‖g‖) below which a tensor is taken for scale-invariant, as `td.scale_invariant` does."""


class Gathered(NamedTuple):
    """What one series did in one step, by quantity, and beside that.

    `noise` is the standard deviation of the realized shrink by rounding; `outside` the fraction that something else
    took since the step before; `unseen` the lr·weight_decay of low-precision weights of which nobody knows whether
    this optimizer keeps what they round away.
    """

    values: dict[str, float]
    noise: float
    outside: float
    unseen: float


def gather(optimizer: Optimizer, layout: Layout, measured: Sequence[Measured]) -> list[Gathered]:
    """One row of quantities per series; what is not known is NaN.

    Shrinks are weighted with ‖θ‖², so that of a group they say what its ‖θ‖² does; angles, learning rates and
    shares with numbers of elements.
    """
    by_series: list[list[Measured]] = [[] for _ in layout.series]
    for one in measured:
        if one.member.invariant is None and not math.isnan(one.radial):
            one.member.invariant = one.radial < INVARIANT
        by_series[one.member.series].append(one)
    return [_row(optimizer, ones) for ones in by_series]


def _row(optimizer: Optimizer, ones: Sequence[Measured]) -> Gathered:
    total, uu = sum(one.sums.tt for one in ones), sum(one.sums.uu for one in ones)
    dd, du = sum(one.taken.dd for one in ones), sum(one.taken.du for one in ones)
    noise = math.sqrt(sum((one.taken.noise * one.sums.tt) ** 2 for one in ones))
    source, planned, realized = ones[0].member.source, math.nan, math.nan
    if total > 0 and all(one.planned is not None for one in ones):
        planned = sum((one.planned or 0.0) * one.sums.tt for one in ones) / total
    if total > 0 and source in ("pass", "state"):
        realized = sum(one.taken.fraction * one.sums.tt for one in ones) / total
    row = dict.fromkeys(QUANTITIES, math.nan) | {
        "weight_norm": math.sqrt(sum(one.sums.weight for one in ones)),
        "gradient_norm": math.sqrt(sum(one.sums.gradient for one in ones)),
        "lr": _mean(ones, lambda one: one.lr),
        "planned_shrink": planned,
        "realized_shrink": realized,
        "update_norm": math.sqrt(max(0.0, uu)),
        "rotation": _mean(ones, lambda one: one.angle),
        "predicted_rotation": _mean(ones, lambda one: one.rotation),
        "effective_lr": _mean([one for one in ones if one.member.invariant], lambda one: _effective_lr(optimizer, one)),
        "masked_share": _mean(ones, lambda one: one.masked),
        "zero_share": _mean(ones, lambda one: one.zeros),
    }
    if source != "none" and (source != "planned" or not math.isnan(planned)):
        row["decay_norm"] = math.sqrt(max(0.0, dd))
        # What looks like decay, and is no more than rounding, leads anywhere.
        if dd > 0 and uu > 0 and (source != "state" or abs(realized) * total > 3 * noise):
            row["cosine"] = du / math.sqrt(dd * uu)
    duals = [one.dual for one in ones if not math.isnan(one.dual)]
    if duals:
        row["dual"] = sum(duals) / len(duals)
    outside, unseen = max(one.outside for one in ones), max(_unseen(one) for one in ones)
    return Gathered(row, noise / total if total > 0 else math.inf, outside, unseen)


def _mean(ones: Sequence[Measured], number: Callable[[Measured], float]) -> float:
    """The mean weighted with numbers of elements, of what is known."""
    known = [(one.member.param.numel(), value) for one in ones if (value := number(one)) == value]
    weight = sum(count for count, _ in known)
    return sum(count * value for count, value in known) / weight if weight else math.nan


def _unseen(one: Measured) -> float:
    pulled, param = one.member.pulled, one.member.param
    if pulled.source != "group" or pulled.decay is None or not is_low(param) or param.grad is None:
        return 0.0
    if pulled.keeps_rounded(param):
        return 0.0
    return max(0.0, one.lr * pulled.decay.coefficient)


def _effective_lr(optimizer: Any, one: Measured) -> float:
    """η/‖θ‖² where updates scale with gradients (SGD), η√C/‖θ‖ where each element moves by about η (Adam's kin)."""
    square, card = one.sums.weight, card_of(optimizer)
    if not square > 0:
        return math.nan
    is_linear = card is not None and card.update is not None and card.update.is_linear
    return one.lr / square if is_linear else one.lr * math.sqrt(one.member.param.numel() / square)
