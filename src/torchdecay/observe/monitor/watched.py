"""One optimizer under a monitor: what is measured of it, when, and what of that is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.handle import handle_of
from torchdecay.errors import ApplyError
from torchdecay.observe.groups import as_number, decay_of
from torchdecay.observe.monitor.alarms import Alarms, no_gradients, not_attached, together
from torchdecay.observe.monitor.budget import Budget
from torchdecay.observe.monitor.carried import Carried
from torchdecay.observe.monitor.columns import packed
from torchdecay.observe.monitor.gather import gather
from torchdecay.observe.monitor.layout import By, Layout, Tracked, lay_out
from torchdecay.observe.monitor.measured import Measured
from torchdecay.observe.monitor.modes import unheard_by_modes
from torchdecay.observe.monitor.outlets import Guard
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.observe.monitor.reading import Reading, by_now
from torchdecay.observe.monitor.samples import batches
from torchdecay.observe.monitor.series import Event, Record
from torchdecay.observe.monitor.store import Store
from torchdecay.observe.monitor.watch import Watch
from torchdecay.plans.plan import Plan
from torchdecay.sharding import left_behind

_HELD = 2
"""In how many records in a row a weight_decay must be the same to be no schedule's."""
_NOT_AT_WORK = ("not attached", "hooks lost")


class Settings(NamedTuple):
    """What a monitor was told of all its optimizers; see there."""

    every_steps: int
    by: By | Callable[[str], str]
    plan: Plan | None
    model: nn.Module | None
    sample: int | None


