"""The ways to spend fewer runs, with what trains in its own way: `race` and `gp`, of a function and of a command."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchdecay.lab.jobs.command import Command
from torchdecay.lab.sweeps.search import Search
from torchdecay.lab.sweeps.sweep import sweep

pytestmark = pytest.mark.long

SCRIPT = """
import math, sys
value, seed = float(sys.argv[1]), int(sys.argv[2])
away = 3 if value == 0 else abs(math.log10(value))
print("loss", 1 + away + 0.01 * (seed * 7 % 5) + 0.001 * (seed + 1) * away)
"""


def hump(decay: Any, *, seed: int, lr_scale: float, report: Any) -> float:
    """Best at 1."""
    away = 3 if decay is None else abs(math.log10(decay.coefficient))
    return 1 + away + 0.01 * (seed * 7 % 5) + 0.001 * (seed + 1) * away


def command(folder: Path) -> Command:
    script = folder / "train.py"
    script.write_text(SCRIPT)
    return Command([sys.executable, "-S", str(script), "{value}", "{seed}"], metric=r"loss (\S+)", folder=folder)


@pytest.mark.parametrize("of", [lambda folder: hump, command], ids=["function", "command"])
def test_a_race_gives_later_seeds_only_to_what_may_be_best(of: Callable[[Path], Any], tmp_path: Path) -> None:
    found = sweep(of(tmp_path), values=[0.1, 1, 100], seeds=6, search=Search(values=[1], race=True))
    counts = Counter(run.label for run in found.runs)
    bare, best = (next(point.label for point in found.points if point.value == value) for value in (None, 1))
    assert not found.failures
    assert (counts.pop(bare), counts.pop(best)) == (6, 6)
    assert set(counts.values()) == {4}
    assert found.best is not None and found.best.point.label == best


@pytest.mark.parametrize(
    "of", [lambda folder: hump, pytest.param(command, marks=pytest.mark.slow)], ids=["function", "command"]
)
def test_gp_looks_where_the_best_is(of: Callable[[Path], Any], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    found = sweep(of(tmp_path), seeds=3, search=Search(0.01, 100, kind="gp", points=12))
    values = [point.value for point in found.points if point.value is not None]
    assert not found.failures and len(values) == 12
    assert sum(0.3 < value < 3 for value in values) >= 6
    assert found.best is not None and 0.3 < (found.best.point.value or 0) < 3
    assert found.optimum is not None and found.optimum.low <= 1 <= found.optimum.high
