"""What a long history costs: some bytes for each number, and no work in Python for each record but to read its line."""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import torchdecay as td
from torchdecay.observe.monitor.blocks import Recorder
from torchdecay.observe.monitor.columns import packed
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.series import Record


def record(path: Path, steps: int, **options: Any) -> td.Monitor:
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
    with td.Monitor(optimizer, every_steps=1, path=path, **options) as monitor:
        for _ in range(steps):
            model(torch.randn(5, 4)).square().mean().backward()
            optimizer.step()
    return monitor


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Number of records → a file: the rows of a real monitor again and again, under later steps."""
    folder = tmp_path_factory.mktemp("long")
    record(folder / "real.jsonl", 40)
    lines = (folder / "real.jsonl").read_text().splitlines(keepends=True)
    rows = [line[line.index(",") :] for line in lines if line.startswith("[")]
    made = {}
    for count in (1000, 3000):
        made[count] = folder / f"{count}.jsonl"
        long = [f"[{step + 1}{rows[step % len(rows)]}" for step in range(count)]
        made[count].write_text("".join([line for line in lines if not line.startswith("[")] + long))
    return made


def test_a_number_takes_four_bytes(files: dict[int, Path]) -> None:
    """In memory, and a step and a place for each record; reading takes no more than three times that at a time."""
    few, many = (History.load(path) for path in files.values())
    assert many.records[:1000] == few.records and len(many.records) == 3000
    wanted = 4 * len(many.groups) * len(many.quantities) + 16
    assert (len(pickle.dumps(many)) - len(pickle.dumps(few))) / 2000 == pytest.approx(wanted, abs=4)
    peaks = []
    for path in files.values():
        tracemalloc.start()
        History.load(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 2000 < 3 * wanted


def test_a_monitor_keeps_numbers_only(tmp_path: Path) -> None:
    """What its file and its writers have taken is not kept a second time."""
    monitor = record(tmp_path / "run.jsonl", 20, writers=[lambda values, step: None])
    assert not monitor._store._items and len(monitor.history.records) == 20


def test_a_history_can_be_asked_for_while_another_thread_records() -> None:
    """A page that fills while a training goes on: whole records only, and none is lost."""
    recorder, seen_enough = Recorder(), threading.Event()

    def train() -> None:
        for step in itertools.takewhile(lambda _: not seen_enough.is_set(), itertools.count()):
            names = ("weight_norm", "lr") if step % 7 else ("weight_norm", "lr", "dual")
            columns = {name: packed([step, 1.0]) for name in names}
            recorder.append(Record(step=step, first=2 * (step % 3), columns=columns))

    training = threading.Thread(target=train)
    training.start()
    seen = [recorder.records()]
    while len({len(some) for some in seen}) < 20:
        seen.append(recorder.records())
    seen_enough.set()
    training.join()
    whole = recorder.records()
    assert [one.step for one in whole] == list(range(len(whole)))
    assert all(len(some[-1]) == 2 and some[-1] == whole[len(some) - 1] for some in seen if len(some))


@pytest.mark.parametrize(
    "work",
    [
        str,
        repr,
        td.verdict,
        lambda history: history.curve("weight", "weight_norm"),
        lambda history: history.shrink("weight"),
        lambda history: history.select(groups="w*", quantities="cosine", steps=(3, 900)),
        lambda history: history[10:800].unmeasured,
        lambda history: history.steps,
        lambda history: history == history[:],
        lambda history: td.figure(history),
    ],
    ids=["print", "repr", "verdict", "curve", "shrink", "select", "slice", "steps", "equal", "figure"],
)
def test_no_line_of_python_runs_for_each_record(files: dict[int, Path], work: Callable[[History], object]) -> None:
    """Three times as many records, and as many lines of the package's code run, counted by the interpreter."""
    counts = []
    for path in files.values():
        history = History.load(path)
        counts.append(lines_run(lambda history=history: work(history)))  # type: ignore[misc]
    assert 0 < counts[1] <= counts[0] + 20


def test_a_line_of_a_file_takes_few_lines_of_python(files: dict[int, Path]) -> None:
    """At most one for each of its numbers, and as many again."""
    few, many = (lines_run(lambda path=path: History.load(path)) for path in files.values())  # type: ignore[misc]
    assert (many - few) / 2000 < 40


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of the package's code run."""
    found, before = 0, sys.gettrace()

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal found
        if "torchdecay" not in frame.f_code.co_filename:
            return None
        found += event == "line"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return found
