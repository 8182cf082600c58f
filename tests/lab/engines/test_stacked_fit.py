"""What can be stacked is stacked, what can't is refused with its reason; and what auto takes."""

from __future__ import annotations

import dataclasses
import types
import warnings
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F

import torchdecay as td
from torchdecay.errors import NotCompiledWarning, TaskError
from torchdecay.lab.engines import auto, process, serial
from torchdecay.lab.engines.stacked import engine as stacked
from torchdecay.lab.engines.stacked.fit import fitted
from torchdecay.lab.engines.stacked.loop import StackedRun
from torchdecay.lab.engines.stacked.members import NotStackable
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Keep, Trial

pytestmark = pytest.mark.long


def data(seed: int) -> Data:
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(60) % 3
    return Data(train=(x[:40], y[:40]), test=(x[40:], y[40:]))


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


TASK = Task(name="three", data=data, model=chain, loss=F.cross_entropy, num_steps=6, batch_size=16, eval_every=3)


def trials_of(*decays, seeds=(0, 1)) -> list[Trial]:
    return [Trial(contender=as_contender(decay), seed=seed, value=None) for decay in decays for seed in seeds]


def run(task: Task, found: dict[Any, Any], **options: Any) -> None:
    """Train without decay and with some; each outcome lands in `found`."""
    trials = trials_of(None, td.decoupled(0.1))
    stacked.run(Assignment(task=task, trials=trials, on_run=found.__setitem__), **options)


class Sgd(optim.SGD):
    """An optimizer whose step nobody knows."""

    def step(self, closure=None):
        return super().step(closure)


def with_hook(groups):
    optimizer = optim.SGD(groups, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: None)
    return optimizer


def by_shape(groups):
    params = [param for group in groups for param in group["params"]]
    sides = ([p for p in params if p.ndim > 1], [p for p in params if p.ndim < 2])
    return optim.SGD([{"params": one, "lr": lr} for one, lr in zip(sides, (0.1, 0.2), strict=True) if one], lr=0.1)


class Counting(nn.Linear):
    """Keeps a number that is no tensor of its own run."""

    def forward(self, x):
        return super().forward(x) * (1.0 if float(x.sum()) > 0 else 2.0)


class Averaging(nn.Linear):
    """Replaces a buffer in place of changing it, which a call through torch.func takes back."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.register_buffer("seen", torch.zeros(5))

    def forward(self, x):
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * x.detach().mean(0)
        return super().forward(x - self.seen)


class Own(nn.Linear):
    """Has numbers of its own that are neither parameters nor buffers."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.scale = torch.rand(5)

    def forward(self, x):
        return super().forward(x * self.scale)


def longer(seed: int) -> Data:
    made = data(seed)
    return Data(train=tuple(one[: 30 + seed] for one in made.train), test=made.test)


def why_not(task: Task, trials: list[Trial]) -> str | None:
    try:
        fitted(task, trials)
    except NotStackable as reason:
        return str(reason)
    return None


REFUSED = {
    "LBFGS is not known": {"optimizer": lambda groups: optim.LBFGS([p for g in groups for p in g["params"]])},
    "Adafactor is not known": {"optimizer": lambda groups: optim.Adafactor(groups)},
    "Sgd has a step of its own": {"optimizer": lambda groups: Sgd(groups, lr=0.1)},
    "hooks around its step": {"optimizer": with_hook},
    "looks at more than the names": {"optimizer": by_shape},
    "low-precision weights": {"model": lambda: chain().bfloat16()},
    "can't be run for several members": {"model": lambda: Counting(5, 3)},
    'the buffer "seen" differs': {"model": lambda: Averaging(5, 3)},
    "differs by": {"model": lambda: Own(5, 3)},
    "data differ in shape": {"data": longer},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_stacked_says_why(reason):
    """Each reason names what is in the way; running it all the same is an error with a way out."""
    task = dataclasses.replace(TASK, **REFUSED[reason])
    trials = trials_of(None, td.penalized(0.1))
    assert reason in why_not(task, trials)
    with pytest.raises(TaskError, match="process") as refused:
        stacked.run(Assignment(task=task, trials=trials, on_run=lambda *_: None))
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("decay", "reason"),
    [
        (td.forms.constrained(kappa_initial=0.5), "sets its coefficient from what it sees of one run"),
        (td.forms.spectral(0.1), "reads a whole tensor"),
        (td.forms.toward_average(0.1), "pulls toward tensors of one run"),
        (td.forms.norm_control(0.1), "sets its coefficient"),
    ],
    ids=["controller", "spectral", "average", "norm"],
)
def test_decays_that_read_a_whole_run_are_refused(decay, reason):
    """With the decay and the parameter."""
    said = why_not(TASK, trials_of(None, decay))
    assert reason in said and '"0.weight"' in said and repr(decay) in said


def test_what_can_be_stacked_has_no_reason_against_it():
    """Plain chains, batch norm, dropout, embeddings."""
    models = (
        chain,
        lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.GELU(), nn.Linear(7, 3)),
        lambda: nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Linear(7, 3)),
        lambda: nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)),
    )
    for model in models:
        assert why_not(dataclasses.replace(TASK, model=model), trials_of(None, td.decoupled(0.1))) is None


def test_data_that_raises_for_one_seed_fails_its_runs_only():
    """What is a single seed's fault ends that seed's runs."""

    def raising(seed):
        if seed == 1:
            raise OSError("no file for seed 1")
        return data(seed)

    found: dict[Trial, TrainingRun | Failure] = {}
    run(dataclasses.replace(TASK, data=raising), found)
    assert {trial.seed: isinstance(one, Failure) for trial, one in found.items()} == {0: False, 1: True}
    assert "no file for seed 1" in next(one.message for trial, one in found.items() if trial.seed == 1)


