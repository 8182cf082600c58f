"""Nothing that a monitor writes or measures stops a training, unless asked for; what was not written comes later."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import LoadError, NotRecordedWarning
from torchdecay.observe.monitor import jsonl


def training(steps=5, **options):
    """A training with a monitor of every step; its warnings, and the monitor."""
    model = nn.Linear(4, 2)
    optimizer = optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with td.Monitor(optimizer, every_steps=1, **options) as monitor:
            for _ in range(steps):
                model(torch.ones(3, 4)).square().mean().backward()
                optimizer.step()
    return [one for one in caught if one.category is NotRecordedWarning], monitor


class FullDisk:
    """A file on a disk that takes some bytes, then half a write, then none, until there is room again."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self.file.write(bytes(data[: self.room]))
        self.room -= done
        return done

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_is_one_warning_and_the_file_catches_up(tmp_path, monkeypatch):
    """No torn line stays in the middle, and what is in memory is in the file when there is room again."""
    disks = []
    real = jsonl.Writer.__init__

    def on_full_disk(self, *args, **kwargs):
        real(self, *args, **kwargs)
        self._file = FullDisk(self._file, 900)
        disks.append(self._file)

    monkeypatch.setattr(jsonl.Writer, "__init__", on_full_disk)
    path = tmp_path / "run.jsonl"
    caught, monitor = training(path=path)
    assert len(caught) == 1 and "No space left" in str(caught[0].message) and "strict=True" in str(caught[0].message)
    assert monitor.history.steps == (1, 2, 3, 4, 5)
    found = td.History.load(path)
    assert found.records == monitor.history.records[: len(found.records)] and len(found.records) < 5

    model = nn.Linear(4, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    path = tmp_path / "again.jsonl"
    with pytest.warns(NotRecordedWarning), td.Monitor(optimizer, every_steps=1, path=path, model=model) as monitor:
        for step in range(9):
            if step == 7:
                disks[-1].room = 10**6
            model(torch.ones(3, 4)).square().mean().backward()
            optimizer.step()
    assert td.History.load(path) == monitor.history and len(monitor.history.records) == 9


def test_a_writer_that_raises_is_one_warning_and_gets_all_later():
    """A network that is down for some steps: the writer then gets every step once, in order."""
    seen = []

    def flaky(values, step):
        if len(seen) == 2 and step == 3 and not flaky.up:
            flaky.up = True
            raise RuntimeError("network down")
        seen.append((step, values["weight/lr"]))

    flaky.up = False
    caught, monitor = training(writers=[flaky])
    assert (
        len(caught) == 1
        and "RuntimeError: network down" in str(caught[0].message)
        and "flaky" in str(caught[0].message)
    )
    assert seen == [(step, 0.01) for step in range(1, 6)] and len(monitor.history.records) == 5


def test_a_writer_that_fails_three_times_in_a_row_is_left_out():
    """A training does not wait for a dead network at every record; one success in between, and it is kept."""
    asked, taken = [], []

    def dead(values, step):
        asked.append(step)
        raise ConnectionError("down")

    def every_other_time(values, step):
        taken.append(step)
        if len(taken) % 3:
            raise ConnectionError("down")

    caught, monitor = training(steps=12, writers=[dead, every_other_time])
    assert len(asked) == 3 and len(taken) > 6 and len(monitor.history.records) == 12
    assert len(caught) == 2 and "after 3 failures in a row" in str(caught[0].message)


@pytest.mark.parametrize("part", ["record", "alarm", "close"])
def test_a_writer_that_always_raises_stops_nothing(part):
    """Whichever of its methods it is, and no other writer is hindered."""

    class Broken:
        def __call__(self, values, step):
            if part == "record":
                raise ConnectionError("down")

        def alarm(self, event):
            if part == "alarm":
                raise ConnectionError("down")

        def close(self):
            if part == "close":
                raise ConnectionError("down")

    got = []
    model = nn.Linear(4, 2)
    optimizer = optim.AdamW(td.param_groups(model, 30.0), lr=0.01)
    writers = [Broken(), lambda values, step: got.append(step)]
    with (
        pytest.warns(NotRecordedWarning, match="Broken"),
        td.Monitor(optimizer, every_steps=1, writers=writers) as monitor,
    ):
        for _ in range(3):
            model(torch.ones(3, 4)).square().mean().backward()
            optimizer.step()
    assert got == [1, 2, 3] and len(monitor.history.records) == 3
    assert [event.kind for event in monitor.history.events] == ["dominates"]


def test_strict_stops_at_the_first_error():
    """For those who would rather stop than train unseen; leaving the block raises nothing more."""

    def log(values, step):
        raise RuntimeError("network down")

    with pytest.raises(RuntimeError, match="network down") as caught:
        training(writers=[log], strict=True)
    assert caught.value.__context__ is None


def test_a_step_that_can_not_be_measured_is_a_warning(monkeypatch):
    """A fault of the monitor's own, or an optimizer that it does not expect: the training goes on without a record."""
    from torchdecay.observe.monitor.reading import Reading

    for part in ("before", "after", "__init__"):
        with monkeypatch.context() as patch:

            def fails(self, *args):
                raise TypeError("unheard of")

            patch.setattr(Reading, part, fails)
            caught, monitor = training()
            assert len(caught) == 1 and "measuring a step failed: TypeError: unheard of" in str(caught[0].message)
            assert monitor.steps == 5 and monitor.history.records == ()
            with pytest.raises(TypeError, match="unheard of"):
                training(strict=True)


def test_a_disk_that_is_full_before_the_first_line_is_one_warning(tmp_path, monkeypatch):
    """The file is begun when there is room; whoever is strict is stopped, and so is who may not write there."""
    path, real, tries = tmp_path / "runs" / "run.jsonl", Path.open, []

    def refuses(self, mode="r", *args, **kwargs):
        if self == path and "x" in mode and (code := reasons[min(len(tries), len(reasons) - 1)]):
            tries.append(code)
            raise OSError(code, os.strerror(code))
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuses)
    reasons = [errno.ENOSPC]
    caught, monitor = training(path=path)
    assert len(caught) == 1 and "No space left" in str(caught[0].message)
    assert monitor.history.steps == (1, 2, 3, 4, 5) and not path.exists()
    with pytest.raises(LoadError, match="No space left"):
        training(path=path, strict=True)
    reasons, tries = [errno.ENOSPC, errno.ENOSPC, errno.ENOSPC, 0], []
    caught, monitor = training(path=path)
    assert len(caught) == 1 and td.History.load(path) == monitor.history
    reasons, tries, path = [errno.EACCES], [], tmp_path / "other.jsonl"
    with pytest.raises(LoadError, match="Permission denied"):
        training(path=path)


@pytest.mark.parametrize("if_exists", ["append", "replace"])
def test_a_file_that_a_full_disk_left_empty_is_begun(tmp_path, if_exists):
    """The job that goes on does not stop at it."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"")
    _, monitor = training(path=path, if_exists=if_exists)
    assert td.History.load(path) == monitor.history


def test_only_a_history_is_replaced(tmp_path):
    """if_exists="replace" deletes what a monitor wrote, and nothing else of the user's."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(LoadError, match="not a history file"):
        training(path=path, if_exists="replace")
    assert path.read_text() == "dear diary"
    with pytest.raises(LoadError, match="no file"):
        training(path="/dev/full", if_exists="replace")
    assert os.path.exists("/dev/full")
