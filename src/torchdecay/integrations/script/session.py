"""What goes on beside the training in one process: each optimizer is met at its first step, and then monitored."""

from __future__ import annotations

import atexit
import gc
import math
import os
import platform
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from torchdecay._version import __version__
from torchdecay.apply.handle import handle_of
from torchdecay.apply.stepping import step_depth
from torchdecay.findings.settings import AUDIT, MONITOR, Shape, read_settings
from torchdecay.integrations.script.applying import apply, follow, follow_load, load, met_by, names_in, refusal
from torchdecay.integrations.script.finding import (
    Surroundings,
    around_it,
    look_around,
    model_of,
    others_of,
    run_of,
    scheduler_of,
    unserved,
)
from torchdecay.integrations.script.folder import claim, shown
from torchdecay.integrations.script.guard import Guard, rank, say, unheard
from torchdecay.integrations.script.options import FAILING, Options
from torchdecay.observe.audit.audit import audit
from torchdecay.observe.forecast.forecast import forecast
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.layout import By
from torchdecay.observe.monitor.monitor import Monitor
from torchdecay.observe.recorded.planned import differences, plan_at_work
from torchdecay.observe.recorded.record import RunRecord, RunSummary, Seen, Stepped, Verdict
from torchdecay.observe.run import Run
from torchdecay.plans.plan import Plan
from torchdecay.reports.recorded import closing, opening
from torchdecay.text import counted, listing

_PATIENCE = 100
"""Steps of one optimizer that `--stop-after` waits for the first of another."""
_SHARE = 0.01
_LIVE = 60.0
"""Seconds from page to page under `--live`."""
"""Of the time since the first step, what pages may take."""
_AGAIN = 1.0
"""Seconds until a folder that can't be written is asked for again."""
_MOST = 20
"""Optimizers of a process that are looked at; where each task has one of its own, the rest are alike."""


@dataclass(eq=False, slots=True)
class Met:
    """An optimizer that took a step, and what is known of it. The optimizer is not kept alive for it.

    Attributes:
        is_plain: whether its later steps are only counted, but for that `before_last`.
    """

    optimizer: weakref.ref[Optimizer]
    about: Stepped
    seen: Seen
    model: weakref.ref[nn.Module] | None = None
    run: Run | None = None
    monitor: weakref.ref[Monitor] | None = None
    history: Callable[[], History] | None = None
    alone: bool = True
    depth: int = 0
    steps: int = 0
    looked: bool = False
    is_plain: bool = False
    before_last: int = -1
    stood: list[Any] = field(default_factory=list)


