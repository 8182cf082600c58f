"""What a comparison shows and what it does not: paired differences over seeds, and the words for them.

The rule, for each decay against the baseline (the run without decay):

* The same seed gives both runs the same data, initial weights and row order, so the difference is taken seed by seed.
* Its mean gets a two-sided t interval with n − 1 degrees of freedom. With k decays against one baseline each interval
  has level 1 − 0.05/k (Bonferroni), so that all k hold together at 95 %.
* An interval without 0 is a measured difference; one with 0 is none that these seeds can show.
* A single seed has no interval: nothing is claimed beyond what happened.
* A pair with a run that diverged is left out and counted.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torchdecay.errors import need
from torchdecay.lab.training.results import Comparison, TrainingRun

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One decay against the baseline in the final value of one curve.

    Attributes:
        label: the decay.
        baseline: what it is compared with.
        measure: the curve, "test_score" say.
        differences: label − baseline for each seed that both finished with finite numbers.
        diverged: pairs left out because a number was not finite.
        level: of the interval, between 0 and 1.
        low, high: the interval of the mean difference; None with fewer than two pairs.
        better: True or False where the interval excludes 0, else None.
    """

    label: str
    baseline: str
    measure: str
    differences: tuple[float, ...]
    diverged: int
    level: float
    low: float | None
    high: float | None
    better: bool | None

    @property
    def mean(self) -> float | None:
        """Mean difference; None without pairs."""
        return mean(self.differences) if self.differences else None


@dataclass(frozen=True, kw_only=True)
class Best:
    """The decay with the best mean of the deciding curve.

    Attributes:
        label: the decay.
        measure: the curve that decided.
        value: its mean over seeds.
        low, high: a 95 % t interval of that mean; None with a single seed.
        tied: the other decays that these seeds can't tell from it.
    """

    label: str
    measure: str
    value: float
    low: float | None
    high: float | None
    tied: tuple[str, ...]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN or infinite when an entry is."""
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values) / len(values)


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds (n − 1); None for a single one, NaN when an entry is not finite."""
    if len(values) < 2:
        return None
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float | None, float | None]:
    """The two-sided t interval of the mean; (None, None) with fewer than two values."""
    deviation = spread(values)
    if deviation is None:
        return None, None
    quantile = float(need("scipy.stats", "lab").t.ppf((1 + level) / 2, len(values) - 1))
    half, centre = quantile * deviation / math.sqrt(len(values)), mean(values)
    return centre - half, centre + half


def contrast(
    comparison: Comparison, label: str, baseline: str, *, level: float = LEVEL, measure: str | None = None
) -> Contrast:
    """`label` against `baseline` in a curve, the deciding one unless told, paired by seed."""
    measure = measure or comparison.measure
    base = {run.seed: run.final(measure) for run in comparison.of(baseline)}
    pairs = [run.final(measure) - base[run.seed] for run in comparison.of(label) if run.seed in base]
    differences = tuple(difference for difference in pairs if math.isfinite(difference))
    low, high = interval(differences, level)
    better = None
    if low is not None and high is not None and (low > 0 or high < 0):
        better = (low > 0) == comparison.higher_is_better
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


def contrasts(comparison: Comparison) -> tuple[Contrast, ...]:
    """`Comparison.contrasts`, which documents it."""
    baseline = comparison.baseline
    others = [label for label in comparison.labels if label != baseline and comparison.of(label)]
    if baseline is None:
        return ()
    level = 1 - (1 - LEVEL) / max(1, len(others))
    return tuple(contrast(comparison, label, baseline, level=level) for label in others)


def best(comparison: Comparison) -> Best | None:
    """`Comparison.best`, which documents it."""
    measure, sign = comparison.measure, 1 if comparison.higher_is_better else -1
    finals = {label: comparison.final(label, measure) for label in comparison.labels if comparison.of(label)}
    sound = {label: values for label, values in finals.items() if all(map(math.isfinite, values))}
    if not sound:
        return None
    winner = max(sound, key=lambda label: sign * mean(sound[label]))
    low, high = interval(sound[winner])
    others = [label for label in finals if label != winner]
    level = 1 - (1 - LEVEL) / max(1, len(others))
    tied = tuple(label for label in others if contrast(comparison, label, winner, level=level).better is None)
    return Best(label=winner, measure=measure, value=mean(sound[winner]), low=low, high=high, tied=tied)


