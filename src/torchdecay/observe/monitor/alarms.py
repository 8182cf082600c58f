"""What decay should not do, seen in the records as they are made: each alarm says what, why and what to do.

An alarm is raised when its condition begins, and again only after it has ended.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import torch

from torchdecay.apply.rounding import LOW_PRECISION
from torchdecay.observe.monitor.gather import Gathered
from torchdecay.observe.monitor.layout import Layout
from torchdecay.observe.monitor.series import Event
from torchdecay.observe.pulls import Pulled
from torchdecay.plans.groups import MARK
from torchdecay.text import dtype_name

_OFF = 0.1
"""Realized and planned shrink that differ by more than this part of the plan are not the same."""
_STRONG = 0.1
"""A fraction per step of at least this leaves weights that are the average of the last ten updates or fewer."""
_MORE, _PATIENCE = 2, 3
"""How many times larger than the update decay is, in how many records in a row: at rest either is larger at times."""
_LEAST_STEPS, _LEAST_RECORDS = 500, 10
"""Steps before which all weights that begin at 0 grow, and records in which a norm has to grow."""
_DOUBLED = 1.8
"""How much larger than half-way a norm is that keeps growing: 2 for a straight line, 1.4 for a random walk."""
_KEPT = 0.9
"""A step after which less of the decay is left than this has undone some of it."""
_SURE = 6
"""Standard deviations of rounding noise that are no accident, however long the run."""


class Alarms:
    """Watches the records of one optimizer's groups."""

    def __init__(self, layout: Layout) -> None:
        self.series, self.dtype_of, self.is_exact = layout.series, layout.dtypes, layout.exact
        self._norms: list[list[tuple[int, float]]] = [[] for _ in self.series]
        self._larger = [0] * len(self.series)
        self._raised: set[tuple[str, str]] = set()

    def look(self, step: int, rows: Sequence[Gathered], now: str) -> list[Event]:
        """The alarms that begin with these records, those of one kind as one; `now` is what groups say by now."""
        found = [event for place, row in enumerate(rows) for event in self._found(place, step, row, now)]
        new = [event for event in found if (event.group, event.kind) not in self._raised]
        # Of what could not be measured in this step nothing has ended.
        silent = {one.name for one, row in zip(self.series, rows, strict=True) if row.unmeasured}
        still = {one for one in self._raised if one[0] in silent}
        self._raised = still.union((event.group, event.kind) for event in found)
        return together(new)

    def _found(self, place: int, step: int, gathered: Gathered, now: str) -> Iterator[Event]:
        row, name = gathered.values, self.series[place].name

        def event(kind: str, what: str, why: str, fix: str) -> Event:
            return Event(step=step, kind=kind, group=name, what=what, why=why, fix=fix)

        if not math.isfinite(row["weight_norm"]):
            yield event(
                "not finite",
                f"the weights' norm is {row['weight_norm']}.",
                "Weights that are NaN or infinite stay so.",
                "Go back to a checkpoint before this step, and look at the learning rate and the loss there.",
            )
            return
        planned, decay, update = row["planned_shrink"], row["decay_norm"], row["update_norm"]
        told = self._against_plan(place, gathered, now) if self.is_exact[place] else None
        if told is not None:
            yield event(*told)
        if gathered.kept < _KEPT and (told is None or told[0] != "lost"):
            yield event(
                "lost",
                f"decay displaced the weights by {decay:.3g}, and {1 - gathered.kept:.0%} of that was put back.",
                "Something in the step, or a hook after it, writes weights that it kept from before, or projects them.",
                "Let the decay come after that: on the optimizer around it, or by a form that comes after the update.",
            )
        self._larger[place] = self._larger[place] + 1 if decay > _MORE * update else 0
        if planned >= _STRONG:
            yield event(
                "dominates",
                f"decay takes {planned:.3g} of each weight per step.",
                f"What was learned is forgotten within {math.ceil(1 / planned)} steps"
                + ("." if planned < 1 else "; at 1 every weight becomes 0, above 1 it changes its sign."),
                "Lower the coefficient or the learning rate: their product is the fraction per step.",
            )
        elif self._larger[place] >= _PATIENCE:
            yield event(
                "dominates",
                f"decay displaces the weights by {decay:.3g}, the update by {update:.3g}, and more than "
                f"twice that in {self._larger[place]} records now.",
                "The weights follow the decay and not the loss: they shrink until the update is larger again.",
                "Where that is not meant, decay less, or look at why the update is so small.",
            )
        dtype = self.dtype_of[place]
        if 0 < gathered.unseen < torch.finfo(dtype).eps / 4:
            yield event(
                "rounded away",
                f"decay should take {gathered.unseen:.3g} of each weight per step, and nothing shows that it does.",
                f"A weight in {dtype_name(dtype)} times 1 − {gathered.unseen:.2g} rounds back to itself, and this "
                "optimizer is not known to keep what it rounds away.",
                "td.verify(optimizer) measures it; td.attach(optimizer, plan) with td.decoupled pays it.",
            )
        if gathered.outside > 0:
            yield event(
                "between steps",
                f"something shrank the weights by {gathered.outside:.3g} since the step before.",
                "It was not in the optimizer's step: a line of the training loop or a hook did it.",
                "Take it out, or put it into the plan and weight_decay to 0.",
            )
        growth = self._growth(place, step, row["weight_norm"])
        if growth is not None:
            yield event(
                "grows",
                f"the norm grew to {growth[0]:.3g} times what it was at step {growth[1]}, and goes on growing.",
                "Nothing pulls these weights back: going on, they end in overflow or in steps too small to matter."
                if not self.series[place].decay
                else "The decay is too weak to hold them against their updates.",
                "Look at what pulls them."
                if math.isnan(planned)
                else "Let them decay, or decay harder, where a norm follows them; else lower the learning rate.",
            )

    def _against_plan(self, place: int, gathered: Gathered, now: str) -> tuple[str, str, str, str] | None:
        """Kind, what, why and fix, where what was realized is not what was planned."""
        row, dtype = gathered.values, self.dtype_of[place]
        planned, realized = row["planned_shrink"], row["realized_shrink"]
        if not math.isnan(planned):
            # Of momentum, which holds what was planned before, only what this step adds can be held against the plan.
            planned, realized = gathered.prompt, gathered.at_once
        if math.isnan(planned) or math.isnan(realized) or not row["weight_norm"] > 0:
            return None
        if planned == 0 and dtype in LOW_PRECISION:
            # Rounding alone moves weights along themselves, too.
            return None
        unsure = _SURE * gathered.noise + _kernels_rounding(dtype, row["update_norm"] / row["weight_norm"])
        if abs(realized - planned) <= _OFF * planned + unsure:
            return None
        nothing = abs(realized) <= _OFF * planned + unsure
        took = "nothing" if nothing else f"{realized:.3g}"
        what = f"decay took {took} of each weight in this step, where {planned:.3g} was planned."
        said = f" By now {now}" if now else ""
        if planned < torch.finfo(dtype).eps and (nothing or dtype in LOW_PRECISION):
            return (
                "rounded away",
                what,
                f"A weight in {dtype_name(dtype)} times 1 − {planned:.2g} rounds back to itself, at every step.",
                "Let td.attach(optimizer, plan) carry the decay out: what rounds away is then paid later.",
            )
        if nothing:
            return (
                "lost",
                what,
                "It was planned and is not carried out: a checkpoint, a scheduler or a hand wrote another "
                f"weight_decay, or hooks were dropped.{said}",
                "Attach the plan again with td.attach; load checkpoints with td.load_optimizer.",
            )
        return (
            "differs",
            what,
            f"The weights that you end up with are not those that were planned.{said}",
            "td.verify(optimizer) measures each group by itself; td.audit looks for the cause.",
        )

    def _growth(self, place: int, step: int, norm: float) -> tuple[float, int] | None:
        """How many times larger a norm is than half-way, and when that was, if it grew ever since, no slower."""
        seen = self._norms[place]
        seen.append((step, norm))
        if len(seen) > 8 * _LEAST_RECORDS:
            # Every second one: the beginning must not be forgotten, nor the list grow.
            del seen[1:-1:2]
        half = next(i for i, (at, _) in enumerate(seen) if 2 * (at - seen[0][0]) >= step - seen[0][0])
        since = [value for _, value in seen[half:]]
        if step - seen[0][0] < _LEAST_STEPS or len(since) < _LEAST_RECORDS or norm < _DOUBLED * since[0]:
            return None
        grows = all(later > earlier for earlier, later in pairwise(since))
        return (norm / since[0] if since[0] > 0 else math.inf, seen[half][0]) if grows else None


