"""`Runs`: trials while they run. What is not in the store goes to an engine, and what comes back is kept at once."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.storage.store import Store, StoredRuns
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import Failure, TrainingRun, common_seeds
from torchdecay.lab.training.trial import Assignment, GoesOn, Keep, Trial

POLL_SECONDS = 0.5
"""How often to look whether runs that another process claimed are done."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a comparison or a sweep is.

    Attributes:
        label: the run that began or ended last.
        seed: its seed.
        run_is_done: whether this call tells of a run that has just ended.
        failure: why that run failed; "" where it did not.
        diverged: whether that run ended with a number that is none.
        runs_done: finished runs, those from the store included.
        runs_planned: runs in all.
        steps_done: steps that this call has done.
        steps_planned: steps that it will have done at the end, as far as can be known.
        best: the label with the best mean so far over the runs there are; "" before any.
        best_value: that mean.
        measure: of what, "validation_score" say.
    """

    label: str
    seed: int
    run_is_done: bool
    failure: str
    diverged: bool
    runs_done: int
    runs_planned: int
    steps_done: int
    steps_planned: int
    best: str
    best_value: float
    measure: str


@dataclass(kw_only=True)
class Runs:
    """Trials while they run, and what came of them.

    Attributes:
        measure: the curve that decides.
        on_progress: called at every point of the curves, and after each run; `on_run` after each run of ours.
        planned: how many runs there will be, where more trials are to come.
        steps_of: about how many steps so many runs take.
        takes_stopped: whether runs in the store that ended early count.
        why_engine: why the engine is the one that it is, in words.
        scores: the deciding measure of the whole runs of each label, by seed, more being better.
        interrupted: whether runs are missing: until all are done, and where it was stopped before that.
    """

    task: Task | Job
    measure: str
    engine: Engine
    on_progress: Callable[[Progress], None] | None = None
    planned: int = 0
    steps_of: Callable[[int], int] | None = None
    takes_stopped: bool = False
    on_run: Callable[[], None] = lambda: None
    store: StoredRuns | None = None
    why_engine: str = ""
    interrupted: bool = True
    trials: list[Trial] = field(default_factory=list)
    outcomes: dict[str, TrainingRun | Failure] = field(default_factory=dict)
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    _ours: int = 0
    _steps: int = 0
    _best: tuple[str, float] = ("", math.nan)
    _last: Trial | None = None

    @property
    def runs(self) -> tuple[TrainingRun, ...]:
        """The finished runs, in the order of the trials."""
        return tuple(self.known(self.trials).values())

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failed ones, in the order of the trials."""
        found = (self.outcomes.get(trial.key) for trial in self.trials)
        return tuple(one for one in found if isinstance(one, Failure))

    @contextmanager
    def under_way(self, store: Store | None, identity: Mapping[str, str]) -> Iterator[None]:
        """Inside, stages may run; Ctrl-C ends the block, and is noted."""
        if store is not None:
            self.store = store.open(identity=identity, measure=self.measure, num_steps=self.task.num_steps)
        try:
            with self.engine.session(self.task):
                yield
            self.interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            if self.store is not None:
                self.store.close()

    def stage(self, trials: Sequence[Trial], keep: Keep | None = None, goes_on: GoesOn | None = None) -> None:
        """Have an outcome for each of some more trials, from the store, another process or the engine.

        Of a task `keep` says who goes on, of a job `goes_on`.
        """
        self.trials += trials
        self._refresh()
        while todo := self._missing(trials):
            if self.store is None or keep is None:
                self._run(todo, keep, goes_on)
            elif self.store.claim("halving"):
                # Who goes on is decided over all, so one process at a time has them all.
                self._run(todo, keep, goes_on)
                self.store.release("halving")
            self._refresh()
            if self._missing(trials):
                time.sleep(POLL_SECONDS)

    def known(self, trials: Sequence[Trial]) -> dict[Trial, TrainingRun]:
        """The finished ones of some trials."""
        found = {trial: self.outcomes.get(trial.key) for trial in trials}
        return {trial: run for trial, run in found.items() if isinstance(run, TrainingRun)}

    @property
    def _sign(self) -> float:
        return 1.0 if self.measure.endswith("score") else -1.0

    def _run(self, trials: list[Trial], keep: Keep | None, goes_on: GoesOn | None) -> None:
        def taken(engine: Engine, why: str) -> None:
            # What remains for a later stage is most often alike.
            self.engine, self.why_engine = engine, why

        self.engine.run(
            Assignment(
                task=self.task,
                trials=trials,
                on_run=self._take,
                on_step=self._step,
                keep=keep,
                goes_on=goes_on or (lambda trial, count, metric: True),
                claim=self._claim if keep is None else lambda trial: True,
            ),
            taken,
        )

    def _missing(self, trials: Sequence[Trial]) -> list[Trial]:
        return [trial for trial in trials if trial.key not in self.outcomes]

    def _refresh(self) -> None:
        """Take over what the store has and we have not."""
        finished = {} if self.store is None else self.store.finished()
        for trial in self._missing(self.trials):
            run = finished.get(trial.key)
            is_whole = run is not None and run.reached(self.task.num_steps)
            if run is not None and (is_whole or (self.takes_stopped and not run.unfinished)):
                self._keep(trial, dataclasses.replace(run, label=trial.contender.label))

    def _claim(self, trial: Trial) -> bool:
        """Whether the trial is ours to run: nobody is at it, and nobody has finished it since we looked."""
        if self.store is not None:
            if not self.store.claim(trial.key):
                return False
            self._refresh()
            if trial.key in self.outcomes:
                self.store.release(trial.key)
                return False
        self._last = trial
        return True

    def _keep(self, trial: Trial, outcome: TrainingRun | Failure) -> None:
        self.outcomes[trial.key] = outcome
        if isinstance(outcome, TrainingRun) and outcome.reached(self.task.num_steps):
            self.scores.setdefault(outcome.label, {})[outcome.seed] = self._sign * outcome.final(self.measure)

    def _take(self, trial: Trial, outcome: TrainingRun | Failure) -> None:
        self._keep(trial, outcome)
        if self.store is not None:
            self.store.record(trial, outcome)
        self._ours += 1
        finite = {label: some for label, some in self.scores.items() if all(map(math.isfinite, some.values()))}
        common = common_seeds(finite.values())
        means = {
            label: sum(some[seed] for seed in common) / len(common)
            for label, some in finite.items()
            if common <= some.keys()
        }
        if means:
            label = max(means, key=means.__getitem__)
            # A mean of 0 is no -0.
            self._best = label, self._sign * means[label] + 0.0
        self._last = trial
        self.on_run()
        self._tell(done=True)

    def _step(self, count: int) -> None:
        self._steps += count
        self._tell(done=False)

    def _tell(self, *, done: bool) -> None:
        if self.on_progress is None:
            return
        last = self._last or self.trials[0]
        outcome = self.outcomes.get(last.key)
        finished = len(self.outcomes)
        planned = max(len(self.trials), self.planned)
        left = planned - (finished - self._ours)
        steps = left * self.task.num_steps if self.steps_of is None else self.steps_of(left)
        self.on_progress(
            Progress(
                label=last.contender.label,
                seed=last.seed,
                run_is_done=done,
                failure=outcome.message if done and isinstance(outcome, Failure) else "",
                diverged=done and isinstance(outcome, TrainingRun) and not math.isfinite(outcome.final(self.measure)),
                runs_done=finished,
                runs_planned=planned,
                steps_done=self._steps,
                steps_planned=max(steps, self._steps),
                best=self._best[0],
                best_value=self._best[1],
                measure=self.measure,
            )
        )
