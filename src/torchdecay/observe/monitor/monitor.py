"""`Monitor`: record what decay does to a model while it trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from torchdecay._version import __version__
from torchdecay.apply.handle import handle_of
from torchdecay.arguments import check_count
from torchdecay.errors import ApplyError, LoadError
from torchdecay.observe.groups import optimizers_of
from torchdecay.observe.monitor.alarms import Alarms, no_steps, not_attached
from torchdecay.observe.monitor.columns import is_empty, packed
from torchdecay.observe.monitor.gather import duals_of, gather
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.jsonl import Content, Head, Writer, load
from torchdecay.observe.monitor.layout import By, Layout, lay_out
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.observe.monitor.reading import Measured, Reading
from torchdecay.observe.monitor.series import Event, Record
from torchdecay.observe.monitor.watch import Watch
from torchdecay.optimizers.wrappers import torch_optimizer
from torchdecay.plans.plan import Plan
from torchdecay.text import repr_quoted

LEAST_SAMPLE = 256


class Monitor:
    r"""Record every so many steps what decay does, beside what it should do, and raise an alarm where they part.

    With the weights θ, the decay's displacement d and the update's −u in one step, a record holds of each group
    ‖θ‖, ‖g‖, ‖d‖, ‖u‖, the cosine of d and −u, the rotation of each tensor, and the shrink, planned and realized:

    $$f_\text{planned} = c_t\lambda_t, \qquad
    f_\text{realized} = -\frac{\langle d, \theta\rangle}{\lVert\theta\rVert^2}$$

    d is measured around its own pass where `td.attach` makes one; where a fused kernel does both, it is the whole
    displacement less the update, which the optimizer's state tells; else it is taken as planned, and
    `history.of(group).source` says so. `td.verify` measures on small tensors and at once what this sees in the
    training itself. What is recorded: `History` and its `quantities`.

    Between records there is a counter, and the device is never waited for. On a step with a record samples of the
    weights are kept until it is over. A step that a gradient scaler skips is none, as is one at learning rate 0.

    Args:
        optimizer: a torch optimizer, with an attached plan or without; or a list of them.
        every_steps: how many steps from record to record, at least 1; the first step has one too.
        path: a JSONL file that grows with each record; "run.jsonl".
        by: what makes a group: "role", "block" (a layer), "tensor", or a function from a parameter's name to a label.
            Weights with another decay are a group of their own always.
        plan: what should happen, where no plan is attached and the groups' own weight_decay is not it.
        model: for names, where the groups have no `param_names`.
        writers: called with ({"group/quantity": number}, step) for each record: `wandb.log` fits, and
            `torchdecay.integrations.tensorboard.TensorBoard`; one that has a method `alarm` gets the alarms too.
        on_alarm: called with each `Event`; what it raises stops the training.
        sample: about how many elements of each tensor displacements are measured on, at least 256; None is all.
            Norms are those of whole tensors always.
        if_exists: what to do where the file is there: "error", "append" (go on after its last step) or "replace".
        start: how many steps were taken before, for a run that goes on.

    Attributes:
        history: what was recorded so far, as a `History`.

    Raises:
        ApplyError: something that is no torch optimizer, or a number outside its range.
        LoadError: the file is there already, is no history, or can't be written.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.5)
        >>> with td.Monitor(optimizer, model=model, on_alarm=lambda event: print(event.kind, event.group)) as monitor:
        ...     model(torch.randn(8, 4)).square().mean().backward()
        ...     optimizer.step()
        dominates weight
        dominates bias
    """

    def __init__(
        self,
        optimizer: Optimizer | Iterable[Optimizer],
        *,
        every_steps: int = 100,
        path: str | Path | None = None,
        by: By | Callable[[str], str] = "role",
        plan: Plan | None = None,
        model: nn.Module | None = None,
        writers: Sequence[Callable[[Mapping[str, float], int], Any]] = (),
        on_alarm: Callable[[Event], Any] | None = None,
        sample: int | None = 65_536,
        if_exists: Literal["error", "append", "replace"] = "error",
        start: int = 0,
    ) -> None:
        check_count(every_steps, "every_steps")
        check_count(start, "start", minimum=0)
        if sample is not None:
            check_count(sample, "sample", minimum=LEAST_SAMPLE)
        if if_exists not in ("error", "append", "replace"):
            raise ApplyError(f"if_exists is {if_exists!r}.", fix='Write "error", "append" or "replace".')
        self.every_steps = every_steps
        self._by, self._plan, self._model, self._sample = by, plan, model, sample
        self._on_alarm = on_alarm
        self._head = Head(every_steps, datetime.now(timezone.utc).isoformat(timespec="seconds"), _versions())
        self._seen = Content()
        optimizers = [torch_optimizer(one) for one in optimizers_of(optimizer)]
        named = [f"{type(one).__name__} {i}, " if len(optimizers) > 1 else "" for i, one in enumerate(optimizers, 1)]
        self._states = [_State(one, self, prefix) for one, prefix in zip(optimizers, named, strict=True)]
        # Of processes that train together one writes; all of them measure, for sums go over all.
        leads = not (torch.distributed.is_available() and torch.distributed.is_initialized()) or (
            torch.distributed.get_rank() == 0
        )
        self._writers = list(writers) if leads else []
        self._file: Writer | None = None
        if path is not None:
            start = self._open(Path(path), if_exists, start, leads=leads)
        for state in self._states:
            state.begin(start)

    @property
    def history(self) -> History:
        """What was recorded so far."""
        seen = self._seen
        return History(
            series=tuple(seen.series), records=tuple(seen.records), events=tuple(seen.events), **vars(self._head)
        )

    @property
    def steps(self) -> int:
        """Steps taken so far, of the optimizer that took most; asks the device whether any were skipped."""
        return max(state.steps for state in self._states)

    def close(self) -> None:
        """Stop: hooks gone, files closed. Calling it twice is fine."""
        for state in self._states:
            if state.end() and not state.has_stepped:
                self._alarm(no_steps(type(state.optimizer).__name__))
        if self._file is not None:
            self._file.close()
            self._file = None
        for writer in self._writers:
            if callable(finish := getattr(writer, "close", None)):
                finish()
        self._writers = []

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Monitor, every {self.every_steps} steps: {self.history!r}>"

    def _open(self, path: Path, if_exists: str, start: int, *, leads: bool) -> int:
        """Open the file; the number of steps that were taken before."""
        proceed = path.exists() and if_exists == "append"
        if proceed:
            self._head, self._seen = load(path)
            start = start or max((record.step for record in self._seen.records), default=0)
        elif path.exists() and if_exists == "error" and leads:
            raise LoadError(
                f"{repr_quoted(str(path))} is there already.",
                "It may be the history of another run.",
                'Name another file, or say if_exists="append" to go on with it, if_exists="replace" to lose it.',
            )
        if leads:
            if if_exists == "replace":
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
            self._file = Writer(path, None if proceed else self._head)
        return start

    def _add_series(self, layout: Layout) -> None:
        layout.first = len(self._seen.series)
        self._seen.series += layout.series
        if self._file is not None:
            self._file.series(layout.series)

    def _add_record(self, step: int, layout: Layout, rows: Sequence[Mapping[str, float]], events: list[Event]) -> None:
        columns = {name: packed(row[name] for row in rows) for name in QUANTITIES}
        kept = {name: column for name, column in columns.items() if name == "weight_norm" or not is_empty(column)}
        record = Record(step=step, first=layout.first, columns=kept)
        self._seen.records.append(record)
        if self._file is not None:
            self._file.record(record)
        if self._writers:
            flat = {
                f"{one.name}/{name}": row[name]
                for one, row in zip(layout.series, rows, strict=True)
                for name in QUANTITIES
                if row[name] == row[name]
            }
            for writer in self._writers:
                writer(flat, step)
        for event in events:
            self._alarm(event)

    def _alarm(self, event: Event) -> None:
        self._seen.events.append(event)
        if self._file is not None:
            self._file.event(event)
        for writer in self._writers:
            if callable(tell := getattr(writer, "alarm", None)):
                tell(event)
        if self._on_alarm is not None:
            self._on_alarm(event)


class _State:
    """One optimizer under a monitor."""

    def __init__(self, optimizer: Optimizer, monitor: Monitor, prefix: str) -> None:
        self.optimizer, self.monitor, self.prefix = optimizer, monitor, prefix
        self.handle = handle_of(optimizer)
        self.layout = self._lay_out()
        self.has_stepped = False
        self._plan_at_work = None if self.handle is None else self.handle.plan
        self._is_told = False
        self._watch: Watch | None = None
        self._settings = self._setting()

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return 0 if self._watch is None else self._watch.steps

    def begin(self, start: int) -> None:
        """Hook the optimizer."""
        self._watch = Watch(
            self.optimizer, every_steps=self.monitor.every_steps, start=start, read=self._read, record=self._record
        )
        self._alarms = Alarms(self.layout.series, _dtypes(self.layout))

    def end(self) -> bool:
        """Unhook it; whether it was hooked."""
        watch, self._watch = self._watch, None
        if watch is not None:
            self.has_stepped = watch.has_stepped
            watch.remove()
        return watch is not None

    def _lay_out(self) -> Layout:
        layout = lay_out(
            self.optimizer, self.handle, plan=self.monitor._plan, model=self.monitor._model, by=self.monitor._by,
            prefix=self.prefix,
        )  # fmt: skip
        if not layout.members:
            raise ApplyError(f"the {type(self.optimizer).__name__} has no weights to monitor.")
        return layout

    def _read(self) -> Reading:
        handle = handle_of(self.optimizer)
        if handle is not None and (handle is not self.handle or handle.plan is not self._plan_at_work):
            # Attached or updated since: another plan is at work, and it is that one which counts.
            self.handle, self._plan_at_work = handle, handle.plan
            self._follow()
        elif self.layout.is_outdated(self.optimizer):
            self._follow()
        return Reading(self.optimizer, self.layout, self.handle, self.monitor._sample)

    def _follow(self) -> None:
        known = {id(member.param): member.invariant for member in self.layout.members}
        was, self.layout = self.layout, self._lay_out()
        for member in self.layout.members:
            member.invariant = known.get(id(member.param))
        self._settings = self._setting()
        if self.layout.series == was.series:
            self.layout.first = was.first
        else:
            self._alarms = Alarms(self.layout.series, _dtypes(self.layout))
            self._is_told = False

    def _record(self, step: int, measured: list[Measured]) -> None:
        layout = self.layout
        events = []
        if not self._is_told:
            self._is_told = True
            self.monitor._add_series(layout)
            events += self._unattached()
        rows = gather(self.optimizer, layout, measured, duals_of(self.handle, layout.members))
        # Cautious decay leaves alone what it leaves alone, and momentum spreads a coupled pull over steps.
        exact = [True] * len(layout.series)
        for member in layout.members:
            if member.is_cautious:
                exact[member.series] = False
        events += self._alarms.look(step, rows, exact, self._changed())
        self.monitor._add_record(step, layout, [row.values for row in rows], events)

    def _unattached(self) -> list[Event]:
        found: dict[str, Event] = {}
        for member in self.layout.members:
            if member.pulled.wiring in ("not attached", "hooks lost"):
                name = self.layout.series[member.series].name
                found.setdefault(name, not_attached(name, member.pulled))
        return list(found.values())

    def _setting(self) -> list[Any]:
        return [group.get("weight_decay") for group in self.optimizer.param_groups]

    def _changed(self) -> str:
        """What groups say by now about decay, where that is not what they said at the beginning."""
        if self.handle is not None:
            return ""
        told = [
            f"group {index} says weight_decay={now!r}, and it said {before!r}"
            for index, (before, now) in enumerate(zip(self._settings, self._setting(), strict=False))
            if before is not now and before != now
        ]
        return "; ".join(told[:3]) + "." if told else ""


def _dtypes(layout: Layout) -> list[torch.dtype]:
    """The coarsest dtype of each series."""
    coarsest: list[torch.dtype | None] = [None] * len(layout.series)
    for member in layout.members:
        now, own = coarsest[member.series], member.param.dtype
        if now is None or torch.finfo(own).eps > torch.finfo(now).eps:
            coarsest[member.series] = own
    return [one or torch.float32 for one in coarsest]


def _versions() -> dict[str, str]:
    return {"torchdecay": __version__, "torch": str(torch.__version__)}
