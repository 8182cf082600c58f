"""Racing: from the fifth seed on, values that are clearly worse than the best get no further seeds.

Four seeds that all agree are the least by which a one-sided signed-rank test at 10 % can call a value worse, as
Optuna's WilcoxonPruner does. What is claimed at the end stays what it was: each value's difference from no decay is
judged over all seeds, at a level that holds for all values that were tried, those that left the race among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from torchdecay.errors import TaskError

FEWEST = 4
P_VALUE = 0.1


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse a race with so few seeds that no value could leave it."""
    if len(seeds) <= FEWEST:
        raise TaskError(
            f"values are raced with {len(seeds)} seeds, and none could leave the race.",
            f"It takes {FEWEST} seeds, paired, to show that a value is worse; only later seeds can be saved.",
            f"Ask for {FEWEST + 1} seeds or more, 8 say, or leave the race out.",
        )


def rounds_of(seeds: Sequence[int]) -> list[Sequence[int]]:
    """Which seeds are run together: the first four, and then one after the other."""
    return [seeds[:FEWEST], *([seed] for seed in seeds[FEWEST:])]


def still_racing(scores: Mapping[str, Mapping[int, float]], labels: Iterable[str], seeds: Sequence[int]) -> set[str]:
    """Those of some labels that are not clearly worse, over these seeds, than the best of all; more is better."""
    whole = {label: [some[seed] for seed in seeds] for label, some in scores.items() if all(s in some for s in seeds)}
    sound = {label: values for label, values in whole.items() if all(map(math.isfinite, values))}
    if not sound:
        return set(labels)
    best = sound[max(sound, key=lambda label: sum(sound[label]))]
    # What diverged once can't be chosen; what failed may yet be made again.
    return {
        label
        for label in labels
        if label not in whole
        or (label in sound and p_worse([a - b for a, b in zip(best, sound[label], strict=True)]) >= P_VALUE)
    }


def p_worse(lacks: Sequence[float]) -> float:
    """The chance of such a rank sum or a larger one, if what each pair lacks were as likely to be won.

    Wilcoxon's signed-rank test, exact also with ties: ranks of equal sizes are averaged, and a pair without a
    difference counts half for each side.

    Example:
        >>> p_worse([0.1, 0.2, 0.3, 0.4])
        0.0625
    """
    sizes = sorted(map(abs, lacks))
    # Twice the mean rank of a size, a whole number.
    rank = {size: 2 * sizes.index(size) + sizes.count(size) + 1 for size in sizes}
    reached = 2 * sum(rank[abs(lack)] for lack in lacks if lack > 0) + sum(rank[0.0] for lack in lacks if not lack)
    ways = {sum(rank[0.0] for lack in lacks if not lack): 1}
    for lack in lacks:
        if lack:
            more: dict[int, int] = {}
            for total, count in ways.items():
                for own in (0, 2 * rank[abs(lack)]):
                    more[total + own] = more.get(total + own, 0) + count
            ways = more
    return sum(count for total, count in ways.items() if total >= reached) / sum(ways.values())