def test_a_step_that_cannot_be_compiled_runs_as_it_is(monkeypatch):
    """No compiler, or numbers that differ: a warning with the reason, and the same results."""

    def runs(**options):
        found: dict[Trial, TrainingRun | Failure] = {}
        task = dataclasses.replace(TASK, model=lambda: nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)))
        run(task, found, **options)
        return {trial: one.train_loss for trial, one in found.items()}

    expected = runs(compile=False)

    def broken(*args, **options):
        raise RuntimeError("no working C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda function, **options: broken)
    with pytest.warns(NotCompiledWarning, match=r"not compiled: RuntimeError: no working C\+\+ compiler"):
        assert runs(compile=True) == expected

    def other(function, **options):
        def compiled(*args):
            grads, outputs = function(*args)
            return [grad * 1.1 for grad in grads], outputs

        return compiled

    monkeypatch.setattr(torch, "compile", other)
    with pytest.warns(NotCompiledWarning, match="not those of the step as it is"):
        assert runs(compile=True) == expected


def test_a_short_run_is_not_compiled(monkeypatch):
    """Compiling takes seconds, so it is done where what is left pays for it."""
    monkeypatch.setattr(StackedRun, "_start_compiled", lambda *args: pytest.fail("compiled"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(dataclasses.replace(TASK, num_steps=30), {})
    monkeypatch.setattr("torchdecay.lab.engines.stacked.loop.COMPILE_SECONDS", 0.0)
    with pytest.raises(pytest.fail.Exception, match="compiled"):
        run(dataclasses.replace(TASK, num_steps=30), {})


@pytest.mark.slow
def test_a_compiled_step_computes_the_same():
    """Under vmap the whole of it is compiled."""
    task = dataclasses.replace(TASK, model=lambda: nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)))
    losses = {}
    for compile in (False, True):
        found: dict[Trial, TrainingRun | Failure] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("error", NotCompiledWarning)
            run(task, found, compile=compile)
        losses[compile] = torch.tensor([found[trial].train_loss for trial in sorted(found, key=lambda one: one.key)])
    assert torch.allclose(losses[True], losses[False], rtol=1e-5)


class Passing(nn.Linear):
    """By this clock a pass of training alone takes `ALONE` seconds, and of a stack `STACKED`; all else takes none."""

    ALONE, STACKED, passed = 1.0, 1.0, 0.0

    def forward(self, x):
        if self.training:
            Passing.passed += self.STACKED if torch._C._functorch.maybe_current_level() else self.ALONE
        return super().forward(x)


@pytest.fixture
def by_auto(monkeypatch):
    """Runs trials by auto: what it told, and the outcomes; each engine but the stacked one takes no time."""
    monkeypatch.setattr(auto, "time", types.SimpleNamespace(perf_counter=lambda: Passing.passed))
    monkeypatch.setattr(auto, "num_cores", lambda: 2)
    task = dataclasses.replace(TASK, model=lambda: nn.Sequential(Passing(5, 3)), num_steps=60)

    def go(trials, *, alone=1.0, stacked=1.0, **options):
        told, found, steps = [], {}, []
        Passing.passed, Passing.ALONE, Passing.STACKED = 0.0, alone, stacked
        asked = Assignment(task=task, trials=trials, on_run=found.__setitem__, on_step=steps.append, **options)
        monkeypatch.setattr(process, "run", lambda part, workers: serial.run(part))
        auto.run(asked, lambda *one: told.append(one))
        assert set(found) == set(trials)
        assert all(isinstance(one, TrainingRun) and one.steps[-1] == 60 for one in found.values())
        return told, sum(steps) / (60 * len(trials)) - 1

    return go


def test_auto_takes_what_is_done_first(by_auto):
    """One way is told, and every trial gets its whole run; what was begun and given up is little."""
    many = trials_of(None, *(td.decoupled(0.1 * i) for i in range(1, 9)))
    assert by_auto(many[:1])[0] == [("serial", "a single run needs no other")]
    told, lost = by_auto(many, alone=1e-3)
    assert told[0][0] == "serial" and "too short for it to matter" in told[0][1] and lost == 0
    told, lost = by_auto(many, stacked=0.1)
    assert [name for name, _ in told] == ["stacked"] and lost < 0.02
    told, lost = by_auto(many, stacked=100.0)
    assert [name for name, _ in told] == ["stacked", "process"] and lost < 0.12


def test_auto_says_why_not_stacked(by_auto):
    """What can't be stacked is found out without a timed step."""
    told, lost = by_auto(trials_of(*(td.forms.constrained(kappa_initial=0.1 * i) for i in range(1, 9))))
    assert told[-1][0] == "process" and "not stacked: constrained(" in told[-1][1] and lost < 0.02


def test_the_first_run_counts_where_giving_it_up_saves_nothing(by_auto, monkeypatch):
    """With one core and no stack there is nothing to win, and the run that was timed is one of the sweep's."""
    monkeypatch.setattr(auto, "num_cores", lambda: 1)
    monkeypatch.setattr(auto, "STACKS", 1.0)
    told, lost = by_auto(trials_of(None, td.forms.constrained(kappa_initial=0.5)))
    assert told[-1][0] == "serial" and lost == 0


def test_auto_halves(by_auto):
    """Who goes on is decided over all runs, the one that was timed among them."""
    trials = trials_of(None, *(td.decoupled(0.1 * i) for i in range(1, 9)))
    seen = []

    def choose(rung, measures):
        seen.append(len(measures))
        return frozenset(measures)

    by_auto(trials, stacked=0.1, keep=Keep(rungs=(20,), choose=choose))
    assert seen == [len(trials)]
