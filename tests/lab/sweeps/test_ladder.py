"""Ladders: the exponent of the best value over sizes, and silence where seeds don't show one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

import torchdecay as td
from reports import sweep_samples
from sweeping import task
from torchdecay.errors import TaskError
from torchdecay.lab.sweeps.ladder import Ladder, ladder
from torchdecay.lab.sweeps.search import spaced
from torchdecay.lab.sweeps.sweep import Sweep


def swept(peak: float, **changes: object) -> Sweep:
    return sweep_samples.sweep(spaced(0.01, 1000, 21), peak=peak, seeds=3, **changes)


@pytest.fixture(scope="module")
def rising() -> Ladder:
    """The best value is ten times as large where the size is a hundred times."""
    return Ladder(sizes=(1.0, 100.0, 10000.0), sweeps=(swept(0.3), swept(3.0), swept(30.0)))


def test_the_exponent_and_its_interval(rising: Ladder) -> None:
    """log λ over log N: a half; what is expected at the next size lies on the line."""
    assert rising.exponent is not None and rising.why_not == ""
    middle, low, high = rising.exponent
    assert low < 0.5 < high and middle == pytest.approx(0.5, abs=0.05) and high - low < 0.2
    value, low, high = rising.at(1e6)
    assert low < 300 < high and math.log10(value) == pytest.approx(math.log10(300), abs=0.15)


def test_a_ladder_says_itself_and_comes_back(rising: Ladder, tmp_path: Path) -> None:
    """Words, page and JSON, each with the interval of every size."""
    assert str(rising) == td.verdict(rising) and "exponent of the best value over size is 0.5" in str(rising)
    assert Ladder.from_json(rising.to_json()) == rising
    assert "10000" in td.report(rising, tmp_path).read_text()


def test_where_seeds_overlap_nothing_is_foretold() -> None:
    """The same best value at all sizes makes a line of any slope."""
    same = Ladder(sizes=(1.0, 2.0), sweeps=(swept(3.0), swept(3.0)))
    assert "overlap" in same.why_not and "Nothing is said of other sizes" in str(same)
    with pytest.raises(TaskError, match="no value can be foretold for size 4"):
        same.at(4)


def test_what_is_not_known_of_a_size_is_said() -> None:
    """A best value at the end of what was tried, none that was chosen, and too few seeds."""
    open_end = Ladder(sizes=(1.0, 9.0), sweeps=(swept(3.0), swept(1000.0)))
    assert open_end.why_not == "at size 9 the best value may lie beyond the strongest that was tried"
    stopped = Ladder(sizes=(1.0, 9.0), sweeps=(swept(3.0), replace(swept(30.0), interrupted=True)))
    assert stopped.why_not == "the sweep at size 9 has no chosen value" and stopped.exponent is None
    few = Ladder(sizes=(1.0, 9.0), sweeps=(swept(3.0), sweep_samples.sweep(seeds=2)))
    assert few.why_not == "the sweep at size 9 has too few values or seeds"


def test_sizes_are_swept_in_order() -> None:
    """Each once, ascending; fewer than two are no ladder."""
    asked = []

    def of_steps(size: float) -> object:
        asked.append(size)
        return task(num_steps=int(size))

    found = ladder(of_steps, [6, 4, 6], values=[0.1], seeds=1, engine="serial")
    assert asked == [4, 6] and [one.num_steps for one in found.sweeps] == [4, 6] and found.exponent is None
    with pytest.raises(TaskError, match="a ladder has 1 size"):
        ladder(of_steps, [3])