class Session:
    """What is seen of the optimizers of one process.

    Args:
        options: what was asked for.

    Attributes:
        pid: of the process; a fork has another, and begins anew.
    """

    def __init__(self, options: Options) -> None:
        self.options, self.pid = options, os.getpid()
        self.rank, self.world = rank()
        self.guard = Guard(speaks=self.rank == 0 and not options.quiet)
        self.folder: Path | None = None
        self._met: dict[int, Met] = {}
        self._all: list[Met] = []
        self._count = 0
        self._named: set[str] = set()
        # What lived before is not of what is watched, so nothing waits for it.
        self._earlier = weakref.WeakSet(look_around().optimizers if options.stop_after else ())
        self._created = _now()
        self._began = monotonic()
        self._spent, self._next_page, self._ended = 0.0, -math.inf, False

    @classmethod
    def begin(cls, environment: Mapping[str, str]) -> Session:
        """The session of this process, which ends with it."""
        from multiprocessing import util

        try:
            made = cls(Options.from_environment(environment))
        except ValueError as error:
            made = cls(Options())
            made.guard.note("the environment's variables were not understood", error)
        atexit.register(made.end)
        # Processes of multiprocessing leave without atexit.
        util.Finalize(None, made.end, exitpriority=0)
        return made

    # ── Steps ──

    def before(self, optimizer: Optimizer, *arguments: Any) -> None:
        """A step begins; one that is being compiled would be traced through here, and break: it is left alone."""
        if torch.compiler.is_compiling():
            return
        met = self._met.get(id(optimizer))
        if met is None or met.optimizer() is not optimizer:
            met = self._meet(optimizer)
        if met.depth and step_depth(optimizer) < 2:
            # The step before this one raised, so its end was never seen.
            met.depth = 0
        # Between the steps of a small model nothing of this is in a cache, so each line costs a part of a microsecond.
        if met.is_plain and met.steps != met.before_last:
            met.depth += 1
            return
        if self.options.stop_after and not met.depth and met.steps >= self.options.stop_after:
            self._stop(met)
        if met.about.applied and not met.depth:
            lost = f"{met.about.optimizer} is without --apply from here on"
            self.guard(lost, lambda: follow(optimizer, self.options))
            self._restore(met, optimizer)
        # What decay took is told up to the last record, so the last step has one, where anybody knows which it is.
        is_last = not met.depth and met.steps + 1 in (met.about.num_steps, self.options.stop_after)
        if is_last and (monitor := _alive(met.monitor)) is not None:
            self.guard("the last step has no record", monitor.record_next)
        met.depth += 1

    def _restore(self, met: Met, optimizer: Optimizer) -> None:
        """Undo what the script wrote into weight_decay since, which the plan owns; its handle would warn each time."""
        if handle_of(optimizer) is None or len(met.stood) != len(optimizer.param_groups):
            return
        for group, stood in zip(optimizer.param_groups, met.stood, strict=True):
            if isinstance(stood, (int, float)) and group.get("weight_decay") != stood:
                group["weight_decay"] = stood
                self.guard.tell(
                    f"the script writes weight_decay of {met.about.optimizer} as it goes, which changes nothing: "
                    f"--apply {met.about.applied} is at work in its place."
                )

    def _stop(self, met: Met) -> None:
        """End the script when every optimizer that lives took its steps; one that takes none is waited for a while."""

        def late() -> list[str]:
            gc.collect()
            done = [one.optimizer() for one in self._met.values() if one.steps >= self.options.stop_after]
            left = unserved([one for one in done if one is not None], look_around().optimizers)
            left = [one for one in left if one not in self._earlier]
            return [type(one).__name__ for one in left]

        waiting = self.guard("whether other optimizers are to step is not known", late)
        if not waiting:
            raise SystemExit(0)
        if met.steps >= self.options.stop_after + _PATIENCE:
            steps = counted(met.steps, "step")
            say(
                f"torchdecay: --stop-after {self.options.stop_after}: {listing(waiting)} did not take as many steps "
                f"while {met.about.optimizer} took {steps}."
            )
            raise SystemExit(2)

    def after(self, optimizer: Optimizer, *arguments: Any) -> None:
        """A step is over, be it one inside another."""
        if torch.compiler.is_compiling():
            return
        met = self._met.get(id(optimizer))
        if met is None or met.optimizer() is not optimizer:
            return
        met.depth = max(0, met.depth - 1)
        if met.depth:
            return
        met.steps += 1
        if met.about.applied:
            met.stood = [group.get("weight_decay") for group in optimizer.param_groups]
        if not met.looked:
            self._look(met, optimizer)
        if monotonic() > self._next_page:
            self._write()

    def _meet(self, optimizer: Optimizer) -> Met:
        """An optimizer's first step: what is needed from before it is over."""
        self._count += 1
        name = type(optimizer).__name__
        about = Stepped(number=self._count, optimizer=name)
        met = self._met[id(optimizer)] = Met(weakref.ref(optimizer), about, Seen())
        named = met_by(about.number, optimizer, self.options.optimizer)
        self._named |= named
        is_meant = bool(self.options.apply and (named or not names_in(self.options.optimizer)))
        met.looked = self._count > _MOST
        if not met.looked:
            self._all.append(met)
        elif self._count == _MOST + 1:
            self._say(lambda: [f"torchdecay: more than {_MOST} optimizers took steps: the others are only counted."])
        if self.options.optimizer and not named and not met.looked:
            self._say(lambda: [self._unnamed(name)])
        if met.looked and not is_meant:
            met.is_plain = not self.options.stop_after
            return met
        if self._count > 1:
            # Monitors and optimizers know each other, so what the script let go of waits for the collector.
            gc.collect()
        around = self.guard(f"{name} was not found among the script's objects", lambda: self._find(met, optimizer))
        if is_meant:
            self._apply(met, optimizer, around)
        if self.options.every and not met.looked:
            self.guard(f"the monitor of {name} could not begin", lambda: self._watch(met, optimizer))
        return met

    def _unnamed(self, name: str) -> str:
        """What is said before the first step of an optimizer that `--optimizer` does not name: the end may be far."""
        missing = [one for one in names_in(self.options.optimizer) if one not in self._named]
        keeps = ", and keeps its own decay" if self.options.apply else ""
        yet = f"; no {' or '.join(missing)} took a step yet" if missing else ""
        return f"torchdecay: {name} is not of --optimizer {self.options.optimizer}{keeps}{yet}."

    def _apply(self, met: Met, optimizer: Optimizer, around: Surroundings | None) -> None:
        """Another decay; what can't be done ends the script before its first step, as a wrong option would."""
        try:
            with unheard():
                scheduler = None if around is None else scheduler_of(optimizer, around.schedulers)
                applied, replaced = apply(optimizer, _alive(met.model), self.options, scheduler)
        except Exception as error:
            # The reason stands last: of a script that never began there is nothing to say.
            self.guard.speaks = False
            say(f"torchdecay: --apply {self.options.apply} can't be done on {met.about.optimizer}.", str(error))
            raise SystemExit(2) from None
        met.about = replace(met.about, applied=applied, replaced=replaced)
        if (handle := handle_of(optimizer)) is not None and handle.model is not None:
            # With what no module owns beside it.
            met.model = weakref.ref(handle.model)
        # A checkpoint may be loaded between a new group and its first step: the plan has to know the group by then.
        optimizer.register_load_state_dict_pre_hook(lambda one, state: follow_load(one, self.options), prepend=True)

    def _find(self, met: Met, optimizer: Optimizer) -> Surroundings:
        params = [param for group in optimizer.param_groups for param in group["params"]]
        met.about = replace(met.about, num_params=len(params), num_elements=sum(param.numel() for param in params))
        around = look_around()
        model = model_of(optimizer, around.modules)
        took = f"{around.seconds:.2f} s"
        if model is None:
            found = f"without a module: none that the garbage collector knows owns its parameters ({took})"
        else:
            held = {id(param) for param in model.parameters()}
            strangers = sum(id(param) not in held for param in params)
            found = f"found in {took}" + (f"; {counted(strangers, 'parameter')} in no part of it" if strangers else "")
            met.model = weakref.ref(model)
            met.alone = not others_of(optimizer, model, around.optimizers)
        met.about = replace(met.about, found=found, model="" if model is None else type(model).__name__)
        met.about = replace(met.about, around=tuple(around_it(optimizer, around)))
        met.run, known, length = run_of(optimizer, around, self.options.steps)
        met.about = replace(met.about, length=length, num_steps=known)
        met.before_last = known - 1
        return around

    def _watch(self, met: Met, optimizer: Optimizer) -> None:
        name, number, folder = met.about.optimizer, met.about.number, self._claimed()
        ignore, severity = self._meant("monitor", MONITOR)
        monitor = Monitor(
            optimizer,
            every_steps=self.options.every,
            path=None if folder is None else folder / f"history-{number}.jsonl",
            by=cast(By, self.options.by),
            model=_alive(met.model),
            on_error=lambda what, error: self.guard.note(f"the monitor of {name}: {what} failed", error),
            ignore=ignore,
            severity=severity,
        )
        met.monitor, met.history = weakref.ref(monitor), monitor.recorded

    def _meant(self, section: str, keys: Mapping[str, Shape]) -> tuple[Any, Any]:
        """What pyproject.toml leaves out, and the severities it gives."""
        said = self.guard("pyproject.toml was not followed", lambda: read_settings(section, keys)[1]) or {}
        return said.get("ignore", ()), said.get("severity", {})

    def _look(self, met: Met, optimizer: Optimizer) -> None:
        """Right after the first step, when gradients are there whoever made them."""
        met.looked, met.is_plain = True, not (met.about.applied or self.options.stop_after)
        name, model = met.about.optimizer, _alive(met.model)
        plan = self.guard(f"the plan of {name} could not be read", lambda: plan_at_work(optimizer, model))
        ignore, severity = self._meant("audit", AUDIT)
        found = self.guard(
            f"the audit of {name} failed",
            lambda: audit(optimizer, model=model, ignore=ignore, severity=severity).filter(
                # What another optimizer of the model has is in no group of this one.
                ignore=() if met.alone else ("WD104",)
            ),
        )
        ahead = None
        if met.run is not None:
            run = met.run
            ahead = self.guard(f"no forecast for {name}", lambda: forecast(optimizer, run=run, model=model))
        met.seen = Seen(plan, found, ahead)
        if self.options.plan and plan is not None:
            self.guard("--plan could not be read", lambda: self._compare(met, plan))
        if not met.about.applied:
            refuses = self.guard(f"what {name} could be given is not known", lambda: refusal(optimizer, model))
            met.about = replace(met.about, refuses=refuses or "")
        self._say(lambda: opening(self._stepped(met), met.seen))

    def _compare(self, met: Met, found: Plan) -> None:
        expected = load(self.options.plan, "describe")
        met.about = replace(met.about, differs=differences(expected, found, alone=met.alone))

    # ── Writing ──

    def record(self) -> RunRecord:
        """What was seen until now."""
        summary = RunSummary(
            run=self.options.run,
            command=self.options.command,
            created=self._created,
            written=_now(),
            ended=self._ended,
            versions={"torchdecay": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            process=(self.rank, self.world),
            optimizers=tuple(map(self._stepped, self._all)),
            notes=(*self.guard.notes, *self._uncounted()),
            verdict=self._verdict(),
            unmet=tuple(name for name in names_in(self.options.optimizer) if name not in self._named),
        )
        return RunRecord(summary, tuple(map(self._seen, self._all)))

    def _uncounted(self) -> list[str]:
        more = self._count - len(self._all)
        return [f"{counted(more, 'optimizer')} after the first {_MOST}: only counted."] if more else []

    def end(self) -> None:
        """The process ends: the last page, and what became of it all."""
        if self._ended or os.getpid() != self.pid:
            return
        self._ended = True
        for met in self._all:
            if not met.looked and (optimizer := met.optimizer()) is not None:
                # Its first step raised: what was wrong with it is worth knowing all the same.
                self._look(met, optimizer)
            if (monitor := _alive(met.monitor)) is not None:
                self.guard("a monitor could not be closed", monitor.close)
        page = self._write()
        self._say(lambda: closing(self.record(), "" if page is None else shown(page)))

    def _claimed(self) -> Path | None:
        """The folder, made when it is first needed; None where another process writes, or where it can't be made."""
        if self.folder is None and self.rank == 0 and self.options.out:
            self.folder = self.guard(
                f"{self.options.out} can't be written",
                lambda: claim(Path(self.options.out), self.options.run, overwrite=self.options.overwrite),
            )
        return self.folder

    def _write(self) -> Path | None:
        """Write all files and the page; where it is."""
        folder = self._claimed()
        if folder is None:
            self._next_page = monotonic() + _AGAIN
            return None
        began = monotonic()
        record = self.record()
        self.guard(f"{shown(folder)} can't be written", lambda: record.save(folder))
        page = self.guard("the page could not be made", lambda: _page(record, folder))
        cost = monotonic() - began
        self._spent += cost
        self._next_page = self._began + (self._spent + cost) / _SHARE
        if self.options.live:
            self._next_page = min(self._next_page, monotonic() + _LIVE)
        return page

    def _verdict(self) -> Verdict:
        """What `--fail-on` makes of it."""
        wanted = FAILING[self.options.fail_on]
        findings = [one for met in self._all if met.seen.audit is not None for one in met.seen.audit.findings]
        if any(one.severity in wanted for one in findings) or (wanted and any(met.about.differs for met in self._all)):
            return "found"
        lacking = any(met.looked and (met.seen.audit is None or met.seen.plan is None) for met in self._all)
        return "unknown" if lacking or not self._all else "fine"

    def _stepped(self, met: Met) -> Stepped:
        return replace(met.about, steps=met.steps)

    def _seen(self, met: Met) -> Seen:
        return replace(met.seen, history=None if met.history is None else met.history())

    def _say(self, lines: Callable[[], list[str]]) -> None:
        if self.guard.speaks:
            say(*(self.guard("what was seen could not be said", lines) or ()))


def _page(record: RunRecord, folder: Path) -> Path:
    from torchdecay.reports import report

    return report(record, folder, overwrite=True)


def _alive(reference: weakref.ref[Any] | None) -> Any:
    return None if reference is None else reference()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