def number(value: float, *, signed: bool = False) -> str:
    """A number for people: three significant decimals, four digits at most before them."""
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    if not math.isfinite(value) or (value and (abs(value) < 5e-4 or abs(value) >= 1e4)):
        text = f"{value:+.3g}" if signed else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def measure_name(comparison: Comparison) -> str:
    """The deciding curve in words: "test accuracy", "validation loss"."""
    part, _, kind = comparison.measure.partition("_")
    return f"{part} {comparison.score_name if kind == 'score' else 'loss'}"


def verdict(comparison: Comparison) -> str:
    """`Comparison.verdict`, which documents it."""
    if not comparison.runs:
        return "No run was finished, so there is nothing to say."
    alike = _alike(comparison)
    names = {cluster[0]: _listed(cluster) for cluster in alike}
    lines = [*_unfinished(comparison)]
    lines += [_words(comparison, one, names) for one in comparison.contrasts if one.label in names]
    lines += [
        f"{names[cluster[0]]} gave the same curves to within {SAME:g}: in this training they are the same thing."
        for cluster in alike
        if len(cluster) > 1
    ]
    lines += [*_gap(comparison, names), *_noise(comparison, names), *_stopping(comparison), *_limits(comparison)]
    return "\n".join(lines)


def _unfinished(comparison: Comparison) -> list[str]:
    lines = []
    if comparison.interrupted:
        asked = len(comparison.labels) * len(comparison.seeds)
        lines.append(f"Stopped early: {len(comparison.runs)} of {asked} runs were finished; only they count here.")
    if comparison.failures:
        labels = ", ".join(dict.fromkeys(failure.label for failure in comparison.failures))
        lines.append(f"{len(comparison.failures)} runs failed ({labels}); they are listed with their messages.")
    return lines


def _words(comparison: Comparison, one: Contrast, names: Mapping[str, str]) -> str:
    name = names[one.label]
    what = measure_name(comparison)
    lost = f" ({one.diverged} pairs left out: a run diverged)" if one.diverged else ""
    if one.mean is None:
        return f"{name} against {one.baseline}: no pair of runs with finite numbers to compare{lost}."
    base, own = (
        number(mean([run.final(one.measure) for run in comparison.of(label)])) for label in (one.baseline, one.label)
    )
    head = f"{name}: {what} {own}, against {base} for {one.baseline}{lost}"
    if one.low is None or one.high is None:
        return f"{head}; one seed, so this is what happened once, not a measured difference."
    count = len(one.differences)
    span = f"{number(one.low, signed=True)} to {number(one.high, signed=True)}"
    tail = f"(paired difference over {count} seeds {number(one.mean, signed=True)}, interval {span})"
    if one.better is None:
        return f"{head}: no difference that {count} seeds can show {tail}."
    return f"{head}: {'better' if one.better else 'worse'}, and by more than the seeds explain {tail}."


def _gap(comparison: Comparison, names: Mapping[str, str]) -> list[str]:
    gaps = {name: mean(comparison.final(label, "gap")) for label, name in names.items()}
    said = ", ".join(f"{number(gap, signed=True)} for {name}" for name, gap in gaps.items())
    return [f"Final gap, test loss minus training loss: {said}."]


def _listed(labels: Sequence[str]) -> str:
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)


def _alike(comparison: Comparison) -> list[list[str]]:
    """Labels, those whose curves coincide together: a reader should not look for a difference between them."""
    clusters: list[list[str]] = []
    for label in comparison.labels:
        runs = comparison.of(label)
        for cluster in clusters:
            if runs and _same_curves(comparison.of(cluster[0]), runs):
                cluster.append(label)
                break
        else:
            clusters += [[label]] if runs else []
    return clusters


