"""The store: what is finished is kept, whatever is killed, full or shared, and nothing is run twice."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest

import torchdecay as td
from forks import FORKS
from sweeping import into_store, slow_task, task, until_full
from torchdecay.errors import TaskError
from torchdecay.lab.storage import claims
from torchdecay.lab.storage.claims import Claims
from torchdecay.lab.storage.store import Store, StoredRuns, _told
from torchdecay.lab.sweeps.search import Search
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.results import CURVES, Failure
from torchdecay.lab.training.train import train
from torchdecay.lab.training.trial import Trial
from torchdecay.plans.forms.l2 import decoupled

pytestmark = pytest.mark.long

IDENTITY = {"task": "halves", "form": "decoupled", "steps": "18"}
VALUES = (0.01, 0.1, 0.3, 1.0)


def opened(path: Path, *, resume: bool = True, **identity: str) -> StoredRuns:
    return Store(path, resume).open(identity=IDENTITY | identity, measure="validation_loss", num_steps=18)


def trial(value: float = 0.1, seed: int = 0) -> Trial:
    return Trial(contender=as_contender(decoupled(value)), seed=seed, value=value)


def validated(seed: int = 0) -> Any:
    """A run with validation rows."""
    from torchdecay.lab.training.holdout import with_validation

    return train(with_validation(task(), 0)[0], decoupled(0.1), seed=seed, with_line=False)


def keys(path: Path, name: str | None = None) -> Counter[str]:
    """How often each run stands in the file, read as anybody with Optuna reads it."""
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{path}")
    return Counter(one.user_attrs["key"] for one in study.trials if "run" in one.user_attrs)


def test_a_run_comes_back_equal(tmp_path: Path) -> None:
    """Every number of a finished run survives the file, also NaN, and also a failure's traceback."""
    run = dataclasses.replace(validated(), train_loss=(math.nan, math.inf, -math.inf, *validated().train_loss[3:]))
    store = opened(tmp_path / "s.db")
    store.record(trial(), run)
    store.record(trial(seed=1), Failure(label="decoupled(0.1)", seed=1, message="broke", traceback="line 3"))
    store.close()
    again = opened(tmp_path / "s.db")
    assert repr(again.finished()) == repr({trial().key: run})
    study = optuna.load_study(study_name="halves, decoupled", storage=f"sqlite:///{tmp_path / 's.db'}")
    good, bad = study.trials
    assert good.params == {"coefficient": 0.1, "seed": 0, "lr_scale": 1.0}
    assert good.value == run.validation_loss[-1] and good.intermediate_values[2] == run.validation_loss[1]
    assert bad.state.name == "FAIL" and bad.user_attrs["traceback"] == "line 3"
    assert study.best_trial.number == good.number


