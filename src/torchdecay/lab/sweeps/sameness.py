"""Seeds that change nothing: their runs are one run, made twice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torchdecay.lab.training.results import TrainingRun
from torchdecay.text import listing


def apart(runs: Sequence[TrainingRun], seeds: tuple[int, ...]) -> tuple[tuple[TrainingRun, ...], tuple[int, ...], str]:
    """The runs of a job whose seeds tell something, those seeds, and what is to be said of the others.

    A seed is left out where all of its runs, two of them at least, told the same metrics as another seed's: one run
    may do so by chance, where a score has few values.
    """
    curves: dict[int, dict[str, str]] = {seed: {} for seed in seeds}
    for run in runs:
        curve = run.validation_loss or run.validation_score or ()
        # That two runs diverged tells nothing of their seeds.
        if not run.stopped and any(map(math.isfinite, curve)):
            curves[run.seed][run.label] = repr(curve)
    left: list[int] = []
    alike: list[int] = []
    for seed in seeds:
        known = curves[seed]
        same = any(
            len(shared := known.keys() & curves[other].keys()) > 1
            and all(known[label] == curves[other][label] for label in shared)
            for other in left
        )
        (alike if same else left).append(seed)
    if not alike:
        return tuple(runs), seeds, ""
    said = (
        f"Seed{'s' if len(alike) > 1 else ''} {listing([str(seed) for seed in alike])} told the same metrics as "
        f"{left[0]} in every run, so the seed changes nothing: such runs are not counted, and no difference is claimed."
    )
    return tuple(run for run in runs if run.seed in left), tuple(left), said
