"""The work of a sweep: stage by stage, what is not in the store goes to an engine, and what comes back is kept."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.sweeps.halving import Halving
from torchdecay.lab.sweeps.search import Batches, Candidate, Scores, Search
from torchdecay.lab.sweeps.store import StoredRuns
from torchdecay.lab.sweeps.trials import TrialMaker
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Keep, Trial

POLL_SECONDS = 0.5
"""How often to look whether runs that another process claimed are done."""


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """How far a sweep is.

    Attributes:
        label: the point whose run finished last; "" before the first.
        seed: its seed.
        run_is_done: whether this call tells of a run that has just finished.
        runs_done: finished runs, those from the store included.
        runs_planned: runs of the whole sweep.
        steps_done: steps that this call has done.
        steps_planned: steps that it will have done at the end, as far as can be known.
        best: the point with the best mean so far over the runs there are; "" before any.
        best_value: that mean.
        measure: of what, "validation_score" say.
    """

    label: str
    seed: int
    run_is_done: bool
    runs_done: int
    runs_planned: int
    steps_done: int
    steps_planned: int
    best: str
    best_value: float
    measure: str


@dataclass(kw_only=True)
class SweepRun:
    """A sweep while it runs. `go` does the work; the rest is what came of it."""

    maker: TrialMaker
    seeds: tuple[int, ...]
    search: Search
    engine: Engine
    on_progress: Callable[[SweepProgress], None] | None
    store: StoredRuns | None = None
    why_engine: str = ""
    interrupted: bool = False
    trials: list[Trial] = field(default_factory=list)
    outcomes: dict[str, TrainingRun | Failure] = field(default_factory=dict)
    _ours: int = 0
    _steps: int = 0
    _best: tuple[str, float] = ("", math.nan)

    @property
    def runs(self) -> tuple[TrainingRun, ...]:
        """The finished runs, in the order of the trials."""
        found = (self.outcomes.get(trial.key) for trial in self.trials)
        return tuple(one for one in found if isinstance(one, TrainingRun))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failed ones, in the order of the trials."""
        found = (self.outcomes.get(trial.key) for trial in self.trials)
        return tuple(one for one in found if isinstance(one, Failure))

    @property
    def measure(self) -> str:
        """The curve that decides."""
        return f"validation_{'loss' if self.maker.task.score is None else 'score'}"

    def go(self, batches: Batches) -> None:
        """Run stage after stage until the search has nothing more to ask, or Ctrl-C."""
        tried: list[Candidate] = []
        try:
            with self.engine.session(self.maker.task):
                batch = next(batches)
                while True:
                    new = [one for one in dict.fromkeys(batch) if one not in tried]
                    tried += new
                    self._stage(list(self._trials_of(new, with_bare=not self.trials)))
                    batch = batches.send(self._scores(tried))
        except StopIteration:
            pass
        except KeyboardInterrupt:
            self.interrupted = True

    def _trials_of(self, candidates: list[Candidate], *, with_bare: bool) -> Iterator[Trial]:
        """Seed by seed, so that what is finished when it is stopped can be paired."""
        for seed in self.seeds:
            for scale in self.search.lr_scales if with_bare else ():
                yield from self.maker.trials(None, scale, [seed])
            for candidate in candidates:
                yield from self.maker.trials(candidate, candidate.lr_scale, [seed])

    def _stage(self, trials: list[Trial]) -> None:
        self.trials += trials
        self._refresh()
        todo = self._missing(trials)
        if not todo:
            return
        self.engine, why = self.engine.chosen_for(self.maker.task, todo)
        self.why_engine = self.why_engine or why
        keep = None
        if self.search.kind == "halving":
            keep = Halving(self.maker.task, self.measure, lambda: self._known(trials)).keep
        while todo := self._missing(trials):
            if self.store is None or keep is None:
                self._run(todo, keep)
            elif self.store.claim("halving"):
                # Who goes on is decided over all, so one process at a time has them all.
                self._run(todo, keep)
                self.store.release("halving")
            self._refresh()
            if self._missing(trials):
                time.sleep(POLL_SECONDS)

    def _run(self, trials: list[Trial], keep: Keep | None) -> None:
        claim = self._claim if keep is None else lambda trial: True
        part = Assignment(
            task=self.maker.task, trials=trials, on_run=self._take, on_step=self._step, keep=keep, claim=claim
        )
        self.engine.run(part)

    def _missing(self, trials: list[Trial]) -> list[Trial]:
        return [trial for trial in trials if trial.key not in self.outcomes]

    def _known(self, trials: list[Trial]) -> Mapping[Trial, TrainingRun]:
        found = {trial: self.outcomes.get(trial.key) for trial in trials}
        return {trial: run for trial, run in found.items() if isinstance(run, TrainingRun)}

    def _refresh(self) -> None:
        """Take over what the store has and we have not."""
        if self.store is None:
            return
        finished = self.store.finished()
        for trial in self.trials:
            run = finished.get(trial.key)
            if run is None or trial.key in self.outcomes:
                continue
            if run.steps[-1] >= self.maker.task.num_steps or self.search.kind == "halving":
                self.outcomes[trial.key] = dataclasses.replace(run, label=trial.contender.label)

    def _claim(self, trial: Trial) -> bool:
        """Whether the trial is ours to run: nobody is at it, and nobody has finished it since we looked."""
        if self.store is None:
            return True
        if not self.store.claim(trial.key):
            return False
        self._refresh()
        if trial.key in self.outcomes:
            self.store.release(trial.key)
            return False
        return True

    def _take(self, trial: Trial, outcome: TrainingRun | Failure) -> None:
        self.outcomes[trial.key] = outcome
        if self.store is not None:
            self.store.record(trial, outcome)
        self._ours += 1
        self._best = self._leader()
        self._tell(trial)

    def _step(self, count: int) -> None:
        self._steps += count
        self._tell(None)

    def _tell(self, done: Trial | None) -> None:
        if self.on_progress is None:
            return
        last = done or self.trials[0]
        finished = sum(trial.key in self.outcomes for trial in self.trials)
        planned = max(len(self.trials), self._planned())
        steps = (planned - (finished - self._ours)) * self.maker.task.num_steps
        if self.search.kind == "halving":
            steps = Halving.steps(self.maker.task, planned - (finished - self._ours))
        self.on_progress(
            SweepProgress(
                label=last.contender.label,
                seed=last.seed,
                run_is_done=done is not None,
                runs_done=finished,
                runs_planned=planned,
                steps_done=self._steps,
                steps_planned=max(steps, self._steps),
                best=self._best[0],
                best_value=self._best[1],
                measure=self.measure,
            )
        )

    def _planned(self) -> int:
        """How many runs there will be, where a search adds to what it has asked for."""
        if self.search.values is not None or self.maker.num_values > 1 or self.search.kind == "halving":
            return 0
        return len(self.seeds) * len(self.search.lr_scales) * (self.search.points + 1)

    def _means(self) -> dict[str, float]:
        """Mean of the deciding measure over the whole runs of each point, more being better."""
        sign = 1.0 if self.measure.endswith("score") else -1.0
        values: dict[str, list[float]] = defaultdict(list)
        for run in self.runs:
            if run.steps[-1] >= self.maker.task.num_steps:
                values[run.label].append(sign * run.final(self.measure))
        return {label: sum(some) / len(some) for label, some in values.items()}

    def _leader(self) -> tuple[str, float]:
        means = {label: value for label, value in self._means().items() if math.isfinite(value)}
        if not means:
            return "", math.nan
        label = max(means, key=means.__getitem__)
        return label, means[label] if self.measure.endswith("score") else -means[label]

    def _scores(self, candidates: list[Candidate]) -> Scores:
        means = self._means()
        labels = {one: self.maker.contender(one, one.lr_scale).label for one in candidates}
        return {one: means[label] for one, label in labels.items() if math.isfinite(means.get(label, math.nan))}
