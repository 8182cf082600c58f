"""`Comparison`: the same task trained with several decays and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torchdecay.errors import TaskError, need
from torchdecay.lab.comparisons.statistics import (
    FEWEST_SEEDS,
    LEVEL,
    Best,
    Bounds,
    Contrast,
    bounds_of,
    grain_of,
    interval,
    mean,
    same_curves,
    spread,
    together,
)
from torchdecay.lab.training.planned_and_measured import Curve
from torchdecay.lab.training.results import CURVES, PlanSummary, TrainingRun, Trainings
from torchdecay.text import nearest, repr_quoted


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Trainings, kind="comparison"):
    """The same task trained with several decays and seeds.

    Attributes:
        labels: the decays in the order they were asked for.
        plans: for each label that was started, who decays and why.
        chance_loss: the test loss below which no model can be expected to get, where known.
    """

    labels: tuple[str, ...]
    plans: Mapping[str, PlanSummary] = field(default_factory=dict)
    chance_loss: float | None = None

    def __post_init__(self) -> None:
        self.require_each_once()

    @property
    def measure(self) -> str:
        """The curve that decides: a score where there is one, on validation rows where there are some."""
        what = "score" if self.score_name else "loss"
        has = any(getattr(run, f"validation_{what}") is not None for run in self.runs)
        return f"{'validation' if has else 'test'}_{what}"

    @property
    def baseline(self) -> str | None:
        """The label to compare with: the first without decay, else the first."""
        finished = [label for label in self.labels if self.of(label)]
        bare = [label for label in finished if self.of(label)[0].decay == "none"]
        return next(iter([*bare, *finished]), None)

    def of(self, label: str) -> tuple[TrainingRun, ...]:
        """The finished runs with this decay, one per seed.

        Raises:
            TaskError: the comparison has no such label.
        """
        if label not in self.labels:
            raise TaskError(
                f"the comparison has no {repr_quoted(label)}.",
                f"It has {', '.join(self.labels)}.",
                nearest(label, self.labels),
            )
        return tuple(self._by_label.get(label, ()))

    @cached_property
    def _grains(self) -> dict[str, float]:
        """By curve the least step between its ends, as far as it was asked for."""
        return {}

    def final(self, label: str, curve: str) -> Curve:
        """The last point of a curve for each seed; "gap" is test loss − train loss.

        Raises:
            TaskError: an unknown label or curve.
        """
        return tuple(run.final(curve) for run in self.of(label))

    def mean_and_spread(self, label: str, curve: str) -> tuple[float, float | None]:
        """Mean over seeds, and the standard deviation over seeds (n − 1); None with a single seed.

        Raises:
            TaskError: an unknown label or curve, or no finished run.
        """
        values = self.final(label, curve)
        if not values:
            raise TaskError(f"no run of {repr_quoted(label)} was finished.")
        return mean(values), spread(values)

    @property
    def best(self) -> Best | None:
        """The decay with the best mean, its t interval, and which others can't be told from it.

        Chosen on validation rows where the task has them. Chosen on test rows, the winner's own number
        flatters it. None when no run was finished.
        """
        measure, sign = self.measure, 1 if self.higher_is_better else -1
        finals = {label: self.final(label, measure) for label in self.labels if self.of(label)}
        sound = {label: values for label, values in finals.items() if all(map(math.isfinite, values))}
        if not sound:
            return None
        winner = max(sound, key=lambda label: sign * mean(sound[label]))
        low, high = interval(sound[winner], bounds=self.bounds(measure))
        others = [label for label in finals if label != winner]
        level = together(len(others))
        tied = tuple(label for label in others if self.contrast(label, winner, level=level).better is None)
        return Best(label=winner, measure=measure, value=mean(sound[winner]), low=low, high=high, tied=tied)

    def bounds(self, curve: str) -> Bounds:
        """What a curve can't be below or above."""
        return bounds_of(curve, self.score_name, self.runs)

    def contrast(self, label: str, baseline: str, *, level: float = LEVEL, measure: str | None = None) -> Contrast:
        """One decay against another in the end of a curve, the deciding one unless told, paired by seed.

        Raises:
            TaskError: an unknown label or curve.
        """
        measure = measure or self.measure
        base = {run.seed: run.final(measure) for run in self.of(baseline)}
        pairs = [run.final(measure) - base[run.seed] for run in self.of(label) if run.seed in base]
        differences = tuple(difference for difference in pairs if math.isfinite(difference))
        if measure not in self._grains:
            ends = (run.final(measure) for run in self.runs)
            self._grains[measure] = grain_of(ends) if measure.endswith("_score") else 0.0
        grain = self._grains[measure]
        low, high = interval(differences, level, grain=grain)
        better = None
        enough = len(differences) >= FEWEST_SEEDS
        if enough and low is not None and high is not None and (low > 0 or high < 0):
            better = (low > 0) == self.higher_is_better
        return Contrast(
            label=label,
            baseline=baseline,
            measure=measure,
            differences=differences,
            diverged=len(pairs) - len(differences),
            level=level,
            low=low,
            high=high,
            better=better,
        )

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Each decay against the baseline, seed by seed."""
        others = [label for label in self.labels if label != self.baseline and self.of(label)]
        if self.baseline is None:
            return ()
        level = together(len(others))
        return tuple(self.contrast(label, self.baseline, level=level) for label in others)

    @property
    def alike(self) -> list[list[str]]:
        """Labels, those whose curves coincide together: a reader should not look for a difference between them."""
        clusters: list[list[str]] = []
        for label in self.labels:
            runs = self.of(label)
            for cluster in clusters:
                if runs and same_curves(self.of(cluster[0]), runs):
                    cluster.append(label)
                    break
            else:
                clusters += [[label]] if runs else []
        return clusters

    def with_command(self, command: str) -> Comparison:
        """A copy that carries the command that made it."""
        return replace(self, command=command)

    def to_frame(self) -> Any:
        """A pandas DataFrame: one line per run and step, a column per curve.

        Raises:
            MissingExtra: pandas is not installed.
        """
        pandas = need("pandas", "lab")
        curves = [name for name in CURVES if any(getattr(run, name) is not None for run in self.runs)]
        head = ["label", "decay", "seed", self.step_name]
        lines = [
            [run.label, run.decay, run.seed, step, *(getattr(run, name)[i] for name in curves)]
            for run in self.runs
            for i, step in enumerate(run.steps)
        ]
        return pandas.DataFrame(lines, columns=[*head, *curves])
