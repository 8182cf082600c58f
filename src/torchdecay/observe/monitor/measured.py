"""What one tensor did in one step, as sums over its elements tell it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from torchdecay.apply.rounding import is_low
from torchdecay.observe.monitor.layout import Tracked
from torchdecay.observe.monitor.sums import Sums

_MUCH = 0.01
"""What is taken between steps is told of from here on even where it is no part of every weight, but of rows, say."""
_SAME, _ROUNDINGS = 1e-3, 4
"""Copies that end within this part of the update, and so many roundings, took the same step: kernels sum otherwise."""
_CLEARLY = 6
"""Standard deviations of what has nothing to do with decay that are no accident."""
_LEAST = 16
"""Elements of which it is no accident that all shrink alike."""


class Taken(NamedTuple):
    """The decay's part of one tensor's displacement: the fraction, its noise, ‖d‖² and ⟨d, u⟩."""

    fraction: float
    noise: float
    dd: float
    du: float


@dataclass(eq=False)
class Measured:
    """What one tensor did in one step.

    Attributes:
        member: which.
        sums: over its elements.
        lr: of its group.
        planned: the fraction that decay is to take; None where it is no fraction.
        rotation: the angle that it would settle at, if it is scale-invariant; NaN where that is not known.
        owed: log-shrink that was put off in this step, by weights that pay late.
        dual: μ of `constrained`, NaN elsewhere.
        prompt: the fraction that this step's own decay is to take at once; momentum brings the rest later.
        why_not: why no copies took the step, where these are to tell the decay, and there is a gradient.
    """

    member: Tracked
    sums: Sums
    lr: float
    planned: float | None
    rotation: float
    owed: float
    dual: float
    prompt: float
    why_not: str = ""

    @property
    def unmeasured(self) -> str:
        """Why its decay could not be measured, though copies take the step to tell it; "" where it was."""
        one = self.sums
        if self.member.source != "shadow" or self.why_not:
            return self.why_not
        update = math.sqrt(max(0.0, one.uu))
        rounding = _ROUNDINGS * torch.finfo(self.member.param.dtype).eps * math.sqrt(max(0.0, one.tt))
        # Without a gradient no copies step, and nothing is apart.
        if math.isnan(one.undone) and math.isfinite(one.tt + one.uu):
            return ""
        apart = math.sqrt(max(0.0, one.undone))
        if apart <= rounding + _SAME * update:
            return ""
        return (
            f"a step of its copies led elsewhere, by {apart:.2g} where the update is {update:.2g}: its rule reads what "
            "is in neither state, groups nor attributes, or adds up over weights that are not in the sample"
        )

    @property
    def kept(self) -> float:
        """The part of the decay's displacement that is in the weights after the step; 1 where nothing shows less."""
        one = self.sums
        return 0.0 if self._is_projected else min(self._kept(one.undone, one.xd), self._kept(one.zz, one.dz))

    def _kept(self, xx: float, xd: float) -> float:
        """The same beside what led elsewhere by x."""
        one = self.sums
        if math.isnan(xx) or not one.dd > 0:
            return 1.0
        noise = math.sqrt(max(0.0, xx - xd**2 / one.dd) / (one.dd * max(1.0, one.sample)))
        kept = 1 + xd / one.dd
        # What leads anywhere else than back is no undoing of the decay.
        is_undoing = xd < 0 and xd**2 >= 0.5 * xx * one.dd
        return kept if is_undoing and kept > -0.1 and one.sample >= _LEAST and kept + _CLEARLY * noise < 1 else 1.0

    @property
    def _is_projected(self) -> bool:
        """Whether hooks after the step give the tensor the norm back that it had, though decay and update changed it.

        Of such a tensor decay leaves nothing, however much larger than it the update is.
        """
        one, rounding = self.sums, _ROUNDINGS * torch.finfo(self.member.param.dtype).eps * self.sums.tt
        if math.isnan(one.zz) or one.sample < self.member.param.numel():
            return False
        own = 2 * (one.td + one.tu) + one.moved
        back = 2 * (one.tz + one.dz + one.uz) + one.zz
        is_seen = min(abs(own), -2 * one.td) > 10 * rounding
        return is_seen and abs(own + back) <= rounding + _SAME * abs(own)

    @property
    def carried(self) -> float:
        """The fraction of the tensor that momentum took, of decay of earlier steps; NaN where that is not known."""
        if self.member.carries == "unknown" or self.sums.tt <= 0:
            return math.nan
        return 0.0 if math.isnan(self.sums.tc) else -self.sums.tc / self.sums.tt

    @property
    def radial(self) -> float:
        """|⟨θ, g⟩|/(‖θ‖‖g‖), where it was asked for, else NaN."""
        size = math.sqrt(self.sums.weight * self.sums.gradient)
        return abs(self.sums.radial) / size if size > 0 else math.nan

    @property
    def zeros(self) -> float:
        """The share of elements that are 0; NaN where decay makes none."""
        count = self.member.param.numel()
        return self.sums.zeros / count if self.member.counts_zeros and count else math.nan

    @property
    def masked(self) -> float:
        """The share of elements that caution left alone; NaN without it, or in a step without a payment."""
        return (
            self.sums.masked / self.member.param.numel() if self.member.is_cautious and self.sums.dd > 0 else math.nan
        )

    @property
    def outside(self) -> float:
        """The fraction that something took of the tensor since the step before; 0 where it is little, and not alone."""
        one, rounding = self.sums, torch.finfo(self.member.param.dtype).eps / 2
        if not (one.left > 0 and one.sample >= _LEAST and one.between > (10 * rounding) ** 2 * one.left):
            return 0.0
        shrink = max(0.0, -one.bl / one.left)
        is_multiple = one.between - one.bl**2 / one.left <= 0.01 * one.between + rounding**2 * one.left
        return shrink if is_multiple or shrink >= _MUCH else 0.0

    @property
    def angle(self) -> float:
        """Between the tensor before and after the step."""
        one = self.sums
        if one.tt <= 0:
            return math.nan
        along, square = one.td + one.tu, one.moved
        return math.atan2(math.sqrt(max(0.0, square - along**2 / one.tt) * one.tt), one.tt + along)

    @cached_property
    def taken(self) -> Taken:
        """Which fraction of the tensor decay took.

        What is left of d along no multiple of θ tells how much rounding there is. Low-precision weights round the
        update away as well, so that what is left of the displacement without it is not the decay; there the
        displacement is split by least squares into a part along θ and a part along u.
        """
        one, by_state = self.sums, self.member.source == "state"
        if one.tt <= 0 or one.bb <= 0:
            return Taken(0.0, 0.0, one.dd, one.du)
        if by_state and is_low(self.member.param):
            along_t, along_u = one.td + one.tu, one.du + one.uu
            determinant = one.tt * one.uu - one.tu**2
            kept = 0.0
            if determinant > 1e-12 * one.tt * one.uu:
                kept = (along_u * one.tt - along_t * one.tu) / determinant
            fraction = (kept * one.tu - along_t) / one.tt
            left = (one.moved - (kept * along_u - fraction * along_t)) / one.tt
        else:
            fraction, left = -one.db / one.bb, (one.dd - one.db**2 / one.bb) / one.bb
        noise = math.sqrt(max(0.0, left) / max(1.0, one.sample))
        if self.member.source == "shadow" and is_low(self.member.param):
            # Both ends are rounded, and of few elements none may happen to fall otherwise.
            noise = max(noise, torch.finfo(self.member.param.dtype).eps / math.sqrt(6 * max(1.0, one.sample)))
        if not by_state and not self.owed:
            return Taken(fraction, noise, one.dd, one.du)
        if self.owed:
            # Logarithms add up: what was paid now, and what was put off or had been.
            fraction = -math.expm1(math.log1p(-min(fraction, 0.999999)) - self.owed)
        # Nothing but a multiple of θ can be decay there; the rest is what rounding did.
        return Taken(fraction, noise, fraction**2 * one.tt, -fraction * one.tu)
