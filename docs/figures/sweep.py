"""Draw the picture of docs/sweep.md: `python docs/figures/sweep.py`, some minutes.

The task `digits` with seven values of decoupled decay and three seeds, and the run without decay.
"""

from __future__ import annotations

from pathlib import Path

import torchdecay as td
from torchdecay.lab import Sweep, task_named
from torchdecay.lab.sweeps import sweep

FOLDER = Path(__file__).parents[1] / "assets"
VALUES = (0.1, 0.3, 1, 3, 10, 30, 100)


def result() -> Sweep:
    """What the picture shows."""
    return sweep(task_named("digits"), "decoupled", VALUES, seeds=3, engine="serial")


if __name__ == "__main__":
    made = result()
    print(td.verdict(made))
    print(td.figure(made).alt)
    td.figure(made, FOLDER / "sweep.svg", overwrite=True)
    td.figure(made, FOLDER / "sweep-dark.svg", dark=True, overwrite=True)