def test_a_resumed_sweep_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Stopped after some runs and gone on with: the same runs, the same choice, and only the missing ones trained."""
    whole = sweep(task(), search=Search(0.01, 1, points=5), seeds=2, engine="serial")
    calls: list[str] = []

    def stop(progress: Any) -> None:
        calls.extend([progress.label] * progress.run_is_done)
        if len(calls) == 3:
            raise KeyboardInterrupt

    path = tmp_path / "s.db"
    options: Any = dict(search=Search(0.01, 1, points=5), seeds=2, engine="serial")
    first = sweep(task(), on_progress=stop, store=path, **options)
    assert first.interrupted and len(first.runs) == 3 and "--resume goes on" in td.verdict(first)
    more: Any = {"on_progress": lambda one: calls.extend([one.label] * one.run_is_done)}
    rest = sweep(task(), store=Store(path, resume=True), **more, **options)
    assert not rest.interrupted and len(calls) == len(whole.runs) == 12
    assert [dataclasses.replace(run, seconds=0) for run in rest.runs] == [
        dataclasses.replace(run, seconds=0) for run in whole.runs
    ]
    assert rest.best == whole.best and set(keys(path).values()) == {1}


@pytest.mark.parametrize("kind", ["grid", "halving"])
def test_what_was_under_way_in_a_stack_is_kept_and_made_again(tmp_path: Path, kind: str) -> None:
    """Ctrl-C keeps the curves so far in results and store, none of them counts, and resume ends up with whole runs."""
    options: Any = dict(seeds=2, search=Search(values=(0.1, 1.0), kind=kind), engine="stacked")
    whole = sweep(task(), **options)

    calls: list[int] = []

    def stop(progress: Any) -> None:
        calls.append(progress.steps_done)
        if len(calls) == 2:
            raise KeyboardInterrupt

    store = Store(tmp_path / "s.db", resume=True)
    first = sweep(task(), on_progress=stop, store=store, **options)
    assert first.interrupted and first.best is None and len(first.runs) == 6
    assert all(run.unfinished and run.steps[-1] < 18 for run in first.runs)
    assert "0 runs finished" in td.verdict(first) and "Of 6 more there are the curves so far" in td.verdict(first)
    rest = sweep(task(), store=store, **options)
    assert [(run.label, run.seed, run.steps) for run in rest.runs] == [
        (run.label, run.seed, run.steps) for run in whole.runs
    ]


def killed(path: Path, moments: int, seed: int) -> None:
    """Kill a sweep -9 at random moments until it has been killed so often; then let it end, and count."""
    draw = random.Random(seed)
    known: Counter[str] = Counter()
    for moment in range(moments):
        child = FORKS.Process(target=into_store, args=(str(path), VALUES, 6))
        child.start()
        before = len(known)
        deadline = time.monotonic() + 60
        # Not before it has done something new, so that every kill lands in the work and not in the imports.
        while time.monotonic() < deadline and child.is_alive() and _count(path) <= before + (moment > 0):
            time.sleep(0.002)
        time.sleep(draw.random() * 0.03)
        child.kill()
        child.join()
        now = keys(path)
        assert known <= now, "a finished run is gone"
        known = now
    child = FORKS.Process(target=into_store, args=(str(path), VALUES, 6))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert len(keys(path)) == (len(VALUES) + 1) * 6 and set(keys(path).values()) == {1}
    result = sweep(slow_task(), "decoupled", VALUES, seeds=6, engine="serial", store=Store(path, resume=True))
    assert len(result.runs) == 30


def _count(path: Path) -> int:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM trials").fetchone()[0])
    except sqlite3.Error:
        return 0


@pytest.mark.integration
def test_a_kill_costs_the_run_in_flight_only(tmp_path: Path) -> None:
    """kill -9 at two random moments: nothing finished is lost, nothing is run twice, and the end is complete."""
    killed(tmp_path / "s.db", 2, seed=0)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_kills(tmp_path: Path, seed: int) -> None:
    """The same at ten random moments."""
    killed(tmp_path / "s.db", 10, seed=seed)


@pytest.mark.integration
def test_processes_share_a_store(tmp_path: Path) -> None:
    """Two on one sweep and one on another, started at the same moment: all end well, each run was made once."""
    path = tmp_path / "s.db"
    sweep(slow_task(), "decoupled", VALUES[:1], seeds=1, engine="serial", store=path)
    asked = [("decoupled", True), ("decoupled", True), ("coupled", False)]
    started = [FORKS.Process(target=into_store, args=(str(path), VALUES, 4, *one)) for one in asked]
    for child in started:
        child.start()
    for child in started:
        child.join()
    assert [child.exitcode for child in started] == [0, 0, 0]
    for study in ("halves, decoupled", "halves, coupled"):
        there = keys(path, study)
        assert len(there) == 20 and set(there.values()) == {1}


def test_a_claim_is_one_persons_until_dead_or_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two owners never hold one key; a dead process's and a silent one's claim are free again."""
    path = tmp_path / "s.db"
    one, two = Claims(path, "sweep"), Claims(path, "sweep")
    assert one.take("a") and one.take("a") and not two.take("a")
    assert Claims(path, "another sweep").take("a")
    one.release("a")
    assert two.take("a") and not one.take("a")
    two.release("nothing of the kind")
    with sqlite3.connect(path) as connection:
        host = two._owner.split("/")[0]
        connection.execute("UPDATE torchdecay_claims SET owner = ? WHERE sweep = 'sweep'", (f"{host}/4194305/x",))
    assert one.take("a"), "a process of this machine that is not there holds nothing"
    monkeypatch.setattr(claims, "STALE_SECONDS", -1.0)
    assert two.take("a"), "who does not renew loses it"
    for each in (one, two):
        each.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM torchdecay_claims WHERE sweep = 'sweep'").fetchone() == (0,)


