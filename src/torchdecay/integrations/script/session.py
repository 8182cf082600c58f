"""What goes on beside the training in one process: each optimizer is met at its first step, and then monitored."""

from __future__ import annotations

import atexit
import gc
import os
import platform
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchdecay._version import __version__
from torchdecay.apply.handle import handle_of
from torchdecay.apply.stepping import step_depth
from torchdecay.integrations.script.applying import apply, follow, follow_load, met_by, names_in, widened
from torchdecay.integrations.script.configured import Configured
from torchdecay.integrations.script.ending import Ending
from torchdecay.integrations.script.finding import Surroundings, look_around, scheduler_of
from torchdecay.integrations.script.folder import shown
from torchdecay.integrations.script.guard import Guard, rank, say, unheard
from torchdecay.integrations.script.loads import LOST, follow_loads
from torchdecay.integrations.script.looking import find, look, look_back, watch
from torchdecay.integrations.script.met import Met, alive
from torchdecay.integrations.script.options import FAILING, Options
from torchdecay.integrations.script.pages import Pages
from torchdecay.observe.recorded.record import RunRecord, RunSummary, Seen, Stepped, Verdict
from torchdecay.reports.recorded import closing, opening
from torchdecay.text import counted

_MOST = 20
"""Optimizers of a process that are looked at; where each task has one of its own, the rest are alike."""


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
        self._pages = Pages(options, self.guard, writes=self.rank == 0)
        self._configured = Configured()
        self._loads: list[RemovableHandle] = []
        self._met: dict[int, Met] = {}
        self._all: list[Met] = []
        self._count = 0
        self._named: set[str] = set()
        self._ending = Ending(options, self.guard)
        self._created = _now()
        self._ended = False

    @property
    def folder(self) -> Path | None:
        """Where its files are; None until there are some."""
        return self._pages.folder

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
        if met.is_plain and met.steps != met.before_last and len(optimizer.param_groups) == met.num_groups:
            met.depth += 1
            return
        if self.options.stop_after and not met.depth and met.steps >= self.options.stop_after:
            self._ending.reach(met, self._met.values())
        if met.num_groups != len(optimizer.param_groups):
            met.num_groups = len(optimizer.param_groups)
            self.guard("groups that were added have no names", lambda: self._widen(met, optimizer))
        if met.about.applied and not met.depth:
            lost = f"{met.about.optimizer} is without --apply from here on"
            self.guard(lost, lambda: follow(optimizer, self.options))
            self._restore(met, optimizer)
        # What decay took is told up to the last record, so the last step has one, where anybody knows which it is.
        is_last = not met.depth and met.steps + 1 in (met.about.num_steps, self.options.stop_after)
        if is_last and (monitor := alive(met.monitor)) is not None:
            self.guard("the last step has no record", monitor.record_next)
        met.depth += 1

    def _widen(self, met: Met, optimizer: Optimizer) -> None:
        """Groups were added: their parameters have the names that their own model gives them."""
        model, monitor = alive(met.model), alive(met.monitor)
        if met.looked and not met.about.applied and model is not None and monitor is not None:
            for one in monitor._watched:
                one.name_by(widened(model, optimizer))

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
        if self._pages.is_due():
            self._pages.write(self.record)

    def _meet(self, optimizer: Optimizer) -> Met:
        """An optimizer's first step: what is needed from before it is over."""
        self._count += 1
        name = type(optimizer).__name__
        about = Stepped(number=self._count, optimizer=name)
        met = self._met[id(optimizer)] = Met(weakref.ref(optimizer), about)
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
        if not met.about.applied:
            self._loads += self.guard(LOST, lambda: follow_loads(met, optimizer, self.guard)) or ()
        return met

    def _watch(self, met: Met, optimizer: Optimizer) -> None:
        watch(met, optimizer, self._pages.claimed(), self.options, self.guard)

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
                applied, replaced = apply(optimizer, alive(met.model), self.options, scheduler)
        except Exception as error:
            # The reason stands last: of a script that never began there is nothing to say.
            self.guard.speaks = False
            said = f"--apply {self.options.apply} can't be done on {met.about.optimizer}"
            if self.rank:  # Mostly all say the same, and the first one says why.
                say(f"torchdecay: rank {self.rank}: {said}.")
            else:
                say(f"torchdecay: {said}.", str(error))
            raise SystemExit(2) from None
        met.about = replace(met.about, applied=applied, replaced=replaced)
        if (handle := handle_of(optimizer)) is not None and handle.model is not None:
            # With what no module owns beside it.
            met.model = weakref.ref(handle.model)
        # A checkpoint may be loaded between a new group and its first step: the plan has to know the group by then.
        optimizer.register_load_state_dict_pre_hook(lambda one, state: follow_load(one, self.options), prepend=True)

    def _find(self, met: Met, optimizer: Optimizer) -> Surroundings:
        around = look_around()
        self.guard("the script's settings were not read", lambda: self._configured.add(around.settings, optimizer))
        find(met, optimizer, around, self.options)
        return around

    def _look(self, met: Met, optimizer: Optimizer) -> None:
        met.looked, met.is_plain = True, not (met.about.applied or self.options.stop_after)
        look(met, optimizer, self.options, self.guard)
        self._say(lambda: opening(self._stepped(met), met.seen))

    # ── Writing ──

    def record(self) -> RunRecord:
        """What was seen until now."""
        summary = RunSummary(
            run=self.options.run,
            command=self.options.command,
            front=self.options.front,
            created=self._created,
            written=_now(),
            ended=self._ended,
            versions={"torchdecay": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            process=(self.rank, self.world),
            optimizers=tuple(map(self._stepped, self._all)),
            notes=(*self.guard.notes, *self._untold()),
            verdict=self._verdict(),
            unmet=tuple(name for name in names_in(self.options.optimizer) if name not in self._named),
        )
        return RunRecord(summary, tuple(map(self._seen, self._all)))

    def _untold(self) -> list[str]:
        """What is known of the whole only."""
        more = self._count - len(self._all)
        if more:
            return [f"{counted(more, 'optimizer')} after the first {_MOST}: only counted."]
        return self._configured.unread()

    def end(self) -> None:
        """The process ends: the last page, and what became of it all."""
        if self._ended or os.getpid() != self.pid:
            return
        self._ended = True
        for met in self._all:
            if not met.looked and (optimizer := met.optimizer()) is not None:
                # Its first step raised: what was wrong with it is worth knowing all the same.
                self._look(met, optimizer)
            if not self.options.stop_after and not hasattr(sys, "last_value"):
                # What was ended from outside would have gone on.
                self.guard("the forecast is not of the steps that were taken", partial(look_back, met))
            if (monitor := alive(met.monitor)) is not None:
                self.guard("a monitor could not be closed", monitor.close)
        for hook in self._loads:
            hook.remove()
        self._say(lambda: [f"torchdecay: {line}" for line in self._untold()])
        page = self._pages.write(self.record)
        self._say(lambda: closing(self.record(), "" if page is None else shown(page)))

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


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
