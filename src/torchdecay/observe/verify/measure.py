"""What an optimizer does to the small tensors of a probe, parameter by parameter, held against what it should do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from torchdecay.observe.verify.expected import Expectation
from torchdecay.observe.verify.explaining import explain
from torchdecay.observe.verify.fitting import Candidate, Carried, Fit, Segments, fit
from torchdecay.observe.verify.inputs import MORE_STEPS, STEPS, STRENGTH, against, levels, push, signed, telling_lr
from torchdecay.observe.verify.judging import Seen, verdict_of
from torchdecay.observe.verify.probe import Probe
from torchdecay.observe.verify.result import Verdict
from torchdecay.observe.verify.rounding import settle
from torchdecay.optimizers.gradients import maximizes
from torchdecay.plans.decay import Site

_GENTLY = 8
"""How often a learning rate is lowered at most."""

_AT_OWN_RATE = 16
"""Steps at the learning rate as it stands, where decay may be too small for one to show."""

_MANY_STILL = 0.4
"""More of a tensor that three steps leave where it was is no accident of rounding."""


def moving_without_gradient(probe: Probe) -> list[bool]:
    """For each slot, whether a step moves it although it has no gradient."""
    own: list[float | None] = [None] * len(probe.optimizer.param_groups)
    before, after = probe.run(signed(probe.size), [torch.zeros(probe.size)], active=[False] * len(probe.slots), lrs=own)
    moved = Segments(probe.slots, probe.size).total((after - before).abs())
    return [bool(one) for one in moved != 0]


def measure(
    probe: Probe, expected: Mapping[int, Expectation], active: Sequence[bool], lrs: Sequence[float | None]
) -> list[Verdict | None]:
    """What each active slot undergoes, in groups of these learning rates as they stand; the probe is entered.

    Raises:
        StepFailed: the optimizer's step raised.
    """
    wanted = [expected[id(slot.param)] for slot in probe.slots]
    verdicts: list[Verdict | None] = [None] * len(wanted)
    for members in levels(probe.slots, wanted, active, lrs):
        seen = _Round(probe, wanted, members, lrs, STEPS).seen()
        for steps in MORE_STEPS:
            still = [i in seen and _needs_more(seen[i]) for i in range(len(wanted))]
            if any(still):
                seen |= _Round(probe, wanted, still, lrs, steps).seen()
        found = {i: verdict_of(one) for i, one in seen.items()}
        for i, verdict in settle(probe, seen, found, lrs).items():
            verdicts[i] = verdict
    return verdicts


def _needs_more(seen: Seen) -> bool:
    """Whether more steps may show more: nothing moved, or a gate was shut in all of them."""
    shut = seen.state == "resolved" and any(seen.amounts) and not seen.is_visible
    return seen.state == "unmoved" or (shut and _is_gated(seen.one))


def _is_gated(one: Expectation) -> bool:
    return one.decay is not None and one.decay.gate is not None


class _Round:
    """Measures slots whose pulls are about as strong as each other, at learning rates at which they show."""

    def __init__(
        self,
        probe: Probe,
        wanted: Sequence[Expectation],
        active: Sequence[bool],
        lrs: Sequence[float | None],
        steps: int,
    ) -> None:
        self.probe, self.wanted, self.active, self.lrs_now, self.steps = probe, wanted, active, lrs, steps
        self.segments = Segments(probe.slots, probe.size)
        self.groups = probe.optimizer.param_groups
        taking_part = [
            (slot, one) for slot, one, on in zip(probe.slots, wanted, active, strict=True) if on and not one.wrong
        ]
        self.lrs = [
            telling_lr(lr, [member for member in taking_part if member[0].group == index])
            for index, lr in enumerate(lrs)
        ]
        self._draw(self._sizes())
        self._go_gently()
        self._draw_smaller()
        self.rates = (self.lrs, [None if lr is None else lr / 2 for lr in self.lrs])
        self.full, self.off = ([self._run(lrs, native=native) for lrs in self.rates] for native in (True, False))

    def seen(self) -> dict[int, Seen]:
        """What was measured, by index of the slot."""
        asked, asked_half = ([self._asked(i, lrs) for i in range(len(self.wanted))] for lrs in self.rates)
        ones = torch.ones(len(asked), dtype=torch.float64)
        first, second = self._fit(asked, ones), self._fit(asked_half, ones, half=True)
        shrink, hidden = (self._shrink(self.lrs, native=native) for native in (True, False))
        untouched = self.segments.total((self.full[0] - self.off[0]).square()).sqrt()
        states = [
            self._state(i, asked[i], first, second, float(untouched[i])) if on else ""
            for i, on in enumerate(self.active)
        ]
        open_ = [state == "open" for state in states]
        explained = {}
        if any(open_):
            sites = [one.decay.site if one.decay is not None and one.source != "group" else None for one in self.wanted]
            added = [
                one.decay.coefficient if one.decay is not None and one.is_plain else pushed / size
                for one, pushed, size in zip(self.wanted, self.pushes, self.sizes, strict=True)
            ]
            explained = explain(self._fit, open_, sites, shrink.tolist(), added, self.steps)
        ignored = [i for i, state in enumerate(states) if state == "ignored"]
        late = self._late(ignored)
        for i in self._faint([i for i in ignored if i not in late]):
            states[i] = "faint"
        for i in late:
            states[i] = "late"
        taken = dict.fromkeys(ignored, MORE_STEPS[-1]) | late
        now = torch.zeros_like(shrink)
        if any(self.wanted[i].source in ("group", "nothing") for i in explained):
            now = self._shrink(self.lrs_now, native=True, steps=_AT_OWN_RATE)
        return {
            i: Seen(
                one=self.wanted[i],
                optimizer=self.probe.optimizer,
                slot=slot,
                lr=self.lrs_now[slot.group],
                telling_lr=self.lrs[slot.group],
                amounts=(_first(asked[i]), _first(asked_half[i])),
                multiple=float(first.multiple[i]),
                is_visible=bool(first.is_visible[i]),
                state=states[i],
                steps=taken.get(i, self.steps),
                shrink=float(shrink[i]),
                shrink_now=float(now[i]),
                hidden=float(hidden[i]),
                explanation=explained.get(i),
            )
            for i, slot in enumerate(self.probe.slots)
            if states[i]
        }

    def _state(self, index: int, asked: Candidate | None, first: Fit, second: Fit, untouched: float) -> str:
        start, *_, end = self.full[0]
        span = self.probe.slots[index].span
        tolerance = float(first.tolerance[index])
        if float((start[span] == end[span]).double().mean()) > _MANY_STILL:
            return "unmoved"
        if asked is None:
            return "resolved" if untouched <= tolerance else "open"
        if first.is_visible[index] and untouched <= float(first.rounding[index]):
            return "ignored"
        return (
            "resolved"
            if all(
                one.matches[index] and abs(float(one.multiple[index]) - 1) <= max(2e-3, float(one.slack[index]))
                for one in (first, second)
            )
            else "open"
        )

    def _late(self, ignored: Sequence[int]) -> dict[int, int]:
        """Of the slots whose pull does not show in the first steps, those in which it does, with the step."""
        if not ignored:
            return {}
        gradients = [self._gradient(step) for step in range(MORE_STEPS[-1])]
        on, off = (
            self.probe.run(self.weights, gradients, active=self.active, lrs=self.lrs, native=native)
            for native in (True, False)
        )
        found: dict[int, int] = {}
        for step, (one, other) in enumerate(zip(on, off, strict=True)):
            apart, size = (self.segments.total(each.square()).sqrt() for each in (one - other, other))
            shows = apart > self.segments.noise * size
            found = {i: step for i in ignored if bool(shows[i])} | found
        return found

    def _faint(self, ignored: Sequence[int]) -> list[int]:
        """Of the slots whose pull does not show, those that it shows in at far higher learning rates."""
        faint: set[int] = set()
        for power in range(4, 24, 4) if ignored else ():
            lrs = [None if lr is None else lr * 2.0**power for lr in self.lrs]
            on, off = (self._shrink(lrs, native=native) for native in (True, False))
            faint.update(i for i in ignored if not bool(on[i].isclose(off[i], rtol=1e-3, equal_nan=True)))
        return sorted(faint)

    def _asked(self, index: int, lrs: Sequence[float | None]) -> Candidate | None:
        """What the slot should undergo, None for nothing."""
        one, lr = self.wanted[index], lrs[self.probe.slots[index].group]
        idle = not self.active[index] or one.unsayable or one.wrong
        if one.decay is None or idle or one.decay.site is Site.LOSS:
            return None
        amounts = tuple(one.amount(1.0 if lr is None else lr, step) for step in range(self.steps))
        return Candidate(one.decay.site, amounts, one.beside, None if one.is_plain else one) if any(amounts) else None

    def _fit(
        self, candidates: Sequence[Candidate | None], start: Tensor, *, half: bool = False, rounds: int = 2
    ) -> Fit:
        def simulate(multiple: Tensor) -> Tensor:
            carried = Carried(self.probe.optimizer, self.segments, candidates, multiple)
            return self._run(self.rates[half], native=False, by_hand=carried)

        return fit(simulate, self.full[half], self.off[half], self.segments, start, rounds=rounds)

    def _run(self, lrs: Sequence[float | None], *, native: bool, by_hand: Carried | None = None) -> Tensor:
        gradients = self.gradients
        return self.probe.run(self.weights, gradients, active=self.active, lrs=lrs, native=native, by_hand=by_hand)

    def _shrink(self, lrs: Sequence[float | None], *, native: bool, steps: int = 1) -> Tensor:
        """The fraction of its weights that a step without gradient takes off each slot; NaN where that is none."""
        nothing = [torch.zeros_like(self.weights)] * steps
        start, end = self.probe.run(self.weights, nothing, active=self.active, lrs=lrs, native=native, trace=False)
        size = self.segments.total(start.square()).clamp(min=torch.finfo(torch.float64).tiny)
        share = self.segments.total(start * (start - end)) / size
        share = torch.where(share.abs() > self.segments.noise / 2, share, torch.where(share.isnan(), share, 0.0))
        return share if steps == 1 else -torch.expm1(torch.log1p(-share) / steps)

    def _sizes(self) -> list[float]:
        """Of weights, such that an update of the size of the learning rate is a part of one."""
        return [4 * (self.lrs[slot.group] or 1.0) for slot in self.probe.slots]

    def _go_gently(self) -> None:
        """Lower the rates at which more is taken off than was thought: it may grow as the square of the rate."""
        for _ in range(_GENTLY):
            worst: dict[int, float] = {}
            for slot, one, share in zip(
                self.probe.slots, self.wanted, self._shrink(self.lrs, native=True).tolist(), strict=True
            ):
                if one.source not in ("class", "plan") and 2 * STRENGTH < share < math.inf:
                    worst[slot.group] = max(worst.get(slot.group, 0.0), share)
            if not worst:
                return
            self.lrs = [
                lr if lr is None or index not in worst else lr * math.sqrt(STRENGTH / worst[index])
                for index, lr in enumerate(self.lrs)
            ]
            self._draw(self._sizes())

    def _draw(self, sizes: Sequence[float]) -> None:
        """Weights of these typical sizes, and gradients as large as what a coupled decay would add to them."""
        probe = self.probe
        signs = signed(probe.size)
        spread = self.segments.spread(torch.tensor(sizes, dtype=torch.float64))
        self.sizes = sizes
        self.pushes = [push(one, size) for one, size in zip(self.wanted, sizes, strict=True)]
        self.weights = probe.rounded(spread * signs)
        self.gradients = [self._gradient(step) for step in range(self.steps)]
        for slot, one in zip(probe.slots, self.wanted, strict=True):
            if one.reference is not None:
                probe.set_sample(one.reference, slot, spread * signed(probe.size, 1) / 2)

    def _gradient(self, step: int) -> Tensor:
        minus = [-1.0 if maximizes(self.probe.optimizer, self.groups[slot.group]) else 1.0 for slot in self.probe.slots]
        if self.steps > STEPS:
            # The gate was shut: the other way it opens.
            minus = [-one if _is_gated(wanted) else one for one, wanted in zip(minus, self.wanted, strict=True)]
        pushed = self.segments.spread(torch.tensor(self.pushes, dtype=torch.float64) * torch.tensor(minus))
        return self.probe.rounded(pushed * against(signed(self.probe.size), step))

    def _draw_smaller(self) -> None:
        """Where a coarse dtype hides updates that are small beside the weights, draw smaller weights."""
        coarse = self.segments.noise > 1e-5
        for _ in range(3 if bool(coarse.any()) else 0):
            start, *_, end = self._run(self.lrs, native=False)
            moved = self.segments.total((end - start).square()) / self.segments.total(start.square())
            share = moved.sqrt().nan_to_num(1.0)
            small = coarse & (share < 0.1)
            if not bool(small.any()):
                return
            factors = torch.where(small, (4 * share).clamp(min=1e-2), torch.ones_like(share))
            self._draw([size * float(factor) for size, factor in zip(self.sizes, factors, strict=True)])


def _first(asked: Candidate | None) -> float:
    return asked.amounts[0] if asked is not None and math.isfinite(asked.amounts[0]) else 0.0
