"""What is seen of optimizers that step, whoever makes them, and that nothing changes by it."""

from __future__ import annotations

import copy
import gc
import logging
import os
import sys
import threading
import warnings
import weakref
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import torchdecay as td
from torchdecay.apply.handle import handle_of
from torchdecay.errors import DecayError, PlanError, TorchdecayError
from torchdecay.integrations.script import ending
from torchdecay.integrations.script import pages as written
from torchdecay.integrations.script import session as sessions
from torchdecay.integrations.script import steps as door_steps
from torchdecay.integrations.script.guard import unheard
from torchdecay.integrations.script.options import Options
from torchdecay.integrations.script.watching import Watching
from torchdecay.observe.recorded.record import RunRecord, write_whole
from torchdecay.reports import document
from torchdecay.text import percent

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True, scope="module")
def _what_was_there_before() -> Iterator[None]:
    """Hide it from the collector: each look-around goes through all that the collector knows."""
    gc.freeze()
    yield
    gc.unfreeze()


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 6)).square().mean().backward()
        optimizer.step()
    return [param.detach().clone() for param in net.parameters()]


def adamw(net: nn.Module, wd: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=wd)


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def test_every_optimizer_that_steps_is_seen_and_none_is_changed(tmp_path: Path) -> None:
    """Made before or inside, of any class; names are the model's; the weights are those without it."""
    net, other = model(), nn.Linear(6, 1)
    expected = train(net, adamw(net))
    net = model()
    optimizer = adamw(net)
    with td.watch(tmp_path / "out", every_steps=2) as seen:
        assert same(train(net, optimizer), expected)
        train(other, torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9))
    record = seen.record
    assert [(one.optimizer, one.model, one.steps) for one in record.summary.optimizers] == [
        ("AdamW", "Sequential", 5),
        ("SGD", "Linear", 5),
    ]
    first, second = record.seen
    assert first.plan is not None and second.plan is not None and first.history is not None
    assert [row.name for row in first.plan.rows] == [name for name, _ in net.named_parameters()]
    assert first.plan["0.weight"].decay == td.decoupled(0.1)
    assert all(row.decay is None for row in second.plan.rows)
    assert first.history.steps == (1, 2, 4)
    kept = RunRecord.load(tmp_path / "out")
    assert (kept.seen, kept.summary.optimizers) == (record.seen, record.summary.optimizers)
    assert (tmp_path / "out" / "index.html").stat().st_size > 10_000
    train(net, optimizer)
    assert seen.record.summary.optimizers[0].steps == 5


