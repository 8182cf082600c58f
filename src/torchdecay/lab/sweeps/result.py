"""A sweep's results as a frozen value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

from torchdecay.errors import TaskError, need
from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.comparisons.statistics import bounds_of
from torchdecay.lab.sweeps.choice import Choice, CurvePoint, Rule, choose, curve_point
from torchdecay.lab.sweeps.meaning import Meaning
from torchdecay.lab.sweeps.optimum import Optimum, optimum_of
from torchdecay.lab.sweeps.points import Point
from torchdecay.lab.training.results import CURVES, TrainingRun, Trainings, common_seeds
from torchdecay.text import nearest, repr_quoted


@dataclass(frozen=True, kw_only=True, repr=False)
class Sweep(Trainings, kind="sweep"):
    """A task trained with one form of decay and many values, over several seeds. Made by `torchdecay.lab.sweep`.

    The runs that halving stopped are among the finished ones; a run's label is its point's.

    Attributes:
        form: the form of decay, as asked for.
        equation: its pull as one line of mathematics.
        points: everything that was tried, the runs without decay first, then by lr_scale and coefficient.
        num_steps: steps of a whole run; 0 for a job, whose runs are as long as they like.
        low, high: the range of coefficients that was searched.
        lr: the largest learning rate of the task's optimizer at lr_scale 1.
        groups: (group, selector) pairs, with groups.
        search: how coefficients were found.
        race: whether values that were clearly worse got no further seeds.
        rungs: the steps at which halving stopped some.
        why_rungs: why they are there, where that needs to be said.
        rule: how the choice is made.
        engine: what ran it.
        why_engine: why that one; "" where it was asked for.
        meanings: for each point, what its coefficient means in steps.
        direction: on which parts decay should be stronger or weaker than the chosen value, in words; empty unless
            asked for.
        store: the file that holds the runs; "" without.
        task_words: the task as one types it after a command, "csv --data a.csv --target y"; "" where it has no name.
        alike_seeds: those that told the same metrics as another's, and are not counted.
        seconds: wall time of this call.
    """

    _derived: ClassVar = ("best", "optimum")
    form: str
    points: tuple[Point, ...]
    num_steps: int
    low: float
    high: float
    search: str
    engine: str
    equation: str = ""
    lr: float | None = None
    groups: tuple[tuple[str, str], ...] = ()
    race: bool = False
    rungs: tuple[int, ...] = ()
    why_rungs: str = ""
    rule: Rule = "best"
    why_engine: str = ""
    meanings: tuple[Meaning, ...] = ()
    direction: tuple[str, ...] = ()
    store: str = ""
    task_words: str = ""
    alike_seeds: tuple[int, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.lr is not None and not 0 <= self.lr < math.inf:
            raise TaskError(f"the learning rate of the sweep is {self.lr:g}.")
        self.require_each_once()
        known = {point.label for point in self.points}
        for label in (*(run.label for run in self.runs), *(failure.label for failure in self.failures)):
            if label not in known:
                raise TaskError(f"a run is of {repr_quoted(label)}, which is no point of the sweep.")

    @property
    def measure(self) -> str:
        """The curve that decides: a score where there is one, always on validation rows."""
        return f"validation_{'score' if self.score_name else 'loss'}"

    def point(self, label: str) -> Point:
        """The point with this label.

        Raises:
            TaskError: there is none.
        """
        if label not in self._points:
            raise TaskError(f"the sweep has no point {repr_quoted(label)}.", fix=nearest(label, self._points))
        return self._points[label]

    @cached_property
    def _points(self) -> Mapping[str, Point]:
        return {point.label: point for point in self.points}

    def of(self, label: str, *, whole: bool = True) -> tuple[TrainingRun, ...]:
        """The runs of a point, by seed; `whole` leaves out those that halving stopped.

        Raises:
            TaskError: there is no such point.
        """
        self.point(label)
        runs = sorted(self._by_label.get(label, ()), key=lambda run: run.seed)
        return tuple(run for run in runs if not whole or run.reached(self.num_steps))

    @cached_property
    def curve(self) -> tuple[CurvePoint, ...]:
        """For each point mean, spread and number of runs of what was measured at the end."""
        bounds = bounds_of(self.measure, self.score_name, self.runs)
        return tuple(
            curve_point(
                point,
                self.of(point.label, whole=False),
                measure=self.measure,
                num_steps=self.num_steps,
                bounds=bounds,
            )
            for point in self.points
        )

    @property
    def best(self) -> Choice | None:
        """The chosen point, how sure that is, and what it does on the test rows; None before all runs are done.

        Chosen on validation rows only, by the sweep's rule: "best" takes the best mean over seeds, "one_se" the
        largest value whose mean is within one standard error of it. Only points with all seeds compete.
        """
        return None if self.interrupted else self.leader

    @cached_property
    def leader(self) -> Choice | None:
        """What would be chosen of the runs that there are; None without any.

        Before all are done, of the seeds that points have in common.
        """
        runs = self._at_common_seeds
        return choose(runs.curve, runs.comparison(), rule=self.rule, measure=self.measure)

    @property
    def compared(self) -> tuple[CurvePoint, ...]:
        """The curve that `leader` is chosen from."""
        return self._at_common_seeds.curve

    @cached_property
    def _at_common_seeds(self) -> Sweep:
        if not self.interrupted:
            return self
        sound = [one.point.label for one in self.curve if one.num_runs and not one.diverged]
        common = common_seeds([run.seed for run in self.of(label)] for label in sound)
        runs = tuple(run for run in self.runs if run.seed in common)
        return replace(self, runs=runs, interrupted=False)

    @cached_property
    def left_race(self) -> tuple[str, ...]:
        """Labels of the points that got no further seeds; none before all runs are done."""
        if not self.race or self.interrupted:
            return ()
        done = Counter([*(run.label for run in self.runs), *(failure.label for failure in self.failures)])
        return tuple(point.label for point in self.points if done[point.label] < len(self.seeds))

    @cached_property
    def optimum(self) -> Optimum | None:
        """Where the best coefficient lies, at the learning rate of the chosen point, by validation rows.

        None with groups, for fewer than four values or three seeds, where no decay was chosen, and before all runs
        are done.
        """
        chosen = self.best
        if chosen is None or chosen.point.value is None:
            return None
        return optimum_of(self.scores_by_value(chosen.point.lr_scale))

    def scores_by_value(self, lr_scale: float | None = None) -> Mapping[float, Mapping[int, float]]:
        """The deciding measure of each coefficient's whole runs by seed, more being better, at one learning rate.

        That of the chosen point, unless another multiplier is asked for.
        """
        if lr_scale is None:
            lr_scale = 1.0 if self.leader is None else self.leader.point.lr_scale
        return {
            point.value: {run.seed: self._oriented(run) for run in self.of(point.label)}
            for point in self.points
            if point.value is not None and point.lr_scale == lr_scale
        }

    def _oriented(self, run: TrainingRun) -> float:
        return run.final(self.measure) if self.higher_is_better else -run.final(self.measure)

    def with_rule(self, rule: Rule) -> Sweep:
        """The same runs, chosen from by another rule."""
        return replace(self, rule=rule)

    def with_command(self, command: str, task_words: str = "") -> Sweep:
        """A copy that carries the command that made it, and how its task is typed."""
        return replace(self, command=command, task_words=task_words or self.task_words)

    def comparison(self, *labels: str) -> Comparison:
        """The whole runs of some points, or of all, as a `Comparison`, which knows tables, charts and contrasts.

        Raises:
            TaskError: there is no such point.
        """
        asked = labels or tuple(point.label for point in self.points)
        shared = {one.name: getattr(self, one.name) for one in fields(Trainings)}
        runs = tuple(run for label in asked for run in self.of(label))
        failures = tuple(failure for failure in self.failures if failure.label in asked)
        return Comparison(labels=asked, **shared | {"runs": runs, "failures": failures})

    def to_frame(self) -> Any:
        """A pandas DataFrame: one line per run, with its coefficient and the last point of every curve.

        Raises:
            MissingExtra: pandas is not installed.
        """
        pandas = need("pandas", "lab")
        half_lives = {meaning.label: meaning.half_life for meaning in self.meanings}
        lines = []
        for run in self.runs:
            point = self.point(run.label)
            lines.append(
                {
                    "label": run.label,
                    "coefficient": 0.0 if point.is_bare else math.nan if point.value is None else point.value,
                    **{f"coefficient of {name}": value for name, value in point.values},
                    "lr_scale": point.lr_scale,
                    "seed": run.seed,
                    "steps": run.steps[-1],
                    "half_life": half_lives.get(run.label),
                    **{name: run.final(name) for name in CURVES if getattr(run, name) is not None},
                    "seconds": run.seconds,
                }
            )
        return pandas.DataFrame(lines)
