"""The caller's side of Ray without Ray: which trial is next, who goes on, and what workers report."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torchdecay.errors import TaskError
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Keep, Trial


class Dealer:
    """Deals trials out and takes outcomes in; each outcome is handed over once.

    Tune takes an error of the caller for one of the trial's and tries that again. So `error` keeps the first, whoever
    calls looks at it, and nothing more is dealt.
    """

    def __init__(self, part: Assignment, counted: int, keep: Keep | None = None) -> None:
        self._trials, self._on_run, self._on_step = part.trials, part.on_run, part.on_step
        self._claim, self._keep, self._goes_on = part.claim, keep, part.goes_on
        self._counts_runs = isinstance(part.task, Job)
        self._waiting = iter(enumerate(part.trials))
        self._steps: dict[Trial, int] = defaultdict(lambda: counted)
        self._measured: dict[int, dict[Trial, float]] = defaultdict(dict)
        self._so_far: dict[Trial, TrainingRun] = {}
        self._done: set[Trial] = set()
        self.error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves all that it was given, the caller's open files among it; nobody ever reads that.
        return {}

    def next(self) -> int | None:
        """The index of a trial that is ours; None when there are no more."""
        found = None
        with self._errors_are_kept():
            found = next((index for index, trial in self._waiting if self._claim(trial)), None)
        return found

    def goes_on(self, index: int, report: Mapping[str, Any]) -> bool:
        """Whether the trial goes on after this report: measured against those that were at the rung so far."""
        if "count" in report:
            goes_on = False
            with self._errors_are_kept():
                goes_on = self._goes_on(self._trials[index], report["count"], report["measure"])
            return goes_on
        if self._keep is None or "measure" not in report:
            return True
        trial, rung = self._trials[index], report["steps"]
        self._measured[rung][trial] = report["measure"]
        goes_on = False
        with self._errors_are_kept():
            goes_on = trial in self._keep.choose(rung, self._measured[rung])
        return goes_on

    def take(self, index: int, report: dict[str, Any]) -> None:
        """A worker's report; curves are taken out of it, since Tune keeps every trial's last one."""
        trial = self._trials[index]
        with self._errors_are_kept():
            if "unusable" in report:
                raise TaskError(
                    f"a worker can't use the task: {report['unusable']}.",
                    "Workers import what the task is made of by name.",
                    'Have it on every node, or let Ray bring it: runtime_env={"working_dir": "."}.',
                )
            self._count(trial, report.get("steps", 0))
            so_far, outcome = report.pop("so_far", None), report.pop("outcome", None)
            if so_far is not None:
                self._so_far[trial] = so_far
            if isinstance(outcome, TrainingRun) and not self._counts_runs:
                self._count(trial, outcome.steps[-1])
            if outcome is not None:
                self._hand_over(trial, outcome)

    def stopped(self, index: int) -> None:
        """The trial ended; what it had measured is its outcome, where it gave none."""
        trial = self._trials[index]
        with self._errors_are_kept():
            if trial not in self._done and trial in self._so_far:
                so_far = self._so_far[trial]
                self._hand_over(trial, replace(so_far, stopped=True) if self._counts_runs else so_far)

    def died(self, index: int, told: str) -> None:
        """The trial's worker died, and so did that of its second try."""
        trial = self._trials[index]
        message = "its worker process died twice; most often memory ran out."
        with self._errors_are_kept():
            if trial not in self._done:
                failure = Failure(label=trial.contender.label, seed=trial.seed, message=message, traceback=told)
                self._hand_over(trial, failure)

    def _count(self, trial: Trial, steps: int) -> None:
        """Steps that were told by a try before are not told again."""
        if steps > self._steps[trial]:
            self._on_step(steps - self._steps[trial])
            self._steps[trial] = steps

    def _hand_over(self, trial: Trial, outcome: TrainingRun | Failure) -> None:
        self._so_far.pop(trial, None)
        if self.error is None:
            self._done.add(trial)
            self._on_run(trial, outcome)
            if self._counts_runs:
                self._on_step(1)

    @contextlib.contextmanager
    def _errors_are_kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = self.error or error
