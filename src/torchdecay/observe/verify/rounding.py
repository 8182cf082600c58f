"""What a dtype leaves of a small decay over many steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from torchdecay.observe.verify.fitting import Segments
from torchdecay.observe.verify.inputs import signed
from torchdecay.observe.verify.judging import Seen, wish
from torchdecay.observe.verify.probe import Probe
from torchdecay.observe.verify.result import Verdict
from torchdecay.observe.verify.slots import Slot
from torchdecay.plans.decay import Site
from torchdecay.sharding import local
from torchdecay.text import percent

_MOST_STEPS = 300
_SMALLEST = 1e-4
_KEPT = (0.5, 1.5)


def settle(
    probe: Probe, seen: Mapping[int, Seen], found: Mapping[int, Verdict], lrs: Sequence[float | None]
) -> dict[int, Verdict]:
    """Verdicts, with what rounding does to the pulls that are small beside a unit in the dtype's last place.

    Looked at is the highest learning rate that is known: where warm-up makes the decay nothing, nothing is lost.
    """
    settled = dict(found)
    alike: dict[tuple[Any, ...], list[int]] = {}
    taken: list[float | None] = list(lrs)
    for i, verdict in found.items():
        slot, one = probe.slots[i], seen[i].one
        lr = _highest_lr(seen[i])
        if lr is None or not _is_at_risk(slot, seen[i], verdict, lr) or _follows_its_own_law(seen[i], verdict):
            continue
        # Below this no plain rounding keeps anything, and what is kept in other ways shows sooner.
        while _eps(slot) > 1e-6 and one.amount(lr) < _SMALLEST and one.amount(2 * lr) > one.amount(lr):
            lr *= 2
        taken[slot.group] = lr
        alike.setdefault((slot.group, local(slot.param).dtype, one.key), []).append(i)
    if alike:
        widest = [max(members, key=lambda i: _width(probe.slots[i])) for members in alike.values()]
        kept = _kept(probe, seen, widest, taken)
        for share, members in zip(kept, alike.values(), strict=True):
            settled.update({i: _with_share(seen[i], found[i], share) for i in members})
    return settled


def _follows_its_own_law(seen: Seen, verdict: Verdict) -> bool:
    """Whether a class that nobody knows takes another part than c·λ, so that what is due at a rate is not known."""
    known, measured = seen.one.source != "group", verdict.measured
    return not known and measured is not None and not math.isclose(measured, seen.expected, rel_tol=0.05)


def _kept(probe: Probe, seen: Mapping[int, Seen], slots: Sequence[int], lrs: Sequence[float | None]) -> list[float]:
    """Of the log-shrink that many steps should add up to, the share that is there, for each of the slots."""
    rates = [lrs[probe.slots[i].group] or 0.0 for i in slots]
    largest = max(seen[i].one.amount(lr) for i, lr in zip(slots, rates, strict=True))
    steps = min(_MOST_STEPS, max(8, round(0.5 / largest)))
    nothing = [torch.zeros(probe.size, dtype=torch.float64)] * steps
    active = [i in slots for i in range(len(probe.slots))]
    on, off = (
        probe.run(signed(probe.size), nothing, active=active, lrs=lrs, native=native, trace=False)[-1].abs()
        for native in (True, False)
    )
    shrunk = Segments(probe.slots, probe.size).total((off / on).log().nan_to_num(0.0, 0.0, 0.0))
    shares = []
    for i, lr in zip(slots, rates, strict=True):
        due = -sum(math.log1p(-min(seen[i].one.amount(lr, step), 0.999)) for step in range(steps))
        shares.append(float(shrunk[i]) / _width(probe.slots[i]) / due)
    return shares


def _is_at_risk(slot: Slot, seen: Seen, verdict: Verdict, lr: float) -> bool:
    """Whether only many steps can show what becomes of a slot's decay."""
    one = seen.one
    fractional = one.is_plain and one.decay is not None and one.decay.site in (Site.BEFORE, Site.AFTER)
    if not fractional or not 0 < one.amount(lr) < 1:
        return False
    if verdict.fault == "unmeasured":
        return seen.state != "faint" or one.source != "group"
    return verdict.ok and verdict.site in (Site.BEFORE, Site.AFTER) and one.amount(lr) < 8 * _eps(slot)


def _with_share(seen: Seen, verdict: Verdict, kept: float) -> Verdict:
    measured = max(kept, 0.0) * (verdict.expected or 0.0)
    if _KEPT[0] < kept < _KEPT[1]:
        if verdict.fault != "unmeasured" or seen.one.decay is None:
            return verdict
        why = f"{percent(measured)} of each weight is taken off per step; {seen.dtype} does not tell where in the step."
        return replace(verdict, fault="", why=why, site=seen.one.decay.site, measured=measured)
    lr = _highest_lr(seen) or 0.0
    lost = "is rounded away" if kept < 0.05 else f"comes out {max(kept, 0.0):.2g} times as large"
    why = (
        f"{wish(seen)}: {percent(seen.one.amount(lr))} per step at learning rate {lr:g}, which {lost} in {seen.dtype}."
    )
    return replace(verdict, fault="rounded", why=why, measured=measured)


def _highest_lr(seen: Seen) -> float | None:
    known = [seen.lr, *(seen.group.get(key) for key in ("max_lr", "initial_lr"))]
    return max((float(lr) for lr in known if lr is not None), default=None)


def _eps(slot: Slot) -> float:
    return torch.finfo(local(slot.param).dtype).eps


def _width(slot: Slot) -> int:
    return slot.stop - slot.start
