"""One step, measured: snapshots before it, around the passes of decay, and after it; one row of sums per tensor.

Nothing is read from a device before the end, and there once. The extra memory is up to three samples of each tensor
and one of its gradient, held for the one step, and one sample held from the step before to it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence, Set
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.handle import Handle
from torchdecay.apply.rounding import is_low
from torchdecay.observe.forecast.equilibrium import equilibrium
from torchdecay.observe.groups import float_of
from torchdecay.observe.monitor.budget import Budget
from torchdecay.observe.monitor.carried import Carried
from torchdecay.observe.monitor.layout import Layout, Tracked
from torchdecay.observe.monitor.measured import Measured
from torchdecay.observe.monitor.norms import norms_of, radial_of, square_of, values_of
from torchdecay.observe.monitor.parts import Part
from torchdecay.observe.monitor.samples import Batch, gradient_of, options_of, over_ranks, products, wide
from torchdecay.observe.monitor.selection import Beside
from torchdecay.observe.monitor.sums import AT, Sums, places_of
from torchdecay.observe.pulls import Pulled, own_pulls
from torchdecay.observe.verify.hooks import hooks_around, owner_of
from torchdecay.optimizers.cards import update_of
from torchdecay.optimizers.gradients import as_seen
from torchdecay.optimizers.steps import tells_update
from torchdecay.optimizers.updates import Update
from torchdecay.plans.controllers import RowGate
from torchdecay.plans.decay import Site
from torchdecay.sharding import cuts, local

_Columns = tuple[tuple[str, ...], tuple[str, ...]]
"""The vectors whose products stand in a row, and what stands beside them."""
_COUNTERS = ("step", "mu_product")
"""State that is one number for a whole tensor."""


class _Planned(NamedTuple):
    """What decay is to take in the step that comes.

    Attributes:
        fraction: of each weight, once momentum has settled; None where it is no fraction.
        taken: momentum left aside.
        rotation: the angle per step of a scale-invariant tensor at rest, in radians; NaN where no equation is known.
    """

    fraction: float | None
    taken: float
    rotation: float


class Reading:
    """Measures one step: `before`, `copied`, `decayed`, `updated`, `after`, around what happens in between.

    `left` are the samples that the step
    before left behind, by batch; `changed` the groups whose weight_decay is another than it was at the beginning, and
    `moving` those where a hand schedules it; `budget` for steps beside the real one; `carried` is the
    decay in momentum.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        layout: Layout,
        batches: Sequence[Batch],
        handle: Handle | None,
        left: Sequence[Tensor],
        changed: Set[int],
        moving: Set[int],
        budget: Budget,
        carried: Carried,
    ) -> None:
        self.changed, self.moving = changed, moving
        self.optimizer, self.members, self.handle = optimizer, layout.members, handle
        self._batches, self._left = batches, left
        self._updates = [update_of(optimizer, group) for group in optimizer.param_groups]
        self._is_told = [tells_update(optimizer, group) for group in optimizer.param_groups]
        self._lrs: list[float] = []
        self._planned: dict[int, _Planned] = {}
        self._parts: list[Part] = []
        self._radial: dict[int, Tensor] = {}
        self._weights: dict[int, Tensor] = {}
        self._gradients: dict[int, Tensor] = {}
        self._owed: dict[str, float] = {}
        self._users: dict[int, Tensor] = {}
        self._carried, self._budget = carried, budget
        self._beside_it = Beside(optimizer, batches, budget)

    @torch.no_grad()
    def before(self) -> None:
        """When the gradients are there, and nothing has moved."""
        groups = self.optimizer.param_groups
        self._lrs = [math.nan if (lr := float_of(group.get("lr"))) is None else lr for group in groups]
        gradients = [gradient_of(member.param) for member in self.members]
        pairs = zip(self.members, gradients, strict=True)
        self._users = {id(member.param): one for member, one in pairs if one is not None}
        for index, batch in enumerate(self._batches):
            for member in batch.members:
                if id(member.pulled) not in self._planned:
                    at_work = by_now(self._at_work(member.pulled), self.handle)
                    self._planned[id(member.pulled)] = _planned(at_work, self._lrs[member.group])
            samples = {"start": batch.kept([member.param for member in batch.members])}
            if self._beside_it.is_wanted:
                self._beside_it.refuse(batch, self._carried.lost(batch))
                if (carried := self._carried.entering(batch)) is not None:
                    samples["entering"] = carried
            if self._left:
                samples["left"] = self._left[index]
            # Optimizers pass over what has no gradient, and decay with them.
            idle = Part(batch, None, False, samples, self._prompt(batch.members[0]))
            found = [gradients[place] for place in batch.places]
            kinds: list[Hashable] = [0 if one is None else 1 if one.is_sparse else 2 for one in found]
            if len(batch.groups) > 1:
                # A schedule may have parted them since.
                options = {index: options_of(self.optimizer, groups[index]) for index in batch.groups}
                kinds = [(kind, options[member.group]) for kind, member in zip(kinds, batch.members, strict=True)]
            for rows in batch.split(kinds):
                part, own = idle.picked(rows), [one for row in rows if (one := found[row]) is not None]
                if own:
                    part.gradients, part.is_updated = own, not own[0].is_sparse
                self._parts.append(part)
                self._sample_gradient(part)
        parts = [place for batch in self._batches if batch.is_part for place in batch.places]
        self._weights = norms_of({place: local(self.members[place].param).detach() for place in parts})
        self._gradients = norms_of({place: values_of(one) for place, one in enumerate(gradients) if one is not None})
        radial = ((place, radial_of(self.members[place], one)) for place, one in enumerate(gradients))
        self._radial = {place: found for place, found in radial if found is not None}
        self._owed = self._debts()
        self._beside_it.begun()

    @torch.no_grad()
    def copied(self, *, waits: bool) -> None:
        """Before anything but a pass of decay moves; `waits` for gradients that a closure makes."""
        self._beside_it.copied(waits=waits)

    @torch.no_grad()
    def decayed(self) -> None:
        """When passes of decay before the update are over, and gradients are there."""
        self._snapshot("decayed")
        self._beside_it.stepped(self._users)

    def updated(self) -> None:
        """When the update is over, and passes after it are to come."""
        self._snapshot("updated")

    def passed(self) -> None:
        """When passes after the update are over, and hooks of others are to come."""
        after = (hooks for where, hooks in hooks_around([self.optimizer]) if "post" in where)
        if any(owner_of(hook) == "foreign" for hooks in after for hook in hooks.values()):
            for part in self._parts:
                if part.like.source in ("pass", "state", "shadow"):
                    part.samples["own end"] = part.batch.kept(part.params)

    def _snapshot(self, name: str) -> None:
        for part in self._parts:
            if part.like.source == "pass":
                sample = part.batch.kept(part.params)
                # Weights that are 0 while the optimizer steps are no less where they were.
                is_emptied = self.handle is not None and self.handle.is_emptied(part.like.name)
                part.samples[name] = wide(part.samples["start"]) + sample if is_emptied else sample

    @torch.no_grad()
    def after(self) -> list[Measured]:
        """When all is over: what each tensor did."""
        counters = self._counters()
        parts: list[tuple[Part, dict[str, Any]]] = []
        for part in self._parts:
            own = [counters.get(id(param), ()) for param in part.params]
            parts += [(part.picked(rows), dict(own[rows[0]])) for rows in part.batch.split(own)]
        tables = [self._table(part, state) for part, state in parts]
        numbers = over_ranks([table for _, table in tables], [part.like.param for part, _ in parts])
        scale = getattr(self.optimizer, "grad_scale", None)
        unscaled = 1.0 if scale is None else 1 / float(scale)
        debts, duals = self._debts(), {} if self.handle is None else self.handle.duals
        made: dict[int, Measured] = {}
        for (part, _), (columns, _), rows in zip(parts, tables, numbers, strict=True):
            batch, places = part.batch, places_of(*columns)
            for member, place, count, row in zip(batch.members, batch.places, batch.counts, rows, strict=True):
                row += (math.nan, 0.0, float(count))
                found = [row[at] for at in places]
                # Weights that were all 0 before the step need not be so by now.
                if batch.is_part and found[AT["tt"]]:
                    found[AT["weight"]] = square_of(found[AT["weight"]], member.param)
                found[AT["gradient"]] = square_of(found[AT["gradient"]], member.param.grad) * unscaled**2
                found[AT["radial"]] *= unscaled
                sums = Sums._make(found)
                owed = self._owed.get(member.name, 0.0) - debts.get(member.name, 0.0)
                dual = duals.get(member.name, math.nan) if member.is_constrained else math.nan
                why = "" if part.gradients is None else self._beside_it.why_not(member)
                told, lr = self._planned[id(member.pulled)], self._lrs[member.group]
                planned, prompt = (told.fraction, told.taken * part.prompt) if part.gradients else (0.0, 0.0)
                made[place] = Measured(member, sums, lr, planned, told.rotation, owed, dual, prompt, why)
        whys = [one.unmeasured for one in made.values() if one.member.source == "shadow" and not one.why_not]
        if whys and all(whys):
            # What a step changes that nobody knows of may be the user's.
            self._budget.stopped = whys[0]
        return [made[place] for place in range(len(made))]

    def _table(self, part: Part, state: dict[str, Any]) -> tuple[_Columns, Tensor]:
        """What `Sums` is made of, on the device: a row for each tensor, and what its columns are."""
        batch, like = part.batch, part.like
        last = batch.read(part.params)
        # What hooks of others did after the update was no part of it.
        own = part.samples.get("own end", last)
        start, end = wide(part.samples["start"]), wide(own)
        decay, update = self._displaced(part, start, end, state)
        vectors = {"start": start, "decay": decay, "update": update}
        if (ends := self._beside_it.ends_of(batch, part.samples["start"])) is not None:
            decay = wide(ends[0]) - wide(ends[1])
            if "entering" in part.samples:
                vectors["carried"] = self._carried_by(part, state)
                decay += vectors["carried"]
            vectors["decay"], vectors["update"] = decay, end - start - decay
            vectors["undone"] = end - wide(ends[0])
        elif like.source == "pass" and (undone := self._undone(part, state)) is not None:
            vectors["undone"] = undone
        if like.pulled.site is Site.AFTER and "updated" in part.samples:
            vectors["met"] = wide(part.samples["updated"])
        if self._may_have_moved(part):
            vectors["left"] = wide(part.samples["left"])
            vectors["moved"] = start - vectors["left"]
        if own is not last and not self._is_same(part, own, last):
            vectors["moved"] = last - end + vectors.get("moved", 0.0)
            vectors.setdefault("left", end)
            vectors["back"] = last - end
        # Frozen entries count as zeros too: what matters is how many multiplications could be saved.
        if like.counts_zeros:
            vectors["zero"] = (last == 0).to(start)
        if like.is_cautious:
            vectors["masked"] = ((decay == 0) & (start != 0)).to(start)
        sums = products(vectors.values(), batch.counts).flatten(1)
        beside = self._beside(part)
        if batch.is_part:
            sizes = [local(member.param).numel() for member in batch.members]
            counts = sums.new_tensor([*map(float, batch.counts)])
            sums.mul_((sums.new_tensor([*map(float, sizes)]) / counts.clamp(min=1.0)).unsqueeze(1))
            beside["sample"] = counts
        if beside:
            sums = torch.cat([sums, torch.stack([*beside.values()], dim=1).to(sums)], dim=1)
        return (tuple(vectors), tuple(beside)), sums

    def _may_have_moved(self, part: Part) -> bool:
        """Whether something may have moved tensors between the steps; where asking would wait for a device, it may."""
        left, decay = part.samples.get("left"), part.like.pulled.decay
        # Rows that pay late are paid for when they are read.
        if left is None or (decay is not None and isinstance(decay.gate, RowGate)):
            return False
        return not self._is_same(part, left, part.samples["start"])

    def _is_same(self, part: Part, one: Tensor, other: Tensor) -> bool:
        """Whether two samples are equal, and all processes know."""
        return one.device.type == "cpu" and not cuts(part.like.param) and torch.equal(one, other)

    def _beside(self, part: Part) -> dict[str, Tensor]:
        """What was taken of the whole tensors, by name, each with a number for each of them."""
        made: dict[str, Tensor] = {}
        if part.batch.is_part:
            made["weight"] = wide(torch.stack([self._weights[place] for place in part.batch.places])).square()
        if part.gradients is not None:
            made["gradient"] = wide(torch.stack([self._gradients[place] for place in part.batch.places])).square()
        radial = [self._radial.get(place) for place in part.batch.places]
        if any(one is not None for one in radial):
            unknown = part.samples["start"].new_full((), math.nan)
            made["radial"] = torch.stack([wide(unknown if one is None else one) for one in radial])
        return made

    def _displaced(self, part: Part, start: Tensor, end: Tensor, state: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """What decay displaced, and what the update did."""
        moved, like = end - start, part.like
        if not moved.numel():
            # A part without elements may have no state either.
            return moved, moved
        if like.source == "pass":
            decay = wide(part.samples["decayed"]) - start if "decayed" in part.samples else torch.zeros_like(start)
            if "updated" in part.samples:
                decay += end - wide(part.samples["updated"])
            return decay, moved - decay
        rule = self._rule(part)
        if rule is not None and like.source == "state":
            self._read_state(part, rule, state)
            gradient = part.samples.get("gradient")
            group = self.optimizer.param_groups[like.group]
            update = rule.taken(group, state, None if gradient is None else wide(gradient)).neg_()
            return moved - update, update
        decay = start * -((part.gradients and self._planned[id(like.pulled)].fraction) or 0.0)
        return decay, moved - decay

    def _prompt(self, like: Tracked) -> float:
        update = self._updates[like.group]
        if like.carries != "followed" or update is None:
            return 1.0
        is_first = update.moment not in self.optimizer.state.get(like.param, {})
        return update.prompt(self.optimizer.param_groups[like.group], is_first=is_first)

    def _undone(self, part: Part, state: dict[str, Any]) -> Tensor | None:
        """Where the step led beside where the passes before it and its update were to; None where nobody can tell."""
        if part.like.pulled.site is not Site.BEFORE or "updated" not in part.samples:
            return None
        start, decayed, updated = (wide(part.samples[name]) for name in ("start", "decayed", "updated"))
        ends = self._beside_it.checked_ends_of(part.batch)
        if ends is not None:
            # The copies have the pass in one of them alone, or in none where a closure was to come first.
            passed = updated - wide(ends[0]) if self._beside_it.waits else wide(ends[0]) - wide(ends[1])
            return passed - (decayed - start)
        rule = self._rule(part)
        if rule is None:
            return None
        self._read_state(part, rule, state)
        gradient = part.samples.get("gradient")
        group = self.optimizer.param_groups[part.like.group]
        return updated - decayed + rule.taken(group, state, None if gradient is None else wide(gradient))

    def _carried_by(self, part: Part, state: dict[str, Any]) -> Tensor:
        """What the step took that earlier steps asked for, over the denominator that the optimizer has by now."""
        rule = self._rule(part)
        if rule is None:
            return torch.zeros_like(wide(part.samples["entering"]))
        self._read_state(part, rule, state)
        group = self.optimizer.param_groups[part.like.group]
        return rule.divided(group, state, wide(part.samples["entering"])).neg_()

    def _read_state(self, part: Part, rule: Update, state: dict[str, Any]) -> None:
        for name in rule.reads:
            tensors = [self.optimizer.state.get(param, {}).get(name) for param in part.params]
            if name not in _COUNTERS and all(isinstance(one, Tensor) for one in tensors):
                state[name] = wide(part.batch.read(tensors))

    def _rule(self, part: Part) -> Update | None:
        """What tells the update of a part, or what momentum carries in it; None where nothing does."""
        like = part.like
        is_read = like.source == "state" or "entering" in part.samples
        is_read = is_read or (like.source == "pass" and self._is_told[like.group] and like.pulled.site is Site.BEFORE)
        return self._updates[part.like.group] if is_read and part.is_updated else None

    def _counters(self) -> dict[int, tuple[tuple[str, float], ...]]:
        """What the state of each tensor counts, where its update depends on it, read from each device at once."""
        told: dict[int, dict[str, float]] = {}
        asked: dict[tuple[torch.device, torch.dtype], list[tuple[int, str, Tensor]]] = {}
        for part in self._parts:
            rule = self._rule(part)
            names = [name for name in _COUNTERS if rule is not None and (name == "step" or name in rule.reads)]
            for param in part.params if names else ():
                state, key = self.optimizer.state.get(param, {}), id(param)
                own = told[key] = {}
                for name in names:
                    value = state.get(name)
                    if isinstance(value, Tensor):
                        asked.setdefault((value.device, value.dtype), []).append((key, name, value))
                    elif value is not None:
                        own[name] = float(value)
        for several in asked.values():
            values = torch.stack([value.detach().reshape(()) if value.dim() else value for _, _, value in several])
            for (key, name, _), value in zip(several, values.tolist(), strict=True):
                told[key][name] = value
        return {key: tuple(own.items()) for key, own in told.items()}

    def _debts(self) -> dict[str, float]:
        """Log-shrink that low-precision weights owe, as numbers below 0."""
        if self.handle is None or not any(is_low(member.param) for member in self.members):
            return {}
        return {name: debt for name, debt in self.handle.debts.items() if debt < 0}

    def _at_work(self, pulled: Pulled) -> Pulled:
        """A pull as the group writes it by now: who schedules weight_decay there plans the step it is written for."""
        if pulled.index not in self.changed or self.handle is not None or pulled.source == "plan":
            return pulled
        written = own_pulls(self.optimizer)[pulled.index][0]
        # To 0 and from 0 a hand may have dropped it, or taken the wrong group.
        return written if pulled.index in self.moving or (pulled.decay and written.decay) else pulled

    def _sample_gradient(self, part: Part) -> None:
        """A sample of the gradient as the update rule sees it, where that needs one."""
        rule = self._rule(part)
        if rule is not None and "grad" in rule.reads and part.gradients is not None:
            group = self.optimizer.param_groups[part.like.group]
            part.samples["gradient"] = as_seen(self.optimizer, group, part.batch.kept(part.gradients))


def by_now(pulled: Pulled, handle: Handle | None) -> Pulled:
    """The pull with the steps that the plan at work has counted, and the peak that it goes by."""
    decay = pulled.decay
    if handle is None or decay is None or pulled.wiring != "attached":
        return pulled
    needs_peak = decay.scale.needs_max_lr or decay.schedule.needs_lr
    peak = handle.max_lr(pulled.index, decay) if needs_peak else None
    return replace(pulled, steps=handle.steps(pulled.index), peak=peak, error=None)


def _planned(pulled: Pulled, lr: float) -> _Planned:
    decay, taken, rest = pulled.decay, pulled.taken(lr), None
    partial = decay is not None and (decay.mask is not None or isinstance(decay.gate, RowGate))
    if taken is not None:
        rest = equilibrium(pulled, pulled.values, lr=lr, pull=taken)
    rotation = math.nan if rest is None else rest.rotation
    return _Planned(None if partial else pulled.fraction(lr), taken or 0.0, rotation)