def test_claims_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run keeps its claim: the time in the file moves on while it lasts."""
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.02)
    mine = Claims(tmp_path / "s.db", "sweep")
    mine.take("a")
    with sqlite3.connect(tmp_path / "s.db") as connection:
        before = connection.execute("SELECT beat FROM torchdecay_claims").fetchone()[0]
        deadline = time.monotonic() + 5
        while connection.execute("SELECT beat FROM torchdecay_claims").fetchone()[0] == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    mine.close()


def test_a_longer_run_stands_in_for_a_stopped_one(tmp_path: Path) -> None:
    """What halving stopped and a later sweep trained to the end counts as the whole run."""
    run = validated()
    curves = {name: curve[:3] for name in ("steps", *CURVES) if (curve := getattr(run, name)) is not None}
    short = dataclasses.replace(run, **curves)
    store = opened(tmp_path / "s.db")
    for one in (short, run, short):
        store.record(trial(), one)
    assert store.finished()[trial().key].steps[-1] == 18


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of thousands is looked into before each run: only what is new is decoded."""
    read: list[str] = []
    store = opened(tmp_path / "s.db")
    monkeypatch.setattr("torchdecay.lab.storage.store.loads", lambda text: read.append(text) or json.loads(text))
    for count in (1, 2, 3):
        store.record(trial(seed=count), validated())
        assert len(store.finished()) == len(read) == count


def test_what_halving_stopped_a_grid_trains_to_its_end(tmp_path: Path) -> None:
    """A run that was stopped early is no whole run: another search with the same values makes it again."""
    options: Any = dict(values=(0.01, 0.1, 1.0), seeds=1, engine="serial", store=Store(tmp_path / "s.db", resume=True))
    assert sorted(run.steps[-1] for run in sweep(task(), search="halving", **options).runs) == [6, 6, 18, 18]
    assert [run.steps[-1] for run in sweep(task(), **options).runs] == [18] * 4
    assert sorted(keys(tmp_path / "s.db").values()) == [1, 1, 2, 2]


def test_another_sweep_in_the_file_is_told_apart(tmp_path: Path) -> None:
    """resume finds its own sweep or says what differs; without it the file takes several sweeps."""
    path = tmp_path / "s.db"
    first = opened(path)
    first.record(trial(), validated())
    with pytest.raises(TaskError, match=r'"halves, decoupled" has steps 18 there, 20 here'):
        opened(path, steps="20")
    other = opened(path, resume=False, steps="20")
    assert other.finished() == {} and len(opened(path).finished()) == 1
    with pytest.raises(TaskError, match="holds 1 finished runs of this sweep already"):
        opened(path, resume=False)
    names = {one.study_name for one in optuna.get_all_study_summaries(f"sqlite:///{path}")}
    assert names == {"halves, decoupled", "halves, decoupled (2)"}


