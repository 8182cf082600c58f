"""A comparison in plain words: a headline that claims no more than the seeds allow, and the verdict in full."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torchdecay.lab.comparisons.statistics import FEWEST_SEEDS, LEVEL, SAME, mean, oscillates
from torchdecay.reports.comparison.series import curve_name
from torchdecay.text import counted, listing, number, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.comparisons.statistics import Contrast
    from torchdecay.lab.sweeps.result import Sweep

LUCK = "The difference is larger than the variation between"
ALONE = "One seed can't tell luck from effect:"
TOO_FEW = "two seeds are too few to claim a difference"
NOISE = "Nothing can be learned here: decay only changes how confidently the model is wrong."
ONCE = "One seed: this happened once and is not a measured difference."


def headline(comparison: Comparison) -> tuple[str, str]:
    """What happened, and how sure that is: two sentences, said only as strongly as the seeds allow."""
    if not comparison.runs:
        return "No run was finished.", ""
    what = curve_name(comparison.measure, comparison)
    contrasts = [one for one in comparison.contrasts if one.mean is not None]
    if not contrasts:
        first = comparison.runs[0].label
        middle, count = _middle(comparison, first), len(comparison.of(first))
        if math.isnan(middle):
            return f"With {shown(first)}, {what} ended without a finite number.", ""
        mean_of = f", the mean of {count} seeds" if count > 1 else ""
        return f"With {shown(first)}, {what} ended at {number(middle)}{mean_of}.", ""
    sign = 1 if comparison.higher_is_better else -1
    top = max(contrasts, key=lambda one: sign * (one.mean or 0.0))
    if comparison.noise:
        return _pair(comparison, top, what), NOISE
    better = [one for one in contrasts if one.better is True]
    worse = [shown(one.label) for one in contrasts if one.better is False]
    seeds = counted(max(len(one.differences) for one in contrasts), "seed")
    if better:
        top = max(better, key=lambda one: sign * (one.mean or 0.0))
        rest = [shown(one.label) for one in better if one is not top]
        sure = f"{LUCK} {seeds} can explain."
        return _pair(comparison, top, what), f"{sure} Better too: {listing(rest, most=4)}." if rest else sure
    if worse:
        return (
            f"Decay did harm here: {what} ended worse with {listing(worse, most=4)}.",
            f"{LUCK} {seeds} can explain.",
        )
    if all(one.low is None for one in contrasts):
        return _pair(comparison, top, what), ONCE
    return f"No difference in {what} that {seeds} can show.", _pair(comparison, top, what)


def _pair(comparison: Comparison, one: Contrast, what: str) -> str:
    own, base = (number(_middle(comparison, label)) for label in (one.label, one.baseline))
    bare = comparison.of(one.baseline)[0].decay == "none"
    against = "without decay" if bare else f"with {shown(one.baseline)}"
    return f"With {shown(one.label)}, {what} ended at {own}; {against}, at {base}."


def _middle(comparison: Comparison, label: str) -> float:
    return mean([value for value in comparison.final(label, comparison.measure) if math.isfinite(value)] or [math.nan])


def verdict(comparison: Comparison) -> str:
    """What these runs show and what they do not, in plain words: one paragraph per line."""
    if not comparison.runs:
        return "No run was finished, so there is nothing to say."
    clusters = comparison.alike
    names = {cluster[0]: listing(cluster) for cluster in clusters}
    lines = [*_unfinished(comparison)]
    lines += [_words(comparison, one, names) for one in comparison.contrasts if one.label in names]
    lines += [
        f"{names[cluster[0]]} gave the same curves to within {SAME:g}: in this training they are the same thing."
        for cluster in clusters
        if len(cluster) > 1
    ]
    lines += [_gap(comparison, names), *_noise(comparison, names), *_stopping(comparison), *_limits(comparison)]
    return "\n".join(lines)


def _unfinished(comparison: Comparison) -> list[str]:
    asked = len(comparison.labels) * len(comparison.seeds)
    stopped = f"Stopped early: {len(comparison.runs)} of {asked} runs were finished; only they count here."
    return [*([stopped] if comparison.interrupted else []), *failures_of(comparison)]


def failures_of(result: Comparison | Sweep) -> list[str]:
    """Which runs failed."""
    labels = listing(list(dict.fromkeys(failure.label for failure in result.failures)), most=6)
    said = "; ".join(shown(one, most=300) for one in list(dict.fromkeys(one.message for one in result.failures))[:3])
    return [f"{counted(len(result.failures), 'run')} failed ({labels}): {said.rstrip('.')}."] if labels else []


def _words(comparison: Comparison, one: Contrast, names: Mapping[str, str]) -> str:
    name = names[one.label]
    what = curve_name(comparison.measure, comparison)
    lost = f" ({one.diverged} pairs left out: a run diverged)" if one.diverged else ""
    if one.mean is None:
        return f"{name} against {one.baseline}: no pair of runs with finite numbers to compare{lost}."
    base, own = (number(mean(comparison.final(label, one.measure))) for label in (one.baseline, one.label))
    head = f"{name}: {what} {own}, against {base} for {one.baseline}{lost}"
    return head + paired(one, f"no difference that {len(one.differences)} seeds can show")


def paired(one: Contrast, none: str) -> str:
    """How sure a difference is, to stand after the two numbers; `none` where there is none to be seen."""
    if one.mean is None or one.low is None or one.high is None:
        return "; one seed, so this is what happened once, not a measured difference."
    sure = f"{'better' if one.better else 'worse'}, and by more than the seeds explain"
    low, middle, high = (number(value, signed=True) for value in (one.low, one.mean, one.high))
    over = f"paired difference over {len(one.differences)} seeds {middle}, interval {low} to {high}"
    if len(one.differences) < FEWEST_SEEDS:
        none = TOO_FEW
    return f": {none if one.better is None else sure} ({over})."


def _gap(comparison: Comparison, names: Mapping[str, str]) -> str:
    gaps = {name: mean(comparison.final(label, "gap")) for label, name in names.items()}
    said = ", ".join(f"{number(gap, signed=True)} for {name}" for name, gap in gaps.items())
    return f"Final gap, test loss minus training loss: {said}."


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
        losses = [run.train_loss or () for run in runs]
        late = [value for some in losses for value in some[len(some) // 2 :]]
        if late and min(late) > chance:
            end = number(mean([run.final("train_loss") for run in runs]))
            swing = (
                f", going up and down from {comparison.step_name} to {comparison.step_name}"
                if any(map(oscillates, runs))
                else ""
            )
            lines.append(
                f"With {name} even the training loss stays above {number(chance)} (at the end {end}){swing}: "
                "the decay is too strong for anything to be fitted."
            )
    return lines


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
    what = curve_name(comparison.measure, comparison)
    return [
        f"Stopped at {comparison.step_name} {runs[0].steps[peak]:,}, {baseline} would have had {what} "
        f"{number(means[peak])}, no worse than the best decay at the end (though that point is picked on the rows that "
        "measure it)."
    ]


def _limits(comparison: Comparison) -> list[str]:
    counts = {len(comparison.of(label)) for label in comparison.labels if comparison.of(label)}
    contrasts = comparison.contrasts
    lines = []
    if max(counts) == 1:
        lines.append(f"{ALONE} repeat with --seeds 3 or more before believing a difference.")
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