def together(events: Iterable[Event]) -> list[Event]:
    """The alarms of one step, those of one kind as one that names all groups: they have one cause, as a rule."""
    by_kind: dict[str, list[Event]] = {}
    for event in events:
        by_kind.setdefault(event.kind, []).append(event)
    return [dataclasses.replace(first, more=tuple(one.group for one in rest)) for first, *rest in by_kind.values()]


def not_attached(group: str, pulled: Pulled, since: int) -> Event:
    """A plan that is not at work from the beginning, or since a step, up to which one was."""
    mark = pulled.values.get(MARK)
    why = f"{pulled.spoken} needs torchdecay.attach."
    if pulled.wiring == "hooks lost":
        why = "A plan was attached, and its hooks are gone: deepcopy and pickle drop them; attach it again."
    elif mark is not None:
        why = f'The group is marked "{mark}": it was built from a plan that torchdecay.attach never carried out.'
    return Event(
        step=since,
        kind="lost" if since else "not attached",
        group=group,
        what="decay was planned for these weights, and nothing carries it out" + (" any more." if since else "."),
        why=why,
        fix="Call td.attach(optimizer, plan) before training.",
    )


def no_steps(name: str) -> Event:
    """An optimizer that never stepped."""
    return Event(
        step=0,
        kind="no steps",
        group="",
        what=f"the {name} that is monitored took no step.",
        why="Another one trains: a copy of it, which has no hooks of the original, or one that was built later.",
        fix=f"Give td.Monitor the {name} whose step() is called.",
    )


def no_gradients(name: str, step: int, gone: int = 0) -> Event:
    """An optimizer whose weights nothing trains, or some of which are `gone` from the model."""
    none = f"none of the weights of the {name}"
    some = f"{gone} weights of the {name} are in no model any more: none of them"
    return Event(
        step=step,
        kind="no gradients",
        group="",
        what=f"{some if gone else none} had a gradient in step {step:,}.",
        why="The model trains others: it was wrapped or sharded after the optimizer was built.",
        fix="Shard the model first, then build the optimizer from its parameters.",
    )


def _kernels_rounding(dtype: torch.dtype, size: float) -> float:
    """By how much a kernel's own numbers may be off: 1 − f, and the update, of this size beside the weights."""
    eps = torch.finfo(torch.float64 if dtype is torch.float64 else torch.float32).eps
    return eps * ((1.0 if dtype is torch.float64 else 0.5) + 2 * size)