@pytest.mark.parametrize(
    ("length", "recorded", "said"),
    [
        (0, (1, 100), " in the first 100 of 130 steps"),
        (130, (1, 100, 130), ""),
        (9_999, (1, 100), " in the first 100 of 130 steps"),
    ],
)
def test_what_decay_took_is_of_the_steps_that_are_named(
    length: int, recorded: tuple[int, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The last step has a record where its number is known; else it is said how far the records go."""
    net = model()
    with Watching(Options(out="", steps=length)) as seen:
        train(net, adamw(net), steps=130)
    (one,) = seen.record.seen
    assert one.history is not None and one.history.steps == recorded
    share = percent(1 - (1 - 0.05 * 0.1) ** recorded[-1])
    whole = f"; at that pace {percent(1 - (1 - 0.05 * 0.1) ** 130)} in all 130\n" if said else "\n"
    assert f"  weight: decay took {share} of each weight{said}, {share} planned{whole}" in capfd.readouterr().err


@pytest.mark.parametrize(("last_lr", "steps"), [(0.05, 20), (0.01, 1_000)])
def test_at_its_end_a_run_is_as_long_as_it_turned_out(
    last_lr: float, steps: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody knew: its forecast is then of the steps that it took, unless the learning rate is another by now."""
    net = model()
    with td.watch(quiet=False) as seen:
        train(net, optimizer := adamw(net), steps=20)
        assert seen.record.seen[0].forecast.num_steps == 1_000  # type: ignore[union-attr]
        optimizer.param_groups[0]["lr"] = last_lr
    ((one,), (about,)) = seen.record.seen, seen.record.summary.optimizers
    assert one.forecast is not None and one.forecast.num_steps == steps
    assert about.length.startswith("20 steps, as it turned out") and ("1,000" in about.length) == (steps == 1_000)
    (group,) = one.forecast.groups
    assert group.total_shrink == pytest.approx(1 - (1 - 0.05 * 0.1) ** steps, rel=1e-9)
    # 1.5 / 20 a step is what the audit calls huge; ten times its own is none.
    assert 'next: td.watch(apply="decoupled:1") (of 20 steps too few' in capfd.readouterr().err


def test_groups_that_come_later_have_no_pace_of_all_steps(capfd: pytest.CaptureFixture[str]) -> None:
    """What was unfrozen at step 20 was not decayed before."""
    net = model()
    optimizer = torch.optim.AdamW([net[0].weight], lr=0.05, weight_decay=0.1)
    with Watching(Options(out="", every=10)):
        train(net, optimizer, steps=20)
        optimizer.add_param_group({"params": [net[0].bias], "weight_decay": 0.5})
        train(net, optimizer, steps=25)
    said = capfd.readouterr().err
    (line,) = [one for one in said.splitlines() if " bias: decay took" in one]
    assert line.startswith("  bias: decay took") and "in steps 30 to 40 of 45" in line and "at that pace" not in line
    assert "in the first 40 of 45 steps" in said and "at that pace" in said


def test_groups_of_a_larger_model_that_come_later_are_named_by_it() -> None:
    """A head was trained first: what is added is no "group 1", and what the head's own were called they are called."""
    net = model()
    optimizer = torch.optim.AdamW(net[2].parameters(), lr=0.05, weight_decay=0.1)
    with td.watch(every_steps=10) as seen:
        train(net, optimizer, steps=15)
        optimizer.add_param_group({"params": [net[0].weight, net[0].bias]})
        train(net, optimizer, steps=15)
    (one,) = seen.record.seen
    assert one.history is not None and seen.record.summary.notes == ()
    names = {name for series in one.history.series for name in series.names}
    assert names == {"weight", "bias", "0.weight", "0.bias"} and set(one.history.groups) == {"weight", "bias"}


class Signed(torch.optim.Optimizer):
    """A rule that nobody knows, whose weight_decay is decoupled."""

    def __init__(self, params, weight_decay: float) -> None:
        super().__init__(params, {"lr": 0.05, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                param.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * param.grad.sign())


def test_of_a_rule_that_nobody_knows_it_is_said_what_decay_took(capfd: pytest.CaptureFixture[str]) -> None:
    """There is a measurement and no plan, so nothing was held against one."""
    net = model()
    with Watching(Options(out="", every=10)):
        train(net, Signed(net.parameters(), 0.1), steps=20)
    said = capfd.readouterr().err
    took = percent(1 - (1 - 0.05 * 0.1) ** 20)
    assert f"weight: decay took {took} of each weight, what was planned is not known" in said
    assert "nothing could be compared with the plan" in said and "did what was planned" not in said


def test_what_rounding_adds_to_a_measurement_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """A weight in bfloat16 loses more to the rounding of its updates than so small a decay takes."""
    net = model().bfloat16()
    optimizer = adamw(net, 0.001)
    with Watching(Options(out="", every=10)) as seen:
        for _ in range(11):
            optimizer.zero_grad()
            net(torch.randn(4, 6, dtype=torch.bfloat16)).square().mean().backward()
            optimizer.step()
    assert "of each weight (bfloat16's rounding of the updates is in it)" in capfd.readouterr().err
    assert "bfloat16's rounding of the updates is in what was measured" in str(seen.record.seen[0].history)


def test_threads_that_step_at_once_begin_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each had one of its own, and steps were counted in either."""
    monkeypatch.setattr(door_steps, "_environment", {"TORCHDECAY_OUT": "", "TORCHDECAY_QUIET": "1"})
    monkeypatch.setattr(door_steps, "_session", None)
    together, begun, interval = threading.Barrier(8), [], sys.getswitchinterval()

    def first_step() -> None:
        together.wait()
        begun.append(door_steps._begin())

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=first_step) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert len(begun) == 8 and len(set(map(id, begun))) == 1 and begun[0] is not None


def test_what_threads_say_is_theirs_again_in_whatever_order_they_leave() -> None:
    """Of two that were inside at once the first to leave is heard from then on, and nothing of ours is left behind."""
    warn, handle = warnings.warn, logging.Logger.callHandlers
    one, other = unheard(), unheard()
    logger, logged = logging.Logger("mine"), list[str]()
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")

        def say(text: str) -> None:
            warnings.warn(text, stacklevel=1)
            logger.debug(text)

        one.__enter__()
        pool.submit(other.__enter__).result()
        say("ours")
        pool.submit(say, "ours").result()
        one.__exit__(None, None, None)
        say("theirs")
        pool.submit(say, "ours").result()
        pool.submit(other.__exit__, None, None, None).result()
        pool.submit(say, "theirs too").result()
    assert [str(each.message) for each in told] == logged == ["theirs", "theirs too"]
    assert (warnings.warn, logging.Logger.callHandlers) == (warn, handle)


def test_the_step_that_ends_a_script_has_a_record_too() -> None:
    """--stop-after says which one it is."""
    net = model()
    with pytest.raises(SystemExit), Watching(Options(out="", stop_after=4, quiet=True)) as seen:
        train(net, adamw(net), steps=9)
    (one,) = seen.record.seen
    assert one.history is not None and one.history.steps == (1, 4)


def test_a_closure_that_runs_inside_the_step_is_seen_too() -> None:
    """As Lightning does it: there is no gradient before the step, and the audit still finds what gradients show."""
    net = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(torch.tensor([1, 2])).square().mean()
        loss.backward()
        return loss

    with td.watch() as seen:
        optimizer.step(closure)
    (one,) = seen.record.seen
    assert one.audit is not None and "WD110" in one.audit.codes
    assert one.history is not None and one.history.steps == (1,)


class Nested(torch.optim.AdamW):
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        return super().step(closure)


def test_a_step_inside_a_step_counts_once() -> None:
    """A subclass that calls super().step()."""
    net = model()
    with td.watch(every_steps=1) as seen:
        train(net, Nested(net.parameters(), lr=0.1), steps=3)
    assert seen.record.summary.optimizers[0].steps == 3


def test_a_step_that_raises_is_no_step_and_the_next_ones_count() -> None:
    """The error is the code's own, and no frame of ours is in it."""
    net = model()
    optimizer = adamw(net)

    def closure() -> float:
        raise RuntimeError("mine")

    with td.watch(every_steps=1) as seen:
        train(net, optimizer, steps=2)
        with pytest.raises(RuntimeError, match="mine") as caught:
            optimizer.step(closure)
        train(net, optimizer, steps=2)
    assert seen.record.summary.optimizers[0].steps == 4
    assert not [entry for entry in caught.traceback if "src/torchdecay" in str(entry.path)]


@pytest.mark.long
def test_a_compiled_step_is_left_alone() -> None:
    """It takes the step that it takes without it."""

    def compiled() -> list[torch.Tensor]:
        net = model()
        optimizer = adamw(net)
        optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore[method-assign]
        return train(net, optimizer, steps=2)

    expected = compiled()
    with td.watch() as seen:
        assert same(compiled(), expected)
    assert seen.record.seen == ()


def test_two_optimizers_of_one_model_are_no_fault() -> None:
    """What the other one has is not missing."""
    net = model()
    some, rest = list(net.parameters())[::2], list(net.parameters())[1::2]
    first, second = torch.optim.SGD(some, lr=0.1), torch.optim.AdamW(rest, lr=0.1)
    with td.watch() as seen:
        net(torch.ones(2, 6)).sum().backward()
        first.step()
        second.step()
    assert all(one.audit is not None and "WD104" not in one.audit.codes for one in seen.record.seen)


def test_nothing_that_the_code_lets_go_of_is_kept() -> None:
    """Model and optimizer go, and what was recorded stays."""
    net = model()
    optimizer = adamw(net)
    with td.watch(every_steps=1) as seen:
        train(net, optimizer, steps=2)
        gone = weakref.ref(net), weakref.ref(optimizer)
        del net, optimizer
        gc.collect()
        assert gone[0]() is None and gone[1]() is None
    (one,) = seen.record.seen
    assert one.history is not None and one.history.steps == (1, 2)


@pytest.mark.parametrize(
    "decay", ["decoupled:0.5", "cautious:0.3", "l1:0.01", "independent:0.2", "coupled:0.1", "none"]
)
def test_another_decay_is_the_one_that_attach_would_carry_out(decay: str) -> None:
    """To the bit, from the first step on, in place of the optimizer's own."""
    net = model()
    optimizer = adamw(net)
    td.attach(optimizer, td.plan(net, td.plans.spelling.parse_decay(decay)), model=net)  # type: ignore[attr-defined]
    expected = train(net, optimizer)
    net = model()
    with td.watch(apply=decay, every_steps=1) as seen:
        assert same(train(net, adamw(net)), expected)
    (about,), (one,) = seen.record.summary.optimizers, seen.record.seen
    assert (about.applied, about.replaced) == (decay, "weight_decay=0.1")
    assert one.plan is not None and one.plan["1.weight"].decay is None
    assert seen.record.summary.notes == ()


def test_a_plan_is_applied_from_its_file_and_a_resume_keeps_it(tmp_path: Path) -> None:
    """With its schedule, which goes on where the checkpoint was made."""
    net = model()
    planned = td.plan(net, td.decoupled(0.9, schedule=td.schedules.linear(1.0, 0.0, 10)))
    path = tmp_path / "plan.json"
    path.write_text(planned.to_json())
    with td.watch(apply=str(path)):
        optimizer = adamw(net)
        train(net, optimizer, steps=4)
        saved = copy.deepcopy(optimizer.state_dict())
        weights = [param.detach().clone() for param in net.parameters()]
        expected = train(net, optimizer, steps=3)
    with td.watch(apply=str(path)):
        net = model()
        optimizer = adamw(net)
        optimizer.load_state_dict(saved)
        with torch.no_grad():
            for param, value in zip(net.parameters(), weights, strict=True):
                param.copy_(value)
        assert same(train(net, optimizer, steps=3), expected)


def test_of_very_many_optimizers_the_first_are_looked_at_and_the_rest_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One for each task, say: a decay they all get, and pages keep to their share of the time."""
    monkeypatch.setattr(sessions, "_MOST", 2)
    pages: list[int] = []
    monkeypatch.setattr(written, "monotonic", lambda: 0.5 * len(pages))

    def page(record: RunRecord, folder: Path) -> Path:
        pages.append(len(record.seen))
        return folder

    monkeypatch.setattr(written, "_page", page)
    net = model()
    with td.watch(tmp_path / "out", apply="none", quiet=False) as seen:
        for _ in range(5):
            optimizer = adamw(net)
            train(net, optimizer, steps=2)
            assert handle_of(optimizer) is not None
    assert [one.number for one in seen.record.summary.optimizers] == [1, 2] and pages == [1, 2]
    assert seen.record.summary.notes == ("3 optimizers after the first 2: only counted.",)
    assert capfd.readouterr().err.count("the others are only counted") == 1


def test_what_no_module_owns_is_spared_and_the_rest_gets_the_decay(capfd: pytest.CaptureFixture[str]) -> None:
    """A temperature and a matrix of a loss: they move as without a decay of their own, and the table says why."""
    expected = model()
    td.attach(optimizer := adamw(expected), td.plan(expected, td.decoupled(0.5)), model=expected)
    train(expected, optimizer)
    strays, twins = ([nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(6, 2))] for _ in range(2))
    alone = torch.optim.AdamW(twins, lr=0.05, weight_decay=0.0)
    for one in (*strays, *twins):
        one.grad = torch.ones_like(one)
    for _ in range(5):
        alone.step()
    net = model()
    optimizer = torch.optim.AdamW([*net.parameters(), *strays], lr=0.05, weight_decay=0.1)
    optimizer.zero_grad = net.zero_grad
    with td.watch(apply="decoupled:0.5", quiet=False) as seen:
        assert same(train(net, optimizer), [*expected.parameters()])
    assert all(map(torch.equal, strays, twins))
    (one,) = seen.record.seen
    assert one.plan is not None and one.forecast is not None and one.history is not None and one.audit is not None
    assert [row.name for row in one.plan.rows if row.decay is None][-2:] == ["of no module 1", "of no module 2"]
    assert not seen.record.summary.notes and "WD105" not in one.audit.codes
    assert "2 parameters in no part of it" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["decay", "file"])
def test_what_is_unfrozen_or_added_later_is_planned_by_the_same_rules(kind: str, tmp_path: Path) -> None:
    """Hours into a training nothing ends it: what a file does not name is spared, what no module owns ends the plan."""
    net = model()
    path = tmp_path / "plan.json"
    path.write_text(td.plan(net, td.decoupled(0.5)).to_json())
    net[0].requires_grad_(False)  # type: ignore[index]
    head, stray = nn.Linear(6, 2), nn.Parameter(torch.ones(2))
    optimizer = adamw(net)
    with td.watch(apply="decoupled:0.5" if kind == "decay" else str(path)) as seen:
        train(net, optimizer, steps=2)
        net[0].requires_grad_(True)  # type: ignore[index]
        train(net, optimizer, steps=2)
        net[0].add_module("head", head)  # type: ignore[index]
        optimizer.add_param_group({"params": list(head.parameters())})
        train(net, optimizer, steps=2)
        handle = handle_of(optimizer)
        assert handle is not None
        assert handle.plan["0.weight"].decay == td.decoupled(0.5) and handle.plan["0.bias"].decay is None
        assert handle.plan["0.head.weight"].decay == (td.decoupled(0.5) if kind == "decay" else None)
        assert seen.record.summary.notes == ()
        optimizer.add_param_group({"params": [stray]})
        train(net, optimizer, steps=2)
        assert handle_of(optimizer) is None and optimizer.param_groups[0]["weight_decay"] == 0.1
    (note,) = seen.record.summary.notes
    assert "AdamW is without --apply from here on" in note


@pytest.mark.parametrize("form", ["decoupled", "toward"])
def test_a_backbone_that_is_trained_later_is_planned_too(form: str) -> None:
    """The head was the model that owned all; what is added is of a larger one, and what the head began at is kept."""
    net = model()
    optimizer = torch.optim.AdamW(net[2].parameters(), lr=0.05)
    began = net[2].weight.detach().clone()
    with td.watch(apply="toward:initial,0.5" if form == "toward" else "decoupled:0.5", every_steps=0) as seen:
        train(net, optimizer)
        optimizer.add_param_group({"params": list(net[0].parameters())})
        train(net, optimizer)
    handle = handle_of(optimizer)
    assert handle is not None and seen.record.summary.notes == ()
    decays = {name: handle.plan[name].decay is not None for name in ("weight", "bias", "0.weight", "0.bias")}
    assert decays == {"weight": True, "bias": False, "0.weight": True, "0.bias": False}
    for param in net.parameters():
        param.grad = torch.zeros_like(param)
    for _ in range(600):
        optimizer.step()
    # Without gradients a pull of 0.025 a step leaves e^-15 of the way.
    rest = began if form == "toward" else torch.zeros_like(began)
    torch.testing.assert_close(net[2].weight.detach(), rest, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("apply", "rules", "kind"), [("decopled:1", "standard", DecayError), ("decoupled:1", "standrd", PlanError)]
)
def test_what_means_nothing_is_refused_at_once(apply: str, rules: str, kind: type[Exception]) -> None:
    """Before any step."""
    with pytest.raises(kind, match="Nearest"):
        td.watch(apply=apply, rules=rules)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"every_steps": -1}, "every_steps is -1"),
        ({"steps": -3}, "steps is -3"),
        ({"by": "layer"}, "by is 'layer'"),
        ({"rules": "timm"}, "apply is not there"),
        ({"apply": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_wrong_use_is_told_at_the_call(given: dict[str, Any], said: str) -> None:
    """And not at the first step, where it would be a note that nobody reads."""
    with pytest.raises(TorchdecayError, match=said):
        td.watch(**given)


def test_what_cannot_be_applied_ends_the_script_before_its_first_step(capfd: pytest.CaptureFixture[str]) -> None:
    """With the reason, as wrong use; the weights are as they were."""
    net = model()
    before = [param.detach().clone() for param in net.parameters()]
    with pytest.raises(SystemExit) as ended, td.watch(apply="penalized:0.1"):
        train(net, adamw(net))
    assert ended.value.code == 2
    assert same([*net.parameters()], before)
    assert "can't be done on AdamW" in capfd.readouterr().err


def test_an_optimizer_that_is_not_named_is_told_of_at_its_first_step(capfd: pytest.CaptureFixture[str]) -> None:
    """Not at the end of a training that nobody wanted; of names that were met nothing is missing."""
    net = model()
    with Watching(Options(out="", every=0, apply="none", optimizer="SGD")):
        train(net, adamw(net), steps=1)
        said = capfd.readouterr().err
        assert "AdamW is not of --optimizer SGD, and keeps its own decay; no SGD took a step yet." in said
        train(net, torch.optim.SGD(net.parameters(), lr=0.1), steps=1)
        train(net, torch.optim.Adam(net.parameters()), steps=1)
    assert "Adam is not of --optimizer SGD, and keeps its own decay.\n" in capfd.readouterr().err


@pytest.mark.parametrize("apply", ["decoupled:0.1", ""])
def test_a_refusal_stands_last_and_what_cannot_be_done_is_not_proposed(
    apply: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """LBFGS takes penalties only; where nothing decays, nothing did what was planned."""
    net = model()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2)

    def closure() -> float:
        return float(net(torch.ones(2, 6)).square().mean())

    with suppress(SystemExit), td.watch(apply=apply, quiet=False):
        optimizer.step(closure)
    said = capfd.readouterr().err
    assert "--apply decoupled" not in said.replace("--apply decoupled:0.1 can't be done on LBFGS", "")
    assert ("LBFGS" in said.splitlines()[0] and "page" not in said) if apply else "Nothing decays" in said
    assert "handle" not in said and ("td.penalty(model, l2=0.05)" in said) == bool(apply)


def test_only_the_optimizers_that_are_named_get_it() -> None:
    """By class or by number."""
    net, other = model(), nn.Linear(6, 1)
    with Watching(Options(out="", apply="decoupled:0.7", optimizer="SGD,7", quiet=True)) as seen:
        train(net, adamw(net))
        train(other, torch.optim.SGD(other.parameters(), lr=0.1))
    assert [one.applied for one in seen.record.summary.optimizers] == ["", "decoupled:0.7"]


@pytest.mark.parametrize(
    ("level", "wd", "verdict"),
    [("error", 0.1, "fine"), ("warning", 0.1, "found"), ("never", 25.0, "fine"), ("error", 25.0, "found")],
)
def test_findings_make_of_it_what_was_asked_for(level: str, wd: float, verdict: str) -> None:
    """Biases that decay are a warning; lr times weight_decay above 1 is an error."""
    net = model()
    with Watching(Options(out="", fail_on=level, quiet=True)) as seen:
        train(net, adamw(net, wd), steps=1)
    assert seen.record.summary.verdict == verdict


def test_a_plan_that_was_expected_is_compared(tmp_path: Path) -> None:
    """Equal to itself, whether native or spelled out; each parameter that decays otherwise is named."""
    net = model()
    for planned, differs in (
        (td.plan(net, td.decoupled(0.1), rules=[]), ()),
        (td.plan(net, 0.1, rules=[]), ()),
        (td.plan(net, td.decoupled(0.1), rules=[("2.bias", None)]), ("~ 2.bias: None -> decoupled(0.1)",)),
    ):
        path = tmp_path / "plan.json"
        path.write_text(planned.to_json())
        with Watching(Options(out="", plan=str(path), fail_on="error", quiet=True)) as seen:
            train(net, adamw(net), steps=1)
        (about,) = seen.record.summary.optimizers
        assert about.differs == differs
        assert seen.record.summary.verdict == ("found" if differs else "fine")


def test_the_end_comes_after_so_many_steps() -> None:
    """No weight moves in a later one."""
    net = model()
    expected = train(net, adamw(net), steps=2)
    net = model()
    with pytest.raises(SystemExit) as ended, Watching(Options(out="", stop_after=2, quiet=True)):
        train(net, adamw(net), steps=9)
    assert ended.value.code == 0
    assert same([*net.parameters()], expected)


@pytest.mark.parametrize("code", [0, 2])
def test_the_end_waits_for_every_optimizer_that_lives(
    code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that steps more rarely is seen; of one that never steps the name is said, as of wrong use."""
    monkeypatch.setattr(ending, "_PATIENCE", 7)
    net, other = model(), nn.Linear(6, 1)
    with pytest.raises(SystemExit) as ended, Watching(Options(out="", stop_after=1, quiet=True)) as seen:
        often, rarely = adamw(net), torch.optim.SGD(other.parameters(), lr=0.1)
        for _ in range(9):
            train(net, often, steps=5)
            if code == 0:
                train(other, rarely, steps=1)
    assert ended.value.code == code
    assert [one.steps for one in seen.record.summary.optimizers] == ([5, 1] if code == 0 else [8])
    assert ("SGD did not take as many steps" in capfd.readouterr().err) is (code == 2)


def test_a_disk_that_is_full_costs_the_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line says so; the record in memory is whole."""

    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torchdecay.observe.recorded.record.write_whole", full)
    monkeypatch.setattr("torchdecay.observe.monitor.jsonl.Writer.__call__", full)
    monkeypatch.setattr("torchdecay.reports.document.place", full)
    net = model()
    expected = train(net, adamw(net))
    net = model()
    with td.watch(tmp_path / "out", every_steps=1, quiet=False) as seen:
        assert same(train(net, adamw(net)), expected)
    assert len(seen.record.seen[0].history.steps) == 5  # type: ignore[union-attr]
    said = capfd.readouterr().err.splitlines()
    assert sum("can't be written" in line for line in said) == 1
    assert sum("the page could not be made" in line for line in said) == 1


def test_pages_on_the_way_take_a_hundredth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first step, again when a hundred times as long went by as all of them take, and at the end."""
    made: list[int] = []
    clock = [0.0]
    monkeypatch.setattr(written, "monotonic", lambda: clock[0])

    def page(record: RunRecord, folder: Path) -> Path:
        made.append(record.summary.optimizers[0].steps)
        clock[0] += 0.5
        return folder

    monkeypatch.setattr(written, "_page", page)
    net = model()
    optimizer = adamw(net)
    with td.watch(tmp_path / "out"):
        for _ in range(200):
            train(net, optimizer, steps=1)
            clock[0] += 1.0
    assert made == [1, 101, 151, 200, 200]


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """TORCHDECAY_DISABLE=1."""
    monkeypatch.setenv("TORCHDECAY_DISABLE", "1")
    net = model()
    with td.watch() as seen:
        train(net, adamw(net))
    assert seen.record.seen == ()


class _Heard(TorchDispatchMode):
    """Counts operators, as counters of FLOPs do."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    """Counts calls of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_modes_of_the_script_hear_nothing_of_it() -> None:
    """A counter of operators tells the same numbers as without."""
    counts = []
    for watching in (nullcontext(), td.watch(every_steps=1)):
        net = model()
        optimizer = adamw(net)
        with watching, _Called() as called, _Heard() as heard:
            train(net, optimizer, 3)
        counts.append((called.count, heard.count))
    assert counts[0] == counts[1] and min(counts[0]) > 30


@pytest.mark.parametrize("known", [True, False])
def test_a_checkpoint_may_be_loaded_between_a_new_group_and_its_first_step(known: bool) -> None:
    """What a model owns is planned by then; what none owns costs the plan, and never the script."""
    net = model()
    optimizer = torch.optim.AdamW(net[0].parameters(), lr=0.05, weight_decay=0.1)
    added = list(net[2].parameters()) if known else [nn.Parameter(torch.ones(2))]
    holder = nn.Sequential(net, nn.Identity())
    with td.watch(apply="decoupled:0.5", every_steps=0) as seen:
        train(holder, optimizer)
        optimizer.add_param_group({"params": added})
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(holder, optimizer)
        handle = handle_of(optimizer)
    assert len(optimizer.param_groups) == 2 and seen.record.summary.optimizers[0].steps == 10
    if known:
        assert handle is not None and seen.record.summary.notes == ()
        assert [row.decay is not None for row in handle.plan.rows] == [True, False, True, False]
    else:
        assert "without --apply from here on" in seen.record.summary.notes[0]


@pytest.mark.filterwarnings("error")
def test_a_weight_decay_that_is_written_in_vain_is_told_of_once(capfd: pytest.CaptureFixture[str]) -> None:
    net = model()
    optimizer = adamw(net)
    with td.watch(apply="decoupled:0.5", quiet=False) as seen:
        for value in (0.1, 0.2, 0.3):
            train(net, optimizer, 2)
            optimizer.param_groups[0]["weight_decay"] = value
    (note,) = seen.record.summary.notes
    assert "writes weight_decay of AdamW" in note and capfd.readouterr().err.count(note) == 1


def test_a_checkpoint_that_replaces_weight_decay_is_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    """Loaded later: with both values and the step. Loaded before the first step: where what was given shows it."""
    net = model()
    older = adamw(net, wd=0.3)
    train(net, older, 2)
    saved = older.state_dict()
    with td.watch(quiet=False) as seen:
        optimizer = adamw(net, wd=0.1)
        train(net, optimizer, 3)
        optimizer.load_state_dict(optimizer.state_dict())
        assert seen.record.summary.notes == ()
        odd = {**saved, "param_groups": [{**group, "weight_decay": "none"} for group in saved["param_groups"]]}
        optimizer.load_state_dict(odd)
        optimizer.param_groups[0]["weight_decay"] = 0.1
        optimizer.load_state_dict(saved)
        train(net, optimizer, 1)
    fault, note = seen.record.summary.notes
    assert "is not known: ValueError" in fault
    assert "loaded after step 3 of AdamW put weight_decay=0.3 in place of weight_decay=0.1" in note
    assert note in capfd.readouterr().err
    assert not optimizer._optimizer_load_state_dict_post_hooks
    with td.watch() as seen:
        optimizer = adamw(net, wd=0.1)
        optimizer.load_state_dict(saved)
        train(net, optimizer, 1)
    audit = seen.record.seen[0].audit
    assert audit is not None and "WD214" in audit.codes


@dataclass
class Settings:
    """As scripts keep theirs."""

    weight_decay: float = 0.5


@pytest.mark.parametrize(
    ("settings", "wd", "told"),
    [
        (Namespace(weight_decay=0.3), 0.1, "Namespace.weight_decay of the script is 0.3, and no optimizer has it"),
        (Namespace(weight_decay=0.3), 0.3, ""),
        (Settings(0.2), 0.1, "Settings.weight_decay of the script is 0.2"),
        (Settings(), 0.1, ""),
        (Namespace(lr=0.3), 0.1, ""),
    ],
)
def test_a_setting_that_no_optimizer_has_is_told_of_at_the_end(
    settings: Any, wd: float, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not the default of a class, which nobody asked for; nor where a plan that is attached has it."""
    own = copy.copy(settings)
    net = model()
    optimizer = adamw(net, wd)
    with td.watch(quiet=False, apply="decoupled:1") as seen:
        train(net, optimizer, 1)
    notes = [one for one in seen.record.summary.notes if "no optimizer has it" in one]
    assert len(notes) == bool(told) and told in "".join(notes)
    assert told in capfd.readouterr().err
    assert own is not settings


def test_quiet_is_quiet_where_something_fails_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It stands in the record."""
    (tmp_path / "file").write_text("")
    net = model()
    with td.watch(tmp_path / "file" / "out") as seen:
        train(net, adamw(net))
    assert "can't be written" in seen.record.summary.notes[0] and capfd.readouterr().err == ""


def test_a_page_that_lacks_an_extra_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed the core alone reads what to install, and trains on."""
    document._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with td.watch(tmp_path / "out") as seen:
        train(net := model(), adamw(net))
    assert seen.record.summary.notes[0].endswith("Install it with: pip install 'torchdecay[lab]'")


def test_threads_that_train_beside_each_other_write_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wrote, and neither has put its file in place yet: each has one of its own."""
    both, replace = threading.Barrier(2, timeout=20), os.replace

    def late(staged: Path, path: Path) -> None:
        both.wait()
        replace(staged, path)

    monkeypatch.setattr(os, "replace", late)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda text: write_whole(tmp_path / "plan.json", text), ("first", "second")))
    assert (tmp_path / "plan.json").read_text() in ("first", "second") and len(os.listdir(tmp_path)) == 1


def test_what_momentum_brings_later_is_told_of_beside_what_was_planned(capfd: pytest.CaptureFixture[str]) -> None:
    """Half as much measured as planned, and no alarm: the reader is told why; and a bound has one number."""
    net = model()
    with td.watch(every_steps=1, quiet=False):
        train(net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01))
    said = capfd.readouterr().err
    assert "% planned, counting what momentum brings in later steps" in said and "no alarm" in said
    # Of what is the same on both sides nothing has to be explained.
    with td.watch(every_steps=20, quiet=False):
        train(net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.02), steps=400)
    assert "decay took > 99.9 % of each weight, > 99.9 % planned\n" in capfd.readouterr().err
    assert "decay by itself takes at most 100 % of each weight" in said and "at most >" not in said
