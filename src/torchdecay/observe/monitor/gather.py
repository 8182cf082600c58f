"""From what each tensor did to the numbers of its series."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch.optim import Optimizer

from torchdecay.apply.rounding import is_low
from torchdecay.observe.monitor.layout import Layout
from torchdecay.observe.monitor.measured import Measured
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.optimizers.cards import card_of

_TINY = sys.float_info.min
INVARIANT = 1e-4
"""|⟨θ, g⟩|/(‖θ‖‖g‖) below which a tensor is taken for scale-invariant, as `td.scale_invariant` does."""


class Gathered(NamedTuple):
    """What one series did in one step, by quantity, and beside that.

    `noise` is the standard deviation of the realized shrink by rounding; `outside` the fraction that something else
    took since the step before; `unseen` the lr·weight_decay of low-precision weights of which nobody knows whether
    this optimizer keeps what they round away; `unmeasured` why the decay could not be measured, where
    that was tried; `prompt` the fraction that this step's own decay is to take, and `at_once` the
    fraction that it took; `kept` the least part of a tensor's decay that is in the weights after the step.
    """

    values: dict[str, float]
    noise: float
    outside: float
    unseen: float
    unmeasured: str
    prompt: float
    at_once: float
    kept: float


def gather(optimizer: Optimizer, layout: Layout, measured: Sequence[Measured], every: int) -> list[Gathered]:
    """One row of quantities per series; what is not known is NaN.

    Shrinks are weighted with ‖θ‖², so that of a group they say what its ‖θ‖² does; angles, learning rates and
    shares with numbers of elements. `every` is at each how manyth step momentum's decay was followed.
    """
    by_series: list[list[Measured]] = [[] for _ in layout.series]
    for one in measured:
        if one.member.invariant is None and not math.isnan(one.radial):
            one.member.invariant = one.radial < INVARIANT
        by_series[one.member.series].append(one)
    return [_row(optimizer, ones, every) for ones in by_series]


def _row(optimizer: Optimizer, ones: Sequence[Measured], every: int) -> Gathered:
    known, source = [one for one in ones if not one.unmeasured], ones[0].member.source
    total = seen = uu = dd = du = square = weight = gradient = asked = took = carried = prompt = 0.0
    for one in ones:
        total += one.sums.tt
        weight += one.sums.weight
        gradient += one.sums.gradient
        asked += (one.planned or 0.0) * one.sums.tt
        prompt += one.prompt * one.sums.tt
    for one in known:
        sums, taken = one.sums, one.taken
        seen += sums.tt
        uu += sums.uu
        dd += taken.dd
        du += taken.du
        square += (taken.noise * sums.tt) ** 2
        took += taken.fraction * sums.tt
        carried += one.carried * sums.tt if sums.tt else 0.0
    noise, planned, realized = math.sqrt(square), math.nan, math.nan
    if total > 0 and all(one.planned is not None for one in ones):
        planned = asked / total
    if seen > 0 and source in ("pass", "state", "shadow"):
        realized = took / seen
    if not known:
        uu, dd = sum(one.sums.moved for one in ones), planned**2 * total
    elif seen < total:
        # Whole tensors were copied, a part of all, which stands for the rest.
        uu, dd, du = (one * total / max(seen, _TINY) for one in (uu, dd, du))
    is_measured = source in ("pass", "state") or (source == "shadow" and bool(known))
    sizes = [one.member.param.numel() for one in ones]
    row = dict.fromkeys(QUANTITIES, math.nan) | {
        "weight_norm": math.sqrt(weight),
        "gradient_norm": math.sqrt(gradient),
        "lr": _mean(sizes, [one.lr for one in ones]),
        "planned_shrink": planned,
        "realized_shrink": realized,
        "carried_shrink": carried / seen if seen > 0 and ones[0].member.carries else math.nan,
        "followed_every": float(every) if known and ones[0].member.carries == "followed" else math.nan,
        "sample": float(sum(one.sums.sample for one in known)) if source == "shadow" and known else math.nan,
        "between_shrink": _between(ones),
        "update_norm": math.sqrt(max(0.0, uu)),
        "rotation": _mean(sizes, [one.angle for one in ones]),
        "predicted_rotation": _mean(sizes, [one.rotation for one in ones]),
        "effective_lr": _mean(sizes, _effective_lrs(optimizer, ones)),
        "masked_share": _mean(sizes, [one.masked for one in ones]),
        "zero_share": _mean(sizes, [one.zeros for one in ones]),
    }
    if source != "none" and (is_measured or not math.isnan(planned)):
        row["decay_norm"] = math.sqrt(max(0.0, dd))
        # What looks like decay, and is no more than rounding, leads anywhere.
        if dd > 0 and uu > 0 and (source != "state" or abs(realized) * total > 3 * noise):
            row["cosine"] = du / math.sqrt(dd * uu)
    duals = [one.dual for one in ones if not math.isnan(one.dual)]
    if duals:
        row["dual"] = sum(duals) / len(duals)
    outside, unseen = max(one.outside for one in ones), max(_unseen(one) for one in ones)
    reasons = Counter(one.unmeasured for one in ones)
    why = "" if known else reasons.most_common(1)[0][0]
    at_once = realized - carried / seen if seen > 0 and ones[0].member.carries == "followed" else realized
    noise = noise / seen if seen > 0 else math.inf
    prompt, kept = prompt / total if total > 0 else 0.0, min(one.kept for one in ones)
    return Gathered(row, noise, outside, unseen, why, prompt, at_once, kept)


def _between(ones: Sequence[Measured]) -> float:
    """The fraction that something took since the step before; NaN where nothing moved."""
    moved = [one.sums for one in ones if one.sums.left > 0]
    return -sum(one.bl for one in moved) / sum(one.left for one in moved) if moved else math.nan


def _mean(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The mean weighted with numbers of elements, of what is known."""
    known = [(size, value) for size, value in zip(sizes, values, strict=True) if value == value]
    weight = sum([size for size, _ in known])
    return sum([size * value for size, value in known]) / weight if weight else math.nan


def _unseen(one: Measured) -> float:
    pulled, param = one.member.pulled, one.member.param
    if pulled.source != "group" or pulled.decay is None or not is_low(param) or param.grad is None:
        return 0.0
    if pulled.keeps_rounded(param):
        return 0.0
    return max(0.0, one.lr * pulled.decay.coefficient)


def _effective_lrs(optimizer: Any, ones: Sequence[Measured]) -> list[float]:
    """η/‖θ‖² where updates scale with gradients (SGD), η√C/‖θ‖ where each element moves by about η (Adam's kin).

    NaN of tensors that are not scale-invariant.
    """
    card = card_of(optimizer)
    is_linear = card is not None and card.update is not None and card.update.is_linear
    made = []
    for one in ones:
        square = one.sums.weight
        known = one.member.invariant and square > 0
        size = (
            1 / square if known and is_linear else math.sqrt(one.member.param.numel() / square) if known else math.nan
        )
        made.append(one.lr * size)
    return made