def test_another_format_is_another_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that a later version wrote in its own way is not read as if it were ours."""
    monkeypatch.setattr("torchdecay.lab.storage.store.FORMAT", 99)
    opened(tmp_path / "s.db")
    monkeypatch.undo()
    with pytest.raises(TaskError, match="format 99 there, 1 here"):
        opened(tmp_path / "s.db")


def test_what_the_runs_depend_on_is_what_resume_compares(tmp_path: Path) -> None:
    """Other steps, rows, learning rate or rules make another sweep; other seeds and values do not."""
    path = tmp_path / "s.db"
    options: Any = dict(engine="serial", store=Store(path, resume=True))
    sweep(task(), "decoupled", [0.1], seeds=1, **options)
    assert len(sweep(task(), "decoupled", [0.1, 0.2], seeds=2, **options).runs) == 6
    import torch

    for change, said in (
        ({"num_steps": 20}, "steps 18 there, 20 here"),
        ({"data": lambda seed: task().data(seed + 1)}, "data "),
        ({"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.2)}, "learning rates "),
        ({"model": lambda: torch.nn.Linear(8, 1)}, "initial weights "),
        ({"rules": []}, "rules "),
    ):
        with pytest.raises(TaskError, match=said):
            sweep(task(**change), "decoupled", [0.1], seeds=1, **options)


@pytest.mark.parametrize("content", [b"not a database", b"rows,price\n1,2\n"])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """A user's own file given as the store by mistake is refused, and not a byte of it changes."""
    path = tmp_path / "houses.csv"
    path.write_bytes(content)
    with pytest.raises(TaskError, match="is no SQLite file"):
        opened(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """Also when it is SQLite."""
    path = tmp_path / "places.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    before = path.read_bytes()
    with pytest.raises(TaskError, match='something else, with the tables "bookmarks"'):
        opened(path)
    assert path.read_bytes() == before


def test_a_study_of_another_user_of_optuna_is_no_sweep(tmp_path: Path) -> None:
    """An Optuna file without sweeps takes one beside what it has; resume says that there is none."""
    path = tmp_path / "s.db"
    optuna.create_study(study_name="mine", storage=f"sqlite:///{path}")
    with pytest.raises(TaskError, match='holds "mine", but not this sweep: those are not torchdecay\'s'):
        opened(path)
    assert opened(path, resume=False).finished() == {}


def test_places_that_can_not_be_written(tmp_path: Path) -> None:
    """A folder, a folder that is missing, a disk that refuses: said before any training."""
    with pytest.raises(TaskError, match="is a folder"):
        opened(tmp_path)
    with pytest.raises(TaskError, match="which is not there"):
        opened(tmp_path / "no" / "s.db")
    with pytest.raises(TaskError, match=r"the store /proc/s.db can't be written: unable to open"):
        opened(Path("/proc/s.db"))


def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    """Overwritten pages, a file that was cut, a run that is no run: no word of safety or room, and no byte changed."""
    whole = tmp_path / "s.db"
    store = opened(whole)
    store.record(trial(), validated())
    store.close()
    content = whole.read_bytes()
    broken = {"pages": content[:100] + bytes(9000) + content[9100:], "cut": content[: len(content) // 2]}
    for name, damaged in broken.items():
        path = tmp_path / f"{name}.db"
        path.write_bytes(damaged)
        with pytest.raises(TaskError, match="is damaged: ") as told:
            opened(path)
        assert "safe" not in str(told.value) and "room" not in str(told.value) and path.read_bytes() == damaged
    with sqlite3.connect(whole) as connection:
        connection.execute("UPDATE trial_user_attributes SET value_json = '\"{}\"' WHERE key = 'run'")
    with pytest.raises(TaskError, match="is damaged: its run 0 can't be read"):
        opened(whole)


def test_a_locked_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds it is the matter, not the disk."""
    path = tmp_path / "s.db"
    opened(path).close()
    monkeypatch.setattr(claims, "BUSY_SECONDS", 0.05)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TaskError, match="is locked: another process") as told:
            opened(path)
    assert "Wait until that process is done" in str(told.value) and "room" not in str(told.value)


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("attempt to write a readonly database", "You may not write to the file or to its folder"),
        ("unable to open database file", "You may not write to the file or to its folder"),
        ("database or disk is full", "Make room on the disk"),
        ("database disk image is malformed", "is damaged"),
    ],
)
def test_each_trouble_of_a_store_has_its_own_advice(tmp_path: Path, why: str, said: str) -> None:
    """SQLite's words, whatever layer they come through."""
    with pytest.raises(TaskError, match=said), _told(tmp_path / "s.db"):
        raise sqlite3.OperationalError(why)


def test_without_sqlite_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that was built without SQLite can't keep a store, and says so."""
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    monkeypatch.delitem(sys.modules, "torchdecay.lab.storage.claims")
    with pytest.raises(TaskError, match="this Python has no SQLite"):
        opened(tmp_path / "s.db")


@pytest.mark.integration
def test_a_full_disk_costs_the_runs_in_flight_only(tmp_path: Path) -> None:
    """When nothing more can be written the sweep ends with the reason, and all that was written is there."""
    path, values = tmp_path / "s.db", (0.1, 0.2, 0.3)
    child = FORKS.Process(target=until_full, args=(str(path), values, 9, 20_000))
    child.start()
    child.join()
    assert "can't be written: " in (tmp_path / "told").read_text()
    there = keys(path)
    assert 2 <= len(there) < 36 and set(there.values()) == {1}
    result = sweep(task(), "decoupled", values, seeds=9, engine="serial", store=Store(path, resume=True))
    assert len(result.runs) == 36 and set(keys(path).values()) == {1}


def test_json_in_the_file_is_standard(tmp_path: Path) -> None:
    """Other programs can read the runs: no NaN that JSON does not know."""
    store = opened(tmp_path / "s.db")
    store.record(trial(), dataclasses.replace(validated(), gradient_norm=(math.nan,) * 10))
    (one,) = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 's.db'}").trials

    def refuse(text: str) -> None:
        raise AssertionError(text)

    assert json.loads(one.user_attrs["run"], parse_constant=refuse)["gradient_norm"][0] == "NaN"


def test_nothing_of_a_closed_store_stays_open(tmp_path: Path) -> None:
    """On every system the file can be moved or deleted afterwards."""
    store = opened(tmp_path / "s.db")
    store.claim("a")
    store.close()
    descriptors = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    assert str(store.path) not in [os.readlink(one) for one in descriptors if one.exists()]
