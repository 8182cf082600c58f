"""Draw the picture of docs/sweep.md: `python docs/sweep_figure.py`, some minutes.

The task `digits` with seven values of decoupled decay and three seeds, and the run without decay.
"""

from __future__ import annotations

from pathlib import Path

from torchdecay.lab import Sweep, task_named
from torchdecay.lab.sweeps import sweep
from torchdecay.reports.drawing.chart import Chart
from torchdecay.reports.drawing.svg import svg_file
from torchdecay.reports.sweep.response import response_chart

FOLDER = Path(__file__).parent / "assets"
VALUES = (0.1, 0.3, 1, 3, 10, 30, 100)


def result() -> Sweep:
    """What the picture shows."""
    return sweep(task_named("digits"), "decoupled", VALUES, seeds=3, engine="serial")


def chart(made: Sweep) -> Chart:
    """Validation accuracy against the coefficient."""
    drawn = response_chart(made, made.measure)
    assert drawn is not None
    return drawn


if __name__ == "__main__":
    made = result()
    print(made.verdict)
    print(chart(made).alt)
    (FOLDER / "sweep.svg").write_text(svg_file(chart(made)), encoding="utf-8")
    (FOLDER / "sweep-dark.svg").write_text(svg_file(chart(made), dark=True), encoding="utf-8")
