"""`Monitor`: record what decay does to a model while it trains."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay._version import __version__
from torchdecay.apply.handle import handle_of
from torchdecay.apply.ranks import in_turn, meet
from torchdecay.arguments import check_count
from torchdecay.errors import ApplyError, LoadError
from torchdecay.findings.choosing import Ignore
from torchdecay.findings.rule import Severity
from torchdecay.observe.groups import as_number, decay_of, optimizers_of
from torchdecay.observe.monitor.alarms import Alarms, no_gradients, no_steps, not_attached, together
from torchdecay.observe.monitor.blocks import Recorder
from torchdecay.observe.monitor.budget import Budget
from torchdecay.observe.monitor.carried import Carried
from torchdecay.observe.monitor.columns import packed
from torchdecay.observe.monitor.gather import gather
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.jsonl import Content, Head, Item, Writer, head_of, load
from torchdecay.observe.monitor.layout import By, Layout, Tracked, lay_out
from torchdecay.observe.monitor.meant import Meant
from torchdecay.observe.monitor.measured import Measured
from torchdecay.observe.monitor.modes import unheard_by_modes
from torchdecay.observe.monitor.outlets import KEPT, LEFT_OUT, MOST_FAILURES, Guard, Outlet, Told, to_writer
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.observe.monitor.reading import Reading, by_now
from torchdecay.observe.monitor.samples import batches
from torchdecay.observe.monitor.series import Event, Record, Series
from torchdecay.observe.monitor.watch import Watch
from torchdecay.optimizers.wrappers import torch_optimizer
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import ModelLike, one_model
from torchdecay.sharding import left_behind
from torchdecay.text import repr_quoted

LEAST_SAMPLE = 256
_HELD = 2
"""In how many records in a row a weight_decay must be the same to be no schedule's."""
_NOT_AT_WORK = ("not attached", "hooks lost")


