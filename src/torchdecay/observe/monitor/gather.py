"""From what each tensor did to the numbers of its series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from torchdecay.apply.handle import Handle
from torchdecay.apply.rounding import is_low
from torchdecay.observe.monitor.layout import Layout, Tracked
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.observe.monitor.reading import Measured
from torchdecay.optimizers.cards import card_of

INVARIANT = 1e-4
"""|⟨θ, g⟩|/(‖θ‖‖g‖) below which a tensor is taken for scale-invariant, as `td.scale_invariant` does."""


@dataclass(frozen=True)
class Gathered:
    """What one series did in one step.

    Attributes:
        values: by quantity; NaN where it is not known.
        noise: the standard deviation of the realized shrink, as rounding leaves it.
    """

    values: dict[str, float]
    noise: float


def gather(
    optimizer: Optimizer, layout: Layout, measured: Sequence[Measured], duals: Mapping[int, float]
) -> list[Gathered]:
    """One row of quantities per series.

    Shrinks are weighted with ‖θ‖², so that of a group they say what its ‖θ‖² does; angles, learning rates and
    shares with numbers of elements.
    """
    by_series: list[list[Measured]] = [[] for _ in layout.series]
    for one in measured:
        if one.member.invariant is None and not math.isnan(one.radial):
            one.member.invariant = one.radial < INVARIANT
        by_series[one.member.series].append(one)
    return [_row(optimizer, ones, duals) for ones in by_series]


def _row(optimizer: Optimizer, ones: Sequence[Measured], duals: Mapping[int, float]) -> Gathered:
    taken = [_taken(one) for one in ones]
    total, uu = sum(one.tt for one in ones), sum(one.uu for one in ones)
    dd, du = sum(one.dd for one in taken), sum(one.du for one in taken)
    noise = math.sqrt(sum((its.noise * one.tt) ** 2 for its, one in zip(taken, ones, strict=True)))
    row = dict.fromkeys(QUANTITIES, math.nan)
    source = ones[0].member.source
    row["weight_norm"] = math.sqrt(sum(one.weight for one in ones))
    row["gradient_norm"] = math.sqrt(sum(one.gradient for one in ones))
    row["lr"] = _mean(ones, [one.lr for one in ones])
    row["update_norm"] = math.sqrt(max(0.0, uu))
    row["rotation"] = _mean(ones, [_angle(one) for one in ones])
    if total > 0 and all(one.planned is not None for one in ones):
        row["planned_shrink"] = sum((one.planned or 0.0) * one.tt for one in ones) / total
    if total > 0 and source in ("pass", "state"):
        row["realized_shrink"] = sum(its.fraction * one.tt for its, one in zip(taken, ones, strict=True)) / total
    if source != "none" and (source != "planned" or not math.isnan(row["planned_shrink"])):
        row["decay_norm"] = math.sqrt(max(0.0, dd))
        # What looks like decay, and is no more than rounding, leads anywhere.
        if dd > 0 and uu > 0 and (source != "state" or abs(row["realized_shrink"]) * total > 3 * noise):
            row["cosine"] = du / math.sqrt(dd * uu)
    row["predicted_rotation"] = _mean(ones, [one.rotation for one in ones])
    invariant = [one for one in ones if one.member.invariant]
    if invariant:
        rates = [_effective_lr(optimizer, one.lr, math.sqrt(one.weight), one.member.param.numel()) for one in invariant]
        row["effective_lr"] = _mean(invariant, rates)
    row["masked_share"] = _mean(ones, [one.masked for one in ones])
    row["zero_share"] = _mean(ones, [one.zeros for one in ones])
    own = [duals[id(one.member.param)] for one in ones if id(one.member.param) in duals]
    if own:
        row["dual"] = sum(own) / len(own)
    return Gathered(row, noise / total if total > 0 else math.inf)


@dataclass(frozen=True)
class _Taken:
    """The decay's part of one tensor's displacement: the fraction, its noise, ‖d‖² and ⟨d, u⟩."""

    fraction: float
    noise: float
    dd: float
    du: float


def _taken(one: Measured) -> _Taken:
    """Which fraction of a tensor decay took.

    What is left of d along no multiple of θ tells how much rounding there is. Low-precision weights round the update
    away as well, so that what is left of the displacement without it is not the decay; there the displacement is
    split by least squares into a part along θ and a part along u.
    """
    if one.tt <= 0:
        return _Taken(0.0, 0.0, one.dd, one.du)
    if one.member.source != "state" or not is_low(one.member.param):
        if one.bb <= 0:
            return _Taken(0.0, 0.0, one.dd, one.du)
        fraction, left = -one.bd / one.bb, one.dd - one.bd**2 / one.bb
        noise = math.sqrt(max(0.0, left) / one.bb / max(1, one.sample))
        if one.owed:
            # Logarithms add up: what was paid now, and what was put off or had been.
            fraction = -math.expm1(math.log1p(-min(fraction, 0.999999)) - one.owed)
            return _Taken(fraction, noise, fraction**2 * one.tt, -fraction * one.tu)
        if one.member.source == "state":
            # Nothing but a multiple of θ can be decay there; the rest is what rounding did.
            return _Taken(fraction, noise, fraction**2 * one.tt, -fraction * one.tu)
        return _Taken(fraction, noise, one.dd, one.du)
    along_t, along_u = one.td + one.tu, one.du + one.uu
    determinant = one.tt * one.uu - one.tu**2
    kept = 0.0
    if determinant > 1e-12 * one.tt * one.uu:
        kept = (along_u * one.tt - along_t * one.tu) / determinant
    fraction = (kept * one.tu - along_t) / one.tt
    left = one.dd + 2 * one.du + one.uu - (kept * along_u - fraction * along_t)
    noise = math.sqrt(max(0.0, left) / one.tt / max(1, one.sample))
    return _Taken(fraction, noise, fraction**2 * one.tt, -fraction * one.tu)


def _angle(one: Measured) -> float:
    """Between a tensor before and after the step."""
    if one.tt <= 0:
        return math.nan
    along = one.td + one.tu
    square = one.dd + 2 * one.du + one.uu
    across = max(0.0, square - along**2 / one.tt)
    return math.atan2(math.sqrt(across * one.tt), one.tt + along)


def _mean(ones: Sequence[Measured], values: Sequence[float]) -> float:
    """The mean weighted with numbers of elements, of what is known."""
    known = [(one.member.param.numel(), value) for one, value in zip(ones, values, strict=True) if value == value]
    weight = sum(count for count, _ in known)
    return sum(count * value for count, value in known) / weight if weight else math.nan


def duals_of(handle: Handle | None, members: Sequence[Tracked]) -> dict[int, float]:
    """`id(parameter)` → μ, where `constrained` holds it."""
    if handle is None or not any(member.is_constrained for member in members):
        return {}
    held = handle.duals
    return {id(member.param): held[member.name] for member in members if member.name in held}


def _effective_lr(optimizer: Any, lr: float, norm: float, num_elements: int) -> float:
    """η/‖θ‖² where updates scale with gradients (SGD), η√C/‖θ‖ where each element moves by about η (Adam's kin)."""
    if not norm > 0:
        return math.nan
    card = card_of(optimizer)
    is_linear = card is not None and card.update is not None and card.update.is_linear
    return lr / norm**2 if is_linear else lr * math.sqrt(num_elements) / norm
