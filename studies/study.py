"""A study: a question, claims stated before the runs, and numbers with seeds, kept in results/NAME.json.

A claim says where a number has to lie. Over seeds the number has a mean and a 95 % t interval. The claim held where
the interval lies inside, did not hold where it lies outside, and is null where it lies across an edge: then these
seeds can't tell. Each claim is judged by itself. Nothing was tuned until it held; changes of a setup stand in
docs/log.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
sys.path.append(str(HERE.parent / "benchmarks"))

from paired import header  # noqa: E402
from torchdecay.lab.comparisons.comparison import Comparison  # noqa: E402
from torchdecay.lab.comparisons.statistics import grain_of, interval, mean, spread  # noqa: E402

VERDICTS = ("held", "did not hold", "null")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Where a number has to lie, and what it was.

    Attributes:
        said: the claim, in words.
        source: who says so; "" for the package's own docs.
        number: what the number is.
        values: one per seed.
        above, below: the ends between which its mean has to lie.
        grain: the step in which a score moves, which widens the interval by its rounding.
    """

    said: str
    number: str
    values: Sequence[float]
    source: str = ""
    above: float = -math.inf
    below: float = math.inf
    grain: float = 0.0

    @property
    def interval(self) -> tuple[float, float]:
        low, high = interval(self.values, grain=self.grain)
        return (math.nan, math.nan) if low is None or high is None else (low, high)

    @property
    def verdict(self) -> str:
        low, high = self.interval
        if low > self.above and high < self.below:
            return "held"
        return "did not hold" if high < self.above or low > self.below else "null"

    def record(self) -> dict[str, Any]:
        """What is kept: what it was made of, and what came out."""
        given = {key: value for key, value in vars(self).items() if value not in (math.inf, -math.inf)}
        return given | {"interval": self.interval, "verdict": self.verdict}

    @property
    def place(self) -> str:
        """Where the number has to lie, in words."""
        if math.isfinite(self.above) and math.isfinite(self.below):
            return f"between {self.above:g} and {self.below:g}".replace("-", "−")
        return (f"above {self.above:g}" if math.isfinite(self.above) else f"below {self.below:.3g}").replace("-", "−")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one setting measured, by quantity, one number per seed."""

    setting: str
    measured: dict[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a study measured, and what it claims of that."""

    seeds: Sequence[int]
    rows: Sequence[Row]
    claims: Sequence[Claim]
    notes: Sequence[str] = field(default=())


def rows_of(comparison: Comparison, **measures: str) -> list[Row]:
    """A row for each decay; `measures` names curves: {"accuracy": "test_score"}."""
    return [
        Row(
            setting=label,
            measured={name.replace("_", " "): comparison.final(label, curve) for name, curve in measures.items()},
        )
        for label in comparison.labels
    ]


def less(comparison: Comparison, label: str, other: str, curve: str) -> dict[str, Any]:
    """The numbers of a claim: the end of a curve with one decay less that with another, seed by seed."""
    ends = [run.final(curve) for run in comparison.runs]
    return {
        "values": comparison.contrast(label, other, measure=curve).differences,
        "grain": grain_of(ends) if curve.endswith("_score") else 0.0,
    }


def main(measure: Callable[[bool], Found]) -> None:
    """Run the study that was called: print what it found and write its JSON.

    Args:
        measure: takes whether to be quick, which is for trying out and writes nothing.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing written")
    quick = parser.parse_args().quick
    path = Path(sys.argv[0])
    where, started = header(), time.perf_counter()
    found = measure(quick)
    seconds = time.perf_counter() - started
    for row in found.rows:
        print(row.setting + ": " + ", ".join(f"{name} {plus_minus(values)}" for name, values in row.measured.items()))
    for claim in found.claims:
        print(f"{claim.verdict.upper()}: {claim.said} {claim.number}: {with_interval(claim)} ({claim.place})")
    if quick:
        return
    question, setup = asked(sys.modules["__main__"].__doc__ or "")
    record = {"question": question, "setup": setup, "command": f"python studies/{path.name}", **where}
    record |= {"seconds": round(seconds), **dataclasses.asdict(found)}
    record["claims"] = [claim.record() for claim in found.claims]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{path.stem}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print("kept; python studies/page.py writes the page")


def asked(doc: str) -> tuple[str, str]:
    """The question and the setup in a study's docstring: its first line, and the rest."""
    question, _, setup = doc.strip().partition("\n")
    return question, " ".join(setup.split())


def plus_minus(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    deviation = spread(values)
    return digits(mean(values)) + ("" if deviation is None else f" ± {digits(deviation)}")


def with_interval(claim: Claim) -> str:
    low, high = claim.interval
    return f"{digits(mean(claim.values))} ({digits(low)} to {digits(high)}, {len(claim.values)} seeds)"


def digits(value: float) -> str:
    """Three digits, without an exponent where there is room."""
    form = ".3g" if 1e-3 <= abs(value) < 1e4 or not value else ".1e"
    return f"{value:{form}}".replace("-", "−")


def names() -> list[str]:
    """The studies, whether they were run or not."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("page", "study"))


def read() -> dict[str, dict[str, Any]]:
    """What is kept in results/, by the study's name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
