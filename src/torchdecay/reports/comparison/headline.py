"""The headline of a comparison: one sentence that claims no more than the verdict does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torchdecay.text import counted, listing, number, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.statistics import Contrast
    from torchdecay.lab.training.results import Comparison


def headline(comparison: Comparison) -> tuple[str, str]:
    """What happened, and how sure that is: two sentences, said only as strongly as the seeds allow."""
    from torchdecay.lab.comparisons.statistics import measure_name

    if not comparison.runs:
        return "No run was finished.", ""
    what = measure_name(comparison)
    contrasts = [one for one in comparison.contrasts if one.mean is not None]
    if comparison.noise:
        return "Nothing can be learned here: decay only changes how confidently the model is wrong.", ""
    if not contrasts:
        first = comparison.runs[0]
        return f"With {shown(first.label)}, {what} ended at {number(first.final(comparison.measure))}.", ""
    sign = 1 if comparison.higher_is_better else -1
    top = max(contrasts, key=lambda one: sign * (one.mean or 0.0))
    better = [one for one in contrasts if one.better is True]
    worse = [shown(one.label) for one in contrasts if one.better is False]
    seeds = counted(max(len(one.differences) for one in contrasts), "seed")
    if better:
        top = max(better, key=lambda one: sign * (one.mean or 0.0))
        rest = [shown(one.label) for one in better if one is not top]
        sure = f"A larger difference than {seeds} explain by luck."
        return _pair(comparison, top, what), f"{sure} Better too: {listing(rest, most=4)}." if rest else sure
    if worse:
        return (
            f"Decay did harm here: {what} ended worse with {listing(worse, most=4)}.",
            f"By more than {seeds} explain by luck.",
        )
    if all(one.low is None for one in contrasts):
        return _pair(comparison, top, what), "One seed: this happened once and is not a measured difference."
    return f"No difference in {what} that {seeds} can show.", _pair(comparison, top, what)


def _pair(comparison: Comparison, one: Contrast, what: str) -> str:
    own, base = (number(_middle(comparison, label)) for label in (one.label, one.baseline))
    bare = comparison.of(one.baseline)[0].decay == "none"
    against = "without decay" if bare else f"with {shown(one.baseline)}"
    return f"With {shown(one.label)}, {what} ended at {own}; {against}, at {base}."


def _middle(comparison: Comparison, label: str) -> float:
    from torchdecay.lab.comparisons.statistics import mean

    return mean([value for value in comparison.final(label, comparison.measure) if math.isfinite(value)] or [math.nan])
