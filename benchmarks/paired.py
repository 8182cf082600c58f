"""Paired, interleaved timing: what is compared runs turn by turn, so that a busy machine slows both alike.

Each pair runs A and B back to back, in alternating order, and gives one ratio; the median of the ratios is the figure,
the quartiles say how much to trust it. With `--alone`, pairs during which other processes computed are measured again.
A benchmark is a function from `Options` to `Check`s, run by `main`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

RESULTS = Path(__file__).parent / "results"
STAT = Path("/proc/stat")
PATIENCE = 1200.0
"""Seconds that one pair waits for a calm machine."""

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How long to measure."""

    repeats: int
    quick: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Spread:
    """Quartiles of repeated measurements."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return cls(*[values[0]] * 3)
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def show(self, unit: str) -> str:
        scale = 1e3 if unit == "ms" else 1.0
        return f"{self.median * scale:.3g} {unit} ({self.low * scale:.3g} to {self.high * scale:.3g})"


@dataclass(frozen=True)
class Check:
    """One figure, and the target that it has to meet, if there is one.

    Attributes:
        what: the figure in words.
        measured: its quartiles; seconds where the unit is "ms" or "s".
        unit: "x", "ms", "s", "runs", "MB" or "calls".
        target: limit on the median, in the same unit as `measured`; None for a figure that only informs.
        sense: on which side of the target the median has to lie.
        detail: the times behind a ratio, by label.
        cell: row and column, for figures that are one table together.
    """

    what: str
    measured: Spread
    unit: Literal["x", "ms", "s", "runs", "MB", "calls", ""] = "x"
    target: float | None = None
    sense: Literal["at least", "at most"] = "at most"
    detail: dict[str, Spread] = dataclasses.field(default_factory=dict)
    cell: tuple[str, str] | None = None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        met = self.measured.median <= self.target
        if self.sense == "at least":
            met = self.measured.median >= self.target
        return "PASS" if met else "FAIL"

    @property
    def goal(self) -> str:
        if self.target is None:
            return ""
        scale = 1e3 if self.unit == "ms" else 1.0
        return f"{self.sense} {self.target * scale:g} {self.unit}"


def timed(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def undisturbed(work: Callable[[], T], options: Options) -> T:
    """The result of `work`; with `alone`, of the first call during which the rest of the machine was idle."""
    if not options.alone:
        return work()
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        if _others(lambda: time.sleep(0.05))[1] < 0.1:
            result, share = _others(work)
            if share < 0.1:
                return result
    sys.exit(f"For {PATIENCE:.0f} s this machine was never calm enough to measure alone.")


def _others(work: Callable[[], T]) -> tuple[T, float]:
    """The result of `work`, and how many cores other processes kept busy meanwhile (0 where Linux does not say)."""

    def used() -> tuple[float, float]:
        own = sum(os.times()[:4])
        if not STAT.exists():
            return own, own
        user, nice, system, _, _, *interrupts = map(int, STAT.read_text().split("\n", 1)[0].split()[1:8])
        return own, (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")

    own, everyone, start = *used(), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    own_after, everyone_after = used()
    # The kernel counts in hundredths of a second, so two of them are forgiven.
    return result, max(0.0, everyone_after - everyone - (own_after - own) - 0.02) / max(seconds, 1e-9)


def interleave(
    a: Callable[[], object],
    b: Callable[[], object],
    options: Options,
    *,
    warmup: int = 2,
    reset: Callable[[], object] = lambda: None,
    clock: Callable[[Callable[[], object]], float] = timed,
) -> list[tuple[float, float]]:
    """Times of (a, b) for each pair; `reset` runs untimed before every call, the order changes at every pair."""

    def pair(order: tuple[Callable[[], object], ...]) -> dict[Callable[[], object], float]:
        times = {}
        for work in order:
            reset()
            times[work] = clock(work)
        return times

    pairs = []
    for turn in range(-warmup, options.repeats):
        order = (a, b) if turn % 2 else (b, a)
        times = undisturbed(lambda order=order: pair(order), options)
        if turn >= 0:
            pairs.append((times[a], times[b]))
    return pairs


def ratio(
    what: str,
    over: tuple[str, Callable[[], object]],
    under: tuple[str, Callable[[], object]],
    options: Options,
    *,
    reset: Callable[[], object] = lambda: None,
    target: float | None = None,
    sense: Literal["at least", "at most"] = "at most",
    cell: tuple[str, str] | None = None,
    warmup: int = 2,
) -> Check:
    """Time of `over` divided by time of `under`, each a label and what to run."""
    pairs = interleave(over[1], under[1], options, reset=reset, warmup=warmup)
    return Check(
        what,
        Spread.of([a / b for a, b in pairs]),
        target=target,
        sense=sense,
        detail={over[0]: Spread.of([a for a, _ in pairs]), under[0]: Spread.of([b for _, b in pairs])},
        cell=cell,
    )


def header() -> dict[str, str]:
    """Where and with what this was measured."""
    import torch

    return {
        "date": datetime.date.today().isoformat(),
        "device": _processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown",
    }


def _processor() -> str:
    models = {
        line.split(":", 1)[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ())
        if line.startswith("model name")
    }
    return f"{' / '.join(sorted(models)) or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def main(name: str, measure: Callable[[Options], Iterable[Check]], *, repeats: int = 21) -> None:
    """Run one benchmark from the command line: print the table, write the JSON, exit 1 where a target is missed.

    Args:
        name: of the file under results/.
        measure: yields checks, which are printed as they come.
        repeats: how many pairs, unless the command line says otherwise.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--repeats", type=int, default=None, help=f"pairs per figure (default {repeats})")
    parser.add_argument("--quick", action="store_true", help="few pairs on small inputs, nothing written")
    parser.add_argument("--alone", action="store_true", help="measure again while other processes compute")
    given = parser.parse_args()
    options = Options(given.repeats or (3 if given.quick else repeats), given.quick, given.alone)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")

    where = header()
    print(name + ": " + ", ".join(f"{key} {value}" for key, value in where.items()), flush=True)
    checks = list(shown(measure(options)))
    if not options.quick:
        write(name, where, options, checks)
    sys.exit(any(check.verdict == "FAIL" for check in checks))


def shown(checks: Iterable[Check]) -> Iterator[Check]:
    """Print each as it comes."""
    for check in checks:
        times = ", ".join(f"{label} {spread.show('ms')}" for label, spread in check.detail.items())
        print(f"  {check.what}: {check.measured.show(check.unit)}", end="")
        print(f"; target {check.goal}: {check.verdict}" if check.target is not None else "")
        if times:
            print(f"      {times}", flush=True)
        yield check


def write(name: str, where: dict[str, str], options: Options, checks: Iterable[Check]) -> None:
    """Put figures into the file that `table.py` reads."""
    RESULTS.mkdir(exist_ok=True)
    told = [_as_json(check) for check in checks]
    record = {**where, "repeats": options.repeats, "alone": options.alone, "checks": told}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _as_json(check: Check) -> dict[str, object]:
    return {**dataclasses.asdict(check), "verdict": check.verdict}
