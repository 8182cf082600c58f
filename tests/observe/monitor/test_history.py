"""A history is a value: it comes back equal from its file, whole or torn, and is cut and added up without surprises."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import LoadError, TornHistoryWarning
from torchdecay.observe.monitor import columns
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.series import Event, Record, Series


def make_history(*, groups=3, records=4, seed=0):
    """A made-up history with every kind of number that there is."""
    generator = torch.Generator().manual_seed(seed)
    series = tuple(
        Series(
            name=f"layers.{i}", decay="decoupled(0.1)", source="state", names=(f"layers.{i}.weight",), num_elements=9
        )
        for i in range(groups)
    )
    made = []
    for i in range(records):
        drawn = torch.rand(groups, generator=generator).tolist()
        made.append(
            Record(
                step=max(1, 10 * i),
                first=0,
                columns={
                    "weight_norm": columns.packed(drawn),
                    "lr": columns.packed([0.1] * groups),
                    "planned_shrink": columns.packed([0.01 * (i + 1)] * groups),
                    "realized_shrink": columns.packed([0.01 * (i + 1)] * (groups - 1) + [math.nan]),
                    "update_norm": columns.packed([math.inf, *drawn[1:]]),
                },
            )
        )
    event = Event(step=10, kind="lost", group="layers.1", what='what "é"\n', why="why", fix="fix")
    return History(
        series=series, records=tuple(made), events=(event,), every_steps=10, created="now", versions={"a": "1"}
    )


def record_something(path, **options):
    model = nn.Linear(4, 2)
    optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    with td.Monitor(optimizer, path=path, every_steps=1, model=model, **options) as monitor:
        for _ in range(3):
            model(torch.randn(5, 4)).sum().backward()
            optimizer.step()
    return monitor.history


# ── Columns ──

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(FLOATS, min_size=1, max_size=80))
@settings(max_examples=200)
def test_a_column_comes_back_bit_by_bit(values):
    """Whatever the numbers: one, few or many, NaN and infinities among them."""
    column = columns.packed(values)
    written = json.dumps(columns.to_json(column), allow_nan=False)
    found = columns.unpacked(columns.from_json(json.loads(written), len(values)))
    assert len(found) == len(values)
    assert all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found, columns.unpacked(column), strict=True)
    )


def test_a_column_is_as_short_as_it_can_be():
    """One number for equal ones, a list that people can read for few, base64 for many; no needless digits."""
    assert columns.to_json(columns.packed([0.001] * 500)) == 0.001
    assert columns.to_json(columns.packed([0.001, math.nan])) == [0.001, None]
    assert isinstance(columns.to_json(columns.packed(range(100))), str)
    assert columns.to_json(columns.packed([1e300, 1.0])) == columns.to_json(columns.packed([math.inf, 1.0]))


@pytest.mark.parametrize("value", ["AAAA", [1.0, 2.0], None, "not base64!", {}], ids=str)
def test_a_damaged_column_is_refused(value):
    """Another length, or nothing that could be a column."""
    with pytest.raises((ValueError, TypeError)):
        columns.from_json(value, 3)


# ── Files ──


@pytest.mark.parametrize("groups", [1, 3, 100])
def test_a_history_comes_back_equal_from_its_file(tmp_path, groups):
    """Short columns as lists, long ones as base64."""
    history = make_history(groups=groups)
    assert History.load(history.save(tmp_path / "new folder" / "run.jsonl")) == history
    assert history != make_history(groups=groups, seed=1)


def test_records_of_several_optimizers_come_back_in_their_order(tmp_path):
    """Of groups by turns, with columns that some lack, words about some, a name that no table has, and infinity."""
    series = tuple(Series(name=f"group {i}") for i in range(3))
    norm, made = columns.packed([1.5, math.nan]), []
    for step in range(1, 101):
        own = {"weight_norm": norm} | ({"carried_shrink": columns.packed([math.inf, 0.5])} if step % 3 == 0 else {})
        own |= {"of my own": columns.packed([step, 0.1])} if step > 50 else {}
        why = {"group 0": "it is busy"} if step % 2 else {}
        made.append(Record(step=step, first=0, columns=own, unmeasured=why))
        made.append(Record(step=step, first=2, columns={"weight_norm": columns.packed([step])}))
    history = History(series=series, records=tuple(made))
    again = History.load(history.save(tmp_path / "run.jsonl"))
    assert tuple(again.records) == tuple(history.records) == tuple(made) and again == history
    assert [history.records[i] for i in range(-200, 200)] == made * 2
    assert history.records[7:90:9] == tuple(made[7:90:9])
    assert again.quantities == ("weight_norm", "carried_shrink", "of my own")
    assert history.select(steps=(1, 99)).unmeasured == {"group 0": "it is busy"} and not history.unmeasured
    assert history.select(quantities="carried_shrink").steps == tuple(range(3, 100, 3))
    assert history["group 2"].curve("group 2", "weight_norm")[1] == tuple(range(1, 101))


def test_what_a_monitor_wrote_is_what_it_holds(tmp_path):
    """The file is written as the training goes; in the end both are equal, and equal to what is read half-way."""
    history = record_something(tmp_path / "run.jsonl")
    assert td.History.load(tmp_path / "run.jsonl") == history
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 2 + 3


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path, cut):
    """A crash in the middle of a line loses that line, and says so; all before it is there."""
    path = make_history().save(tmp_path / "run.jsonl")
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    with pytest.warns(TornHistoryWarning, match="last line of .* torn") as caught:
        found = History.load(path)
    assert found.records == make_history().records and found.events == ()
    assert caught[0].filename == __file__


@pytest.mark.long
def test_every_cut_of_a_file_loads_or_is_told(tmp_path):
    """Wherever it was cut off: a history of the whole lines, or an error that says that there is none yet."""
    whole = make_history(groups=2, records=2)
    path = whole.save(tmp_path / "run.jsonl")
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        if cut < first:
            with pytest.raises(LoadError):
                History.load(path)
            continue
        torn = content[cut - 1 : cut] != b"\n"
        if torn:
            with pytest.warns(TornHistoryWarning):
                found = History.load(path)
        else:
            found = History.load(path)
        assert found.records == whole.records[: len(found.records)]


@pytest.mark.long
@pytest.mark.integration
def test_a_killed_training_leaves_all_but_the_last_line(tmp_path):
    """kill -9 while it writes, as fast as it can."""
    code = """
        import sys, torch, torchdecay as td
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model(torch.ones(1, 4)).sum().backward()
        with td.Monitor(optimizer, path=sys.argv[1], every_steps=1, model=model, by="tensor"):
            print("ready", flush=True)
            while True:
                optimizer.step()
    """
    path = tmp_path / "run.jsonl"
    running = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert running.stdout is not None and running.stdout.readline() == b"ready\n"
    while not path.exists() or path.stat().st_size < 10_000:
        assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TornHistoryWarning)
        history = History.load(path)
    assert len(history.records) > 10
    assert history.steps == tuple(range(1, len(history.records) + 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a history file"),
        ("hello\n", "does not say format"),
        ('{"a": 1}\n', "does not say format"),
        ('{"format": "torchdecay.results", "version": 1}\n', 'but "torchdecay.results"'),
        ('{"format": "torchdecay.history", "version": 2, "versions": {"torchdecay": "9.1"}}\n', "of version 2.*9.1"),
        ("[1, 2]\n", "does not say format"),
        ("\x00\x01\n", "does not say format"),
    ],
    ids=["empty", "text", "json", "results", "newer", "list", "binary"],
)
def test_another_file_is_told_from_a_history(tmp_path, text, says):
    """A newer version names the torchdecay that wrote it."""
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(LoadError, match=f"(?s){says}"):
        History.load(path)


def test_damage_in_the_middle_is_told_with_its_line(tmp_path):
    """Only the end of a file may be torn: anything else is no crash, and nothing is left out in silence."""
    path = make_history().save(tmp_path / "run.jsonl")
    lines = path.read_text().splitlines()
    for number, damaged in ((4, lines[3][:40]), (4, lines[3].replace(",0,3,", ",7,3,", 1)), (2, "{}"), (5, '{"a": 1}')):
        broken = [*lines]
        broken[number - 1] = damaged
        path.write_text("\n".join(broken) + "\n")
        with pytest.raises(LoadError, match=f"line {number} of .*is damaged") as told:
            History.load(path)
        assert ("it holds no groups, record, alarm or columns" in str(told.value)) == damaged.startswith("{")
    with pytest.raises(LoadError, match="can't be read"):
        History.load(tmp_path / "nowhere.jsonl")


def test_a_file_that_is_there_is_not_lost(tmp_path):
    """Refused, unless the user says what to do with it."""
    path = tmp_path / "run.jsonl"
    first = record_something(path)
    with pytest.raises(LoadError, match='if_exists="append"'):
        record_something(path)
    assert History.load(path) == first
    assert len(record_something(path, if_exists="replace").records) == 3
    assert len(History.load(path).records) == 3


def test_a_run_that_goes_on_goes_on_in_its_file(tmp_path):
    """After the last step that was kept, also where the last line was torn; what follows stands on lines of its own."""
    path = tmp_path / "run.jsonl"
    record_something(path)
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.warns(TornHistoryWarning):
        history = record_something(path, if_exists="append")
    assert history.steps == (1, 2, 3, 4, 5)
    assert History.load(path) == history
    assert history.curve("weight", "weight_norm")[0] == (1, 2, 3, 4, 5)
    again = record_something(path, if_exists="append", start=100)
    assert again.steps[-3:] == (101, 102, 103)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    """Before the first step, not at it; and nothing stays hooked."""
    (tmp_path / "file").write_text("")
    optimizer = optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(LoadError, match="can't be written"):
        td.Monitor(optimizer, path=tmp_path / "file" / "run.jsonl")
    assert not optimizer._optimizer_step_pre_hooks
    with pytest.raises(LoadError, match="can't be written"):
        make_history().save(tmp_path / "file" / "run.jsonl")


# ── Parts ──


def test_a_part_is_a_history():
    """By steps, by groups, by quantities; by name or pattern; and each comes back from its file."""
    history = make_history()
    assert history[10:30].steps == (10, 20)
    assert history[10:30].events == history.events and history[20:].events == ()
    assert history["layers.1"].groups == ("layers.1",)
    assert history["layers.*"] == history
    part = history.select(groups=["layers.2", "layers.0"], quantities="weight_norm", steps=(10, 20))
    assert part.groups == ("layers.0", "layers.2") and part.quantities == ("weight_norm",)
    assert part.curve("layers.2", "weight_norm") == (
        (10, 20),
        history.curve("layers.2", "weight_norm")[1][1:3],
    )
    assert part.events == ()
    assert history[100:].records == () and history[100:].groups == history.groups


def test_a_part_comes_back_from_its_file(tmp_path):
    """Places of groups are counted anew in a part."""
    part = make_history(groups=50).select(groups=["layers.7", "layers.33"])
    assert History.load(part.save(tmp_path / "part.jsonl")) == part


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda h: h["layer.1"], 'Nearest: "layers.1"'),
        (lambda h: h.curve("layers.1", "weight_nrom"), 'Nearest: "weight_norm"'),
        (lambda h: h.select(quantities="dual"), "It has weight_norm"),
        (lambda h: h.shrink("nothing"), 'no group "nothing"'),
        (lambda h: td.figure(h, "x.svg", quantity="dual"), 'no quantity "dual"'),
        (lambda h: h[10], "no part 10"),
        (lambda h: h[0:30:10], r"no part slice\(0, 30, 10\)"),
    ],
)
def test_a_name_that_is_not_there_is_told(ask, says):
    """With the nearest names."""
    with pytest.raises(LoadError, match=says):
        ask(make_history())


def test_log_shrink_adds_up_every_step():
    """A fraction that is constant, one that is a straight line, and one that is not known at first."""

    def shrink_of(steps, fractions):
        series = (Series(name="w"),)
        records = tuple(
            Record(step=step, first=0, columns={"planned_shrink": columns.packed([f]), "weight_norm": bytes(4)})
            for step, f in zip(steps, fractions, strict=True)
        )
        return History(series=series, records=records).shrink("w").planned

    steps = (1, 50, 100)
    constant = shrink_of(steps, [0.01] * 3)
    assert constant == pytest.approx([-step * math.log1p(-0.01) for step in steps], rel=1e-6)
    falling = shrink_of(steps, [0.0100, 0.0051, 0.0001])
    exact = [sum(-math.log1p(-(0.0101 - 0.0001 * s)) for s in range(1, step + 1)) for step in steps]
    assert falling == pytest.approx(exact, rel=1e-3)
    assert shrink_of(steps, [math.nan, 0.01, 0.01]) == pytest.approx(constant, rel=1e-6)
    assert shrink_of(steps, [math.nan] * 3) is None
    assert shrink_of(steps, [0.01, 1.5, 0.01])[-1] == math.inf
    # A run that was resumed at step 40 takes steps again, and at other places: each counts once.
    assert shrink_of((1, 50, 100, 50, 75, 100), [0.01, 0.9, 0.9, *[0.01] * 3])[-1] == pytest.approx(
        constant[-1], rel=1e-6
    )


def test_planned_and_realized_are_what_a_weight_without_gradient_does():
    """exp(−S) is what is left of it, under a schedule, measured at the end of a real run."""
    param = nn.Parameter(torch.randn(64, dtype=torch.float64))
    optimizer = optim.AdamW([param], lr=0.1, weight_decay=0.2)
    scheduler = optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=300)
    start = param.detach().clone()
    with td.Monitor(optimizer, every_steps=20) as monitor:
        for _ in range(300):
            param.grad = torch.zeros_like(param)
            optimizer.step()
            scheduler.step()
    left = float((param.detach() / start).mean())
    shrink = monitor.history.shrink(monitor.history.groups[0])
    assert math.exp(-shrink.realized[-1]) == pytest.approx(left, rel=1e-4)
    assert math.exp(-shrink.planned[-1]) == pytest.approx(left, rel=1e-4)
    assert shrink.pace == pytest.approx(-math.log1p(-0.2 * 0.1 * (1 - 0.9 * 299 / 300)), rel=1e-4)


# ── Looking at it ──


def test_a_frame_has_a_line_per_record_and_group():
    """And a column per quantity."""
    frame = make_history().to_frame()
    assert frame.shape == (12, 2 + 5)
    assert list(frame["group"][:3]) == ["layers.0", "layers.1", "layers.2"]
    assert frame["realized_shrink"].isna().sum() == 4


def test_text_says_what_was_planned_and_what_became_of_it():
    """A line per group, then the alarms."""
    text = str(make_history())
    assert "layers.1" in text and "lost" in text and "4 records, steps 1 to 30; 1 alarm" in text
    assert str(History()).startswith("group")


def test_an_empty_history_is_one(tmp_path):
    """A run that was stopped before its first step."""
    empty = History()
    assert History.load(empty.save(tmp_path / "run.jsonl")) == empty
    assert empty.steps == () and empty.quantities == () and empty[5:].records == ()


def test_a_thousand_tensors_over_a_thousand_records_are_small_and_quick(tmp_path):
    """A tenth of it here, with a tenth of the limits; the whole is measured by benchmarks/bench_monitor.py."""
    names = [f"layers.{i}.weight" for i in range(1000)]
    series = tuple(Series(name=name, decay="decoupled(0.1)", source="state", names=(name,)) for name in names)
    generator = torch.Generator().manual_seed(0)
    records = tuple(
        Record(
            step=100 * i,
            first=0,
            columns={
                name: columns.packed(torch.rand(1000, generator=generator).tolist())
                for name in ("weight_norm", "gradient_norm", "lr", "planned_shrink", "realized_shrink", "decay_norm",
                             "update_norm", "cosine", "rotation", "predicted_rotation", "effective_lr")
            },
        )
        for i in range(1, 101)
    )  # fmt: skip
    path = History(series=series, records=records).save(tmp_path / "run.jsonl")
    assert path.stat().st_size < 10e6
    start = time.perf_counter()
    History.load(path)
    assert time.perf_counter() - start < 1.0


def test_a_run_that_goes_on_is_recorded_where_it_would_have_been(tmp_path):
    """After a crash: at the same steps, none of them twice, by the plan's count or by the optimizer's own."""

    def run(path, *, steps, model, optimizer, **options):
        with td.Monitor(optimizer, model=model, every_steps=5, path=path, if_exists="append", **options) as monitor:
            for _ in range(steps):
                model.weight.grad = torch.ones_like(model.weight)
                optimizer.step()
        return [record.step for record in monitor.history.records]

    for planned in (True, False):
        path = tmp_path / f"{planned}.jsonl"
        model = torch.nn.Linear(4, 2, bias=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        plan = td.plan(model, td.l1(0.1))
        handle = td.attach(optimizer, plan, model=model) if planned else None
        assert run(path, steps=13, model=model, optimizer=optimizer) == [1, 5, 10]
        saved = copy.deepcopy(optimizer.state_dict())
        assert run(path, steps=4, model=model, optimizer=optimizer, start="auto") == [1, 5, 10, 14, 15]
        if handle is not None:
            handle.remove()
        resumed = torch.optim.AdamW(model.parameters(), lr=0.1)
        if planned:
            td.attach(resumed, plan, model=model)
        resumed.load_state_dict(saved)
        assert run(path, steps=7, model=model, optimizer=resumed, start="auto") == [1, 5, 10, 14, 15, 20]
        assert [record.step for record in History.load(path).records] == [1, 5, 10, 14, 15, 20]
