"""A history of a million records of two groups: its file, loading it, its memory, printing it, its page, its parts."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

import torchdecay as td
from paired import Check, Options, Spread, main

TARGETS = {"loading it": 10.0, "printing it": 1.0, "its page": 10.0}
READ = """
import json, resource, sys, time
import torchdecay as td
from torchdecay.observe.monitor.history import History

def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start

found, folder = {}, sys.argv[2]
history, found["loading it"] = timed(lambda: History.load(sys.argv[1]))
found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
_, found["printing it"] = timed(lambda: str(history))
_, found["a tenth of its steps"] = timed(lambda: history[: len(history.records) // 10])
_, found["one group"] = timed(lambda: history["weight"])
_, found["one quantity"] = timed(lambda: history.select(quantities="weight_norm"))
_, found["a curve"] = timed(lambda: history.curve("weight", "weight_norm"))
_, found["its page"] = timed(lambda: td.report(history, folder))
print(json.dumps(found))
"""


def measure(options: Options) -> Iterator[Check]:
    """Each repeat in a process of its own, whose greatest memory is then that of the work."""
    records = 10_000 if options.quick else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "run.jsonl")
        write(path, records)
        what = f"{records:,} records, {path.stat().st_size / 1e6:.0f} MB"
        command = [sys.executable, "-c", READ, str(path), name]
        outputs = [subprocess.run(command, check=True, capture_output=True).stdout for _ in range(options.repeats)]
        found = [json.loads(output) for output in outputs]
        spread = {key: Spread.of([one[key] for one in found]) for key in found[0]}
        for key in ("loading it", "printing it", "its page"):
            yield Check(f"{what}: {key}", spread[key], unit="s", target=None if options.quick else TARGETS[key])
        for key in ("a tenth of its steps", "one group", "one quantity", "a curve"):
            yield Check(f"{what}: {key}", spread[key], unit="s")
        yield Check(
            f"{what}: peak of the process that loads it, as a part of 600 MB",
            Spread.of([one["peak"] / 600 for one in found]),
            target=1.0,
        )


def write(path: Path, records: int) -> None:
    """A thousand rows of a real monitor, again and again under later steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3)
    with td.Monitor(optimizer, every_steps=1, path=path):
        for _ in range(1000):
            optimizer.zero_grad()
            model(torch.randn(32, 64)).square().mean().backward()
            optimizer.step()
    lines = path.read_bytes().splitlines(keepends=True)
    rows = [line[line.index(b",") :] for line in lines if line.startswith(b"[")]
    with path.open("wb") as file:
        file.writelines(line for line in lines if not line.startswith(b"["))
        file.writelines(b"[%d%b" % (step + 1, rows[step % len(rows)]) for step in range(records))


if __name__ == "__main__":
    main("history", measure, repeats=3)