class Monitor:
    r"""Record every so many steps what decay does, beside what it should do, and raise an alarm where they differ.

    With the weights θ, the decay's displacement d and the update's −u in one step, a record holds of each group
    ‖θ‖, ‖g‖, ‖d‖, ‖u‖, the cosine of d and −u, the rotation of each tensor, and the shrink, planned and realized:

    $$f_\text{planned} = c_t\lambda_t, \qquad
    f_\text{realized} = -\frac{\langle d, \theta\rangle}{\lVert\theta\rVert^2}$$

    d is measured around its own pass where `td.attach` makes one; where a fused kernel does both, it is the whole
    displacement less the update, which the optimizer's state tells; else it is taken as planned, and
    `history.of(group).source` says so. `td.verify` measures on small tensors and at once what this sees in the
    training itself. What is recorded: `History` and its `quantities`.

    Between records there is a counter, which reads nothing from the device. On a step with a record samples of the
    weights are kept until it is over. A step that a gradient scaler skips is none, as is one at learning rate 0.

    Args:
        optimizer: a torch optimizer, with an attached plan or without; or a list of them.
        every_steps: how many steps from record to record, at least 1; the first step has one too.
        path: a JSONL file that grows with each record; "run.jsonl".
        by: what makes a group: "role", "block" (a layer), "tensor", or a function from a parameter's name to a label.
            Weights with another decay are a group of their own always.
        plan: what should happen, where no plan is attached and the groups' own weight_decay is not it.
        model: for names, where the groups have no `param_names`; several models in a list or dict.
        writers: called with ({"group/quantity": number}, step) for each record: TensorBoard, WandB, MLflow, Comet
            and CSV of `torchdecay.integrations`, or any function; one that has a method `alarm` gets the alarms too.
        on_alarm: called with each `Event`, once for all groups of one step and kind; what it raises stops the training.
            Of several processes the first calls it, as it alone writes.
        on_every_rank: whether all of them call it: where it stops the training, say, and the others would wait.
        sample: about how many elements of each tensor displacements are measured on, at least 256; None is all.
            Norms are those of whole tensors always.
        if_exists: what to do where the file is there: "error", "append" (go on after its last step) or "replace".
        start: how many steps were taken before, for a run that goes on; "auto" asks the attached plan or the
            optimizer's state, and takes records of later steps, which are taken again, out of a file that it goes on.
        strict: whether a file or a writer that fails, or a step that can't be measured, stops the training. Else there
            is one warning, records are kept in memory, and what failed is tried again; a writer that fails three
            times in a row is left out.
        on_error: called in place of that warning, with what failed and the exception.
        ignore: codes or prefixes of alarms that are not raised; or for each globs of groups that are meant so,
            {"WD605": ["norm*"]}.
        severity: code or prefix → "error", "warning" or "info", in place of the catalog's.

    Attributes:
        history: what was recorded so far, as a `History`.

    Raises:
        ApplyError: something that is no torch optimizer, or a number outside its range; or other processes that have
            parts of the weights have made no monitor in two minutes: all of them measure.
        PlanError: an unknown code or severity.
        LoadError: the file is there already, is no history, or can't be written; on every process then.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.5)
        >>> with td.Monitor(optimizer, model=model, on_alarm=lambda event: print(event.kind, event.groups)) as monitor:
        ...     model(torch.randn(8, 4)).square().mean().backward()
        ...     optimizer.step()
        dominates ('weight', 'bias')
    """

    def __init__(
        self,
        optimizer: Optimizer | Iterable[Optimizer],
        *,
        every_steps: int = 100,
        path: str | Path | None = None,
        by: By | Callable[[str], str] = "role",
        plan: Plan | None = None,
        model: ModelLike = None,
        writers: Sequence[Callable[[Mapping[str, float], int], Any]] = (),
        on_alarm: Callable[[Event], Any] | None = None,
        on_every_rank: bool = False,
        sample: int | None = 65_536,
        if_exists: Literal["error", "append", "replace"] = "error",
        start: int | Literal["auto"] = 0,
        strict: bool = False,
        on_error: Told | None = None,
        ignore: Ignore = (),
        severity: Mapping[str, Severity] | None = None,
    ) -> None:
        check_count(every_steps, "every_steps")
        begins = 0 if start == "auto" else check_count(start, "start", minimum=0)
        if sample is not None:
            check_count(sample, "sample", minimum=LEAST_SAMPLE)
        if if_exists not in ("error", "append", "replace"):
            raise ApplyError(f"if_exists is {if_exists!r}.", fix='Write "error", "append" or "replace".')
        self.every_steps = every_steps
        self._by, self._plan, self._model, self._sample = by, plan, one_model(model), sample
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        # Of processes that train together one writes; all of them measure, for sums go over all.
        leads = alone or torch.distributed.get_rank() == 0
        self._on_alarm, self._meant = on_alarm if leads or on_every_rank else None, Meant(ignore, severity or {})
        versions = {"torchdecay": __version__, "torch": str(torch.__version__)}
        optimizers = [torch_optimizer(one) for one in optimizers_of(optimizer)]
        about = _about(optimizers, self._model, path)
        self._head = Head(every_steps, datetime.now(timezone.utc).isoformat(timespec="seconds"), versions, about)
        self._seen = Content()
        named = [f"{type(one).__name__} {i}, " if len(optimizers) > 1 else "" for i, one in enumerate(optimizers, 1)]
        self._on_error = on_error
        guard = partial(Guard, strict=strict, on_error=on_error)
        self._guard = guard("measuring a step", "That step has no record.")
        self._states = [_State(one, self, prefix) for one, prefix in zip(optimizers, named, strict=True)]
        self._items: list[Item] = [self._head]
        self._outlets: list[Outlet] = []
        if start == "auto":
            begins = max(map(_steps_taken, optimizers))
        meet("td.Monitor", (member.param for state in self._states for member in state.members))
        if path is not None:
            opened = partial(self._open, Path(path), if_exists, begins, again=start == "auto", leads=leads)
            file, begins = in_turn(f"td.Monitor on {path}", opened, leads=leads)
            if file is not None:
                self._outlets.append(Outlet(guard(f"writing {repr_quoted(str(path))}", KEPT), file, file.close))
        for writer in writers if leads else ():
            name = getattr(writer, "__qualname__", type(writer).__qualname__)
            close = getattr(writer, "close", lambda: None)
            send = to_writer(writer, self._seen)
            self._outlets.append(
                Outlet(guard(f"the writer {name}", LEFT_OUT), send, close, most_failures=MOST_FAILURES)
            )
        self._send()
        for state in self._states:
            state.begin(begins)

    @property
    def history(self) -> History:
        """What was recorded so far."""
        return _history(self._head, self._seen)

    @property
    def recorded(self) -> Callable[[], History]:
        """Asks for `history` later, and keeps nothing else of the monitor alive until then: no weights, no hooks."""
        return partial(_history, self._head, self._seen)

    @property
    def steps(self) -> int:
        """Steps taken so far, of the optimizer that took most; asks the device whether any were skipped."""
        return max(state.steps for state in self._states)

    def record_next(self) -> None:
        """Record the next step too, whatever its number: the last one of a run, say."""
        for state in self._states:
            state.record_next()

    def close(self) -> None:
        """Stop: hooks gone, files closed. Calling it twice is fine."""
        idle = [type(state.optimizer).__name__ for state in self._states if state.end()]
        for name in idle:
            self._alarm(no_steps(name))
        for outlet in self._outlets:
            outlet.close(self._items)
        self._outlets = []

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Monitor, every {self.every_steps} steps: {self.history!r}>"

    def _open(self, path: Path, if_exists: str, start: int, *, again: bool, leads: bool) -> tuple[Writer | None, int]:
        """The file, and the number of steps that were taken before."""
        if leads and if_exists != "error" and path.is_file() and not path.stat().st_size:
            # A full disk leaves a file without its first line.
            path.unlink()
        proceed = path.exists() and if_exists == "append"
        if proceed:
            self._head, self._seen = load(path)
            self._items = []
            last = self._seen.records.last
            start = start or last
            if again and start < last:
                kept = self.history.select(steps=(0, start))
                self._seen = Content(list(kept.series), Recorder(kept.records), list(kept.events))
                if leads:
                    kept.save(path)
        elif path.exists() and if_exists == "error" and leads:
            raise LoadError(
                f"{repr_quoted(str(path))} is there already.",
                "It may be the history of another run.",
                'Name another file, or say if_exists="append" to go on with it, if_exists="replace" to lose it.',
            )
        elif path.exists() and leads:
            head_of(path)
            path.unlink()
        return Writer(path, proceed=proceed) if leads else None, start

    def _add(self, item: Sequence[Series] | Record | Event) -> None:
        self._seen.add(item)
        self._items.append(item)

    def _send(self) -> None:
        for outlet in self._outlets:
            outlet.catch_up(self._items)
        # What all have is kept as numbers only, which take a tenth of the memory.
        count = min((outlet.taken(self._items) for outlet in self._outlets), default=len(self._items))
        del self._items[:count]
        for outlet in self._outlets:
            outlet.forget(count)

    def _alarm(self, event: Event) -> None:
        told = self._meant.told(event)
        if told is None:
            return
        self._add(told)
        self._send()
        if self._on_alarm is not None:
            self._on_alarm(told)