class Watched:
    """One optimizer under a monitor.

    Args:
        optimizer: which.
        settings: of the monitor.
        store: takes records and alarms.
        guard: does what may fail.
        prefix: before the names of groups.
        raises: whether what `on_alarm` raises stops the training.

    Attributes:
        owner: the monitor, which lives as long as its hooks do, also where nobody else keeps it.
    """

    def __init__(
        self, optimizer: Optimizer, settings: Settings, store: Store, guard: Guard, prefix: str, *, raises: bool
    ) -> None:
        self.optimizer, self._common, self._store, self._guard = optimizer, settings, store, guard
        self._prefix, self._raises = prefix, raises
        self._watch: Watch | None = None
        self.owner: object = None
        self._taken = 0
        self._left: list[Tensor] = []
        self._budget, self._skips = Budget(), 0
        self._follow()

    def name_by(self, model: nn.Module) -> None:
        """Name what is laid out from here on by another model: one that grew, say."""
        self._common = self._common._replace(model=model)

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self._taken if self._watch is None else self._watch.steps

    @property
    def members(self) -> Sequence[Tracked]:
        """What is measured of it."""
        return self._layout.members

    def begin(self, start: int) -> None:
        """Hook the optimizer."""

        def guarded(step: int, measured: list[Measured]) -> None:
            self._guard.does(lambda: self._record(step, measured))

        self._watch = Watch(
            self.optimizer, every_steps=self._common.every_steps, start=start, read=self._read,
            # Without anybody to tell, what on_alarm raises stops the training, which is what it may be for.
            record=self._record if self._raises else guarded,
            leave=self._leave, see=self._see, guard=self._guard.does,
        )  # fmt: skip

    def record_next(self) -> None:
        """Have the next step recorded."""
        if self._watch is not None:
            self._watch.read_next()

    def end(self) -> bool:
        """Unhook it; whether it was hooked, and never stepped."""
        watch, self._watch = self._watch, None
        if watch is None:
            return False
        watch.remove()
        self._taken = watch.steps
        return not watch.has_stepped

    def _follow(self, was: Layout | None = None) -> None:
        """Lay the optimizer out as it is by now."""
        common, self._handle = self._common, handle_of(self.optimizer)
        self._plan = None if self._handle is None else self._handle.plan
        self._layout = lay_out(
            self.optimizer, self._handle, plan=common.plan, model=common.model, by=common.by, prefix=self._prefix
        )
        if not self._layout.members:
            raise ApplyError(f"the {type(self.optimizer).__name__} has no weights to monitor.")
        self._batches, self._left = batches(self._layout.members, common.sample), []
        self._carried = Carried(self.optimizer, self._batches, self._coefficient, self._budget)
        known = {} if was is None else {id(member.param): member.invariant for member in was.members}
        self._had_plan = was is not None and any(member.pulled.wiring == "attached" for member in was.members)
        for member in self._layout.members:
            member.invariant = known.get(id(member.param))
        self._settings = self._setting()
        self._held = [(as_number(value), 0) for value in self._settings]
        self._moving, self._perhaps = set[int](), set[int]()
        if was is not None and was.series == self._layout.series:
            self._layout.first = was.first
        else:
            self._alarms, self._is_told = Alarms(self._layout), False

    def _read(self) -> Reading:
        handle = handle_of(self.optimizer)
        # Attached, updated or removed since: it is the plan at work which counts.
        is_another = handle is not self._handle or (handle is not None and handle.plan is not self._plan)
        if is_another or self._layout.is_outdated(self.optimizer):
            self._follow(self._layout)
        left, self._left = self._left, []
        skips = 0 if self._watch is None else self._watch.skips
        if skips != self._skips:
            self._skips = skips
            self._carried.interrupt("a gradient scaler had steps skipped since the record before")
        setting = self._setting()
        self._see_moving(setting)
        settings = enumerate(zip(setting, self._settings, strict=True))
        changed = {index for index, (now, was) in settings if now is not was and now != was}
        return Reading(
            self.optimizer, self._layout, self._batches, self._handle, left,
            changed, self._moving | self._perhaps, self._budget, self._carried,
        )  # fmt: skip

    def _see(self, step: int, steps_left: int) -> int:
        carried = self._carried
        if carried.is_due(step, steps_left):
            with unheard_by_modes():
                self._guard.does(carried.follow)
        return carried.next_due(steps_left)

    def _coefficient(self, like: Tracked) -> float:
        """λ of a coupled decay in the step that comes: the plan's, or what the group says."""
        group = self.optimizer.param_groups[like.group]
        if like.pulled.wiring == "attached":
            return by_now(like.pulled, self._handle).coefficient(float(group["lr"]))
        return as_number(decay_of(self.optimizer, group)[1]) or 0.0

    def _see_moving(self, setting: Sequence[Any]) -> None:
        """Which groups' weight_decay is scheduled by hand: a jump to or from 0, of a value that held, is none."""
        for index, (value, (was, times)) in enumerate(zip(setting, self._held, strict=True)):
            now = as_number(value)
            if now != was and was and now:
                self._moving.add(index)
            elif now != was and times < _HELD:
                self._perhaps.add(index)
            elif times >= _HELD:
                self._perhaps.discard(index)
            self._held[index] = (now, times + 1 if now == was else 1)

    def _leave(self) -> None:
        """Remember the weights, to see what else moves them before the next step."""
        self._left = [batch.kept([member.param for member in batch.members]) for batch in self._batches]

    def _record(self, step: int, measured: list[Measured]) -> None:
        events = list[Event]()
        # Only what on_alarm raises may stop the training.
        with unheard_by_modes():
            is_kept = self._guard.does(lambda: events.extend(self._recorded(step, measured)))
        if is_kept:
            self._store.send()
        for event in events:
            self._store.alarm(event)

    def _recorded(self, step: int, measured: list[Measured]) -> list[Event]:
        """Keep the record of a step; the alarms that begin with it."""
        layout, events = self._layout, list[Event]()
        if not self._is_told:
            self._is_told = True
            layout.first = self._store.num_series
            self._store.add(layout.series)
            lost = {one.series: one.pulled for one in layout.members if one.pulled.wiring in _NOT_AT_WORK}
            since = step if self._had_plan else 0
            idle = [member.param for member in layout.members if member.param.grad is None]
            if len(idle) == len(layout.members):
                events.append(no_gradients(type(self.optimizer).__name__, step))
            elif gone := left_behind(idle, are_idle=True):
                events.append(no_gradients(type(self.optimizer).__name__, step, len(gone)))
            events += together(not_attached(layout.series[i].name, lost[i], since) for i in sorted(lost))
        rows = gather(self.optimizer, layout, measured, self._carried.every)
        events += self._alarms.look(step, rows, self._changed())
        columns = ((name, [row.values[name] for row in rows]) for name in QUANTITIES)
        kept = {name: packed(own) for name, own in columns if name == "weight_norm" or any(x == x for x in own)}
        unmeasured = {one.name: row.unmeasured for one, row in zip(layout.series, rows, strict=True) if row.unmeasured}
        self._store.add(Record(step=step, first=layout.first, columns=kept, unmeasured=unmeasured))
        return events

    def _setting(self) -> list[Any]:
        return [decay_of(self.optimizer, group)[1] for group in self.optimizer.param_groups]

    def _changed(self) -> str:
        """What groups say by now about decay, where that is not what they said at the beginning."""
        if self._handle is not None:
            return ""
        told = [
            f"group {index} says weight_decay={now!r}, and it said {before!r}"
            for index, (before, now) in enumerate(zip(self._settings, self._setting(), strict=False))
            if before is not now and before != now
        ]
        return "; ".join(told[:3]) + "." if told else ""
