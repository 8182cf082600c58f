"""`torchdecay run` over the same training without it: its steps, its first step, its start, and the memory it keeps."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torchdecay as td
from bench_monitor import MLP, Large
from paired import Check, Options, Spread, interleave, main, timed, undisturbed

START = "import torch; x = torch.nn.Parameter(torch.ones(1)); torch.optim.SGD([x], lr=0.1).step()"


def measure(options: Options) -> Iterator[Check]:
    steps = 200 if options.quick else 1000
    mlp = MLP()
    mlp.train(20)
    yield steps_of(f"MLP 64-256-10, batch 64: {steps} steps", lambda: mlp.train(1), steps, options, target=1.05)
    yield from first_step(lambda: mlp.train(1), "MLP 64-256-10", options, target=0.3)
    large = Large(8, width=64, depth=2, vocabulary=500) if options.quick else Large(32)
    large.step()
    yield from large_steps(large, options)
    yield from start(options)


def steps_of(what: str, step: Callable[[], None], steps: int, options: Options, *, target: float) -> Check:
    """Steps after the first one, which is looked at: eleven of a thousand have a record, and the page is on its way."""

    def run() -> float:
        step()
        return timed(lambda: [step() for _ in range(steps)])

    def seen() -> float:
        with tempfile.TemporaryDirectory() as folder, td.watch(Path(folder) / "out"):
            return run()

    pairs = []
    for turn in range(options.repeats):
        order = (seen, run) if turn % 2 else (run, seen)
        times = undisturbed(lambda order=order: {work: work() for work in order}, options)
        pairs.append((times[seen], times[run]))
    return Check(
        f"{what} under a run over the same without",
        Spread.of([a / b for a, b in pairs]),
        target=target,
        detail={"with": Spread.of([a for a, _ in pairs]), "without": Spread.of([b for _, b in pairs])},
    )


def large_steps(large: Large, options: Options) -> Iterator[Check]:
    """A hundred steps take minutes: a step with a record and one without are shared out."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with td.watch(every_steps=2) as seen:
        first = timed(large.step)
        pairs = [undisturbed(lambda: (timed(large.step), timed(large.step)), options) for _ in range(options.repeats)]
    assert seen.record.summary.notes == ()
    # The second step of a pair has no record; that the hooks are there costs microseconds, which the MLP shows.
    shares = [(99 * plain + record) / (100 * plain) for record, plain in pairs]
    yield Check(
        f"GPT-2 ({large.num_elements:,} weights), fused AdamW, {len(large.ids)} tokens: 100 steps under a run, one "
        "with a record, over the same without",
        Spread.of(shares),
        target=1.02,
        detail={
            "step with a record": Spread.of([record for record, _ in pairs]),
            "step without": Spread.of([plain for _, plain in pairs]),
            "first step": Spread.of([first]),
        },
    )
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 / large.num_elements
    yield Check("GPT-2: bytes per weight that the most memory rose by", Spread.of([more]))


def first_step(step: Callable[[], None], name: str, options: Options, *, target: float) -> Iterator[Check]:
    """Looking for the model, plan, audit, forecast, the first record and the first page."""

    begun: list[Any] = []

    def seen() -> None:
        begun.append(td.watch(Path(tempfile.mkdtemp()) / "out").__enter__())
        step()

    def end() -> None:
        while begun:
            begun.pop().__exit__(None, None, None)

    pairs = interleave(seen, step, options, warmup=1, reset=end)
    end()
    yield Check(
        f"{name}: the first step under a run, beyond the same without",
        Spread.of([a - b for a, b in pairs]),
        unit="ms",
        target=target,
    )


def start(options: Options) -> Iterator[Check]:
    """The whole of a script that takes one step, its end and last page included."""
    folder = tempfile.mkdtemp()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=folder, env=env)

    ours = ("-m", "torchdecay", "run", "--overwrite", "-c", START)
    pairs = interleave(lambda: run(*ours), lambda: run("-c", START), options, warmup=1)
    yield Check(
        "a script of one step, start to end, beyond the same without",
        Spread.of([a - b for a, b in pairs]),
        unit="ms",
        detail={"with": Spread.of([a for a, _ in pairs]), "without": Spread.of([b for _, b in pairs])},
    )


if __name__ == "__main__":
    main("run", measure, repeats=7)