SAME = 1e-3
"""Loss curves that nowhere differ by more than this count as the same; rounding makes identical updates drift."""


def _same_curves(left: Sequence[TrainingRun], right: Sequence[TrainingRun]) -> bool:
    pairs = {run.seed: run for run in left}
    return len(left) == len(right) and all(
        run.seed in pairs
        and run.steps == pairs[run.seed].steps
        and all(
            abs(a - b) <= SAME
            for curve in ("train_loss", "test_loss")
            for a, b in zip(getattr(run, curve), getattr(pairs[run.seed], curve), strict=True)
        )
        for run in right
    )


def _noise(comparison: Comparison, names: Mapping[str, str]) -> list[str]:
    if not comparison.noise:
        return []
    chance = comparison.chance_loss
    if chance is None:
        return ["The labels are noise: there is nothing to learn, and every difference here is about memorizing."]
    lines = [
        f"The labels are noise: no model can be expected to get below {number(chance)} on the test rows, so a lower "
        "test loss here means less confident mistakes, not something learned."
    ]
    for label, name in names.items():
        runs = [run for run in comparison.of(label) if run.decay != "none"]
        late = [value for run in runs for value in run.train_loss[len(run.train_loss) // 2 :]]
        if late and min(late) > chance:
            end = number(mean([run.train_loss[-1] for run in runs]))
            swing = (
                f", going up and down from {comparison.step_name} to {comparison.step_name}"
                if any(map(_oscillates, runs))
                else ""
            )
            lines.append(
                f"With {name} even the training loss stays above {number(chance)} (at the end {end}){swing}: "
                "the decay is too strong for anything to be fitted."
            )
    return lines


def _oscillates(run: TrainingRun) -> bool:
    """Whether the training loss turns round more often than not in the second half."""
    late = run.train_loss[len(run.train_loss) // 2 :]
    moves = [b - a for a, b in itertools.pairwise(late)]
    turns = sum(a * b < 0 for a, b in itertools.pairwise(moves))
    return len(moves) > 2 and turns > len(moves) / 2


def _stopping(comparison: Comparison) -> list[str]:
    """Whether stopping the baseline early would have done as well as the best decay: the cheaper remedy."""
    baseline, winner = comparison.baseline, comparison.best
    if baseline is None or winner is None or winner.label == baseline or comparison.noise:
        return []
    runs, sign = comparison.of(baseline), 1 if comparison.higher_is_better else -1
    means = [mean(values) for values in zip(*(getattr(run, winner.measure) for run in runs), strict=True)]
    peak = max(range(len(means)), key=lambda i: sign * means[i] if math.isfinite(means[i]) else -math.inf)
    if sign * (means[peak] - winner.value) < 0:
        return []
    return [
        f"Stopped at {comparison.step_name} {runs[0].steps[peak]:,}, {baseline} would have had "
        f"{measure_name(comparison)} {number(means[peak])}, no worse than the best decay at the end (though that "
        "point is picked on the rows that measure it)."
    ]


def _limits(comparison: Comparison) -> list[str]:
    counts = {len(comparison.of(label)) for label in comparison.labels if comparison.of(label)}
    contrasts = comparison.contrasts
    lines = []
    if max(counts) == 1:
        lines.append(
            "One seed can't tell luck from effect: repeat with --seeds 3 or more before believing a difference."
        )
    elif contrasts:
        together = f", so that all {len(contrasts)} hold together at {LEVEL:.0%}" if len(contrasts) > 1 else ""
        lines.append(
            f"Intervals are t intervals of level {contrasts[0].level:.3g}{together}; they cover the seeds' randomness "
            "on this task, nothing beyond it."
        )
    if comparison.measure.startswith("test") and len(comparison.labels) > 2 and not comparison.noise:
        lines.append(
            "The best of several was picked on the rows that measure it, so its own number is a little too good."
        )
    return lines