def _steps_taken(optimizer: Optimizer) -> int:
    """By the plan that is attached, else by what the optimizer has counted; 0 where nobody has."""
    handle = handle_of(optimizer)
    if handle is not None:
        return max(map(handle.steps, range(len(optimizer.param_groups))), default=0)
    counts = [as_number(state.get("step")) for state in optimizer.state.values() if isinstance(state, Mapping)]
    return int(max((count for count in counts if count is not None), default=0))


def _about(optimizers: Sequence[Optimizer], model: nn.Module | None, path: str | Path | None) -> dict[str, str]:
    """What is recorded, in words, as far as it is known."""
    script = Path(sys.argv[0] if sys.argv else "")
    known = {
        "optimizer": " and ".join(type(one).__name__ for one in optimizers),
        "model": "" if model is None else type(model).__name__,
        "command": shlex.join([script.name, *sys.argv[1:]]) if script.suffix == ".py" else "",
        "file": "" if path is None else str(path),
    }
    return {name: value for name, value in known.items() if value}


def _history(head: Head, seen: Content) -> History:
    return History(series=tuple(seen.series), records=seen.records.records(), events=tuple(seen.events), **head.fields)


class _State:
    """One optimizer under a monitor."""

    def __init__(self, optimizer: Optimizer, monitor: Monitor, prefix: str) -> None:
        self.optimizer, self.monitor, self.prefix = optimizer, monitor, prefix
        self._watch: Watch | None = None
        self._taken = 0
        self._left: list[Tensor] = []
        self._budget, self._skips = Budget(), 0
        self._follow()

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
        monitor = self.monitor

        def guarded(step: int, measured: list[Measured]) -> None:
            monitor._guard.does(lambda: self._record(step, measured))

        self._watch = Watch(
            self.optimizer, every_steps=monitor.every_steps, start=start, read=self._read,
            # Without anybody to tell, what on_alarm raises stops the training, which is what it may be for.
            record=self._record if monitor._on_error is None else guarded,
            leave=self._leave, see=self._see, guard=monitor._guard.does,
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
        monitor, self._handle = self.monitor, handle_of(self.optimizer)
        self._plan = None if self._handle is None else self._handle.plan
        self._layout = lay_out(
            self.optimizer, self._handle, plan=monitor._plan, model=monitor._model, by=monitor._by, prefix=self.prefix
        )
        if not self._layout.members:
            raise ApplyError(f"the {type(self.optimizer).__name__} has no weights to monitor.")
        self._batches, self._left = batches(self._layout.members, monitor._sample), []
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
                self.monitor._guard.does(carried.follow)
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
        monitor, events = self.monitor, list[Event]()
        # Only what on_alarm raises may stop the training.
        with unheard_by_modes():
            is_kept = monitor._guard.does(lambda: events.extend(self._recorded(step, measured)))
        if is_kept:
            monitor._send()
        for event in events:
            monitor._alarm(event)

    def _recorded(self, step: int, measured: list[Measured]) -> list[Event]:
        """Keep the record of a step; the alarms that begin with it."""
        layout, monitor, events = self._layout, self.monitor, list[Event]()
        if not self._is_told:
            self._is_told = True
            layout.first = len(monitor._seen.series)
            monitor._add(layout.series)
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
        monitor._add(Record(step=step, first=layout.first, columns=kept, unmeasured=unmeasured))
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
