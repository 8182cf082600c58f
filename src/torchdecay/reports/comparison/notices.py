"""What a reader of several runs should be wary of: what is missing, and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from torchdecay.reports.article import Notice
from torchdecay.text import counted, listing, number, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.training.results import Failure

_MOST_NAMES = 8


def notices_of(comparison: Comparison) -> tuple[Notice, ...]:
    """What a reader of a comparison should be wary of."""
    made = []
    if comparison.noise:
        floor = comparison.chance_loss
        below = f", and no model can be expected to get below a test loss of {number(floor)}" if floor else ""
        text = (
            "They have nothing to do with the inputs, so nothing learned on the training rows can help on the test rows"
        )
        made.append(Notice("The labels are noise", f"{text}{below}."))
    names = {label: shown(label) for label in comparison.labels}
    done = {label: {run.seed for run in comparison.of(label)} for label in comparison.labels}
    asked = len(comparison.labels) * len(comparison.seeds)
    count = f"{counted(len(comparison.runs), 'run')} of {asked} finished"
    made += unfinished(names, done, comparison.seeds, count, interrupted=comparison.interrupted)
    return (*made, *failed(comparison.failures, names))


def unfinished(
    names: Mapping[str, str], done: Mapping[str, set[int]], seeds: Sequence[int], count: str, *, interrupted: bool
) -> list[Notice]:
    """Which runs are missing.

    By label `names` has what the page calls it, and `done` the seeds that are not missing; `count` says how many were
    finished.
    """
    missing = []
    for label, name in names.items():
        lacking = [str(seed) for seed in seeds if seed not in done[label]]
        if lacking:
            missing.append(f"{name} (seed{'s' if len(lacking) > 1 else ''} {listing(lacking, most=_MOST_NAMES)})")
    if not (missing or interrupted):
        return []
    head = "Stopped before all runs were done" if interrupted else "Not all runs were finished"
    more = f" and {len(missing) - _MOST_NAMES} more" if len(missing) > _MOST_NAMES else ""
    lost = f" Missing: {'; '.join(missing[:_MOST_NAMES])}{more}." if missing else ""
    return [Notice(head, f"{count}.{lost}")]


def failed(failures: Iterable[Failure], names: Mapping[str, str]) -> list[Notice]:
    """Failed runs, those with the same message together."""
    alike: dict[str, list[Failure]] = {}
    for failure in failures:
        alike.setdefault(failure.message, []).append(failure)
    made = []
    for message, some in alike.items():
        who = [f"{names.get(one.label, shown(one.label))}, seed {one.seed}" for one in some]
        head = f"A run failed: {who[0]}" if len(who) == 1 else f"{len(who)} runs failed"
        these = f" These are {listing(who, most=_MOST_NAMES)}." if len(who) > 1 else ""
        # Of a very long traceback the end says most.
        lines = "\n".join(shown(line, most=400) for line in some[0].traceback.splitlines()[-60:])
        made.append(Notice(head, prose(message) + these, lines))
    return made
