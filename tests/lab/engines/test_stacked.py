"""Many runs as one stacked model: each member's curves are those that `train` gives it alone."""

from __future__ import annotations

import dataclasses
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F

import torchdecay as td
from torchdecay.errors import MissingExtra, TaskError
from torchdecay.lab import task_named
from torchdecay.lab.engines.serial import outcome_of
from torchdecay.lab.engines.stacked import engine as stacked
from torchdecay.lab.engines.stacked.vmapped import Vmapped
from torchdecay.lab.tasks.parts import accuracy
from torchdecay.lab.tasks.registry import BUILT_IN
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import ByHand, as_contender
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Keep, Trial

pytestmark = pytest.mark.long
CURVES = ("train_loss", "test_loss", "train_score", "test_score", "weight_norm", "gradient_norm")


def three_classes(seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 5, generator=generator).double()
    y = torch.randint(3, (60,), generator=generator)
    return Data(train=(x[:40], y[:40]), test=(x[40:], y[40:]))


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 7), nn.ReLU(), nn.Sequential(nn.Linear(7, 6), nn.Tanh()), nn.Linear(6, 3)
    ).double()


def task_of(**changes) -> Task:
    made = Task(
        name="three",
        data=three_classes,
        model=chain,
        loss=F.cross_entropy,
        num_steps=12,
        batch_size=16,
        eval_every=4,
        score=accuracy,
    )
    return dataclasses.replace(made, **changes)


def trials_of(*decays, seeds=(0, 1), lr_scales=(1.0,)) -> list[Trial]:
    return [
        Trial(contender=as_contender(decay), seed=seed, value=None, lr_scale=scale)
        for decay in decays
        for seed in seeds
        for scale in lr_scales
    ]


def run(task, trials, **options) -> dict[Trial, TrainingRun | Failure]:
    found: dict[Trial, TrainingRun | Failure] = {}

    def on_run(trial, outcome):
        assert trial not in found, "handed over twice"
        found[trial] = outcome

    told = {name: options.pop(name) for name in ("on_step", "keep", "claim") if name in options}
    stacked.run(Assignment(task=task, trials=trials, on_run=on_run, **told), **options)
    return found


def alone(task: Task, trial: Trial) -> TrainingRun | Failure:
    return outcome_of(task, trial, lambda count: None)


def gap(one: TrainingRun, other: TrainingRun) -> float:
    """The largest difference of any point of any curve, by its size where that is above 1."""
    assert one.steps == other.steps
    return max(
        abs(a - b) / max(1.0, abs(a))
        for curve in CURVES
        if getattr(one, curve) is not None
        for a, b in zip(getattr(one, curve), getattr(other, curve), strict=True)
    )


def largest_gap(task, trials, **options) -> float:
    found = run(task, trials, **options)
    assert set(found) == set(trials)
    return max(gap(alone(task, trial), found[trial]) for trial in trials)


FORMS = [
    None,
    td.native(0.1),
    td.coupled(0.1),
    ByHand(0.2),
    td.decoupled(0.5),
    td.decoupled(5.0, schedule=lambda step: 1.0 / (1 + step)),
    td.independent(0.01),
    td.per_step(0.02),
    td.corrected(3.0),
    td.cautious(2.0),
    td.l1(0.05),
    td.elastic_net(l1=0.05, l2=0.1),
    td.toward("initial", 3.0),
    td.penalized(0.1),
    td.forms.huber(0.2, delta=0.01),
    td.forms.proximal(0.2),
]


def test_every_form_of_decay_is_that_of_a_run_alone():
    """Whatever pulls, the curves are those of separate runs; all forms in one stack, so that none touches another."""
    forms = list({repr(form): form for form in FORMS}.values())
    assert largest_gap(task_of(), trials_of(*forms)) < 1e-12


OPTIMIZERS = [
    lambda groups: optim.SGD(groups, lr=0.1),
    lambda groups: optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    lambda groups: optim.SGD(groups, lr=0.1, maximize=True),
    lambda groups: optim.Adam(groups, lr=0.01),
    lambda groups: optim.AdamW(groups, lr=0.01, amsgrad=True),
    lambda groups: optim.NAdam(groups, lr=0.01),
    lambda groups: optim.RAdam(groups, lr=0.01),
    lambda groups: optim.Adamax(groups, lr=0.01),
    lambda groups: optim.Adagrad(groups, lr=0.01),
    lambda groups: optim.Adadelta(groups, lr=0.01),
    lambda groups: optim.RMSprop(groups, lr=0.01, momentum=0.5, centered=True),
    lambda groups: optim.Rprop(groups, lr=0.01),
    lambda groups: optim.ASGD(groups, lr=0.01),
]
NAMES = ["SGD", "nesterov", "maximize", "Adam", "amsgrad", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop",
         "Rprop", "ASGD"]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=NAMES)
def test_every_elementwise_optimizer_is_exact(optimizer):
    """With coupled, decoupled and thresholded decay, at two learning rates."""
    task = task_of(optimizer=optimizer)
    trials = trials_of(None, td.coupled(0.1), td.decoupled(0.5), td.cautious(1.0), td.l1(0.01), lr_scales=(1.0, 0.5))
    assert largest_gap(task, trials) < 1e-12


def test_one_coefficient_for_each_member_is_what_makes_them_differ(monkeypatch):
    """Seeded fault: the first member's coefficient for all."""
    from torchdecay.lab.engines.stacked import pulls

    made = pulls.pulls_of

    def same_for_all(*args):
        found = made(*args)
        for pull in found:
            pull.coefficients[:] = pull.coefficients[0].clone()
        return found

    monkeypatch.setattr(pulls, "pulls_of", same_for_all)
    assert largest_gap(task_of(), trials_of(td.decoupled(1.0), td.decoupled(10.0))) > 1e-4


def test_schedules_and_groups_are_those_of_a_run_alone():
    """A scheduler that moves the learning rate every step and peaks late, groups with options of their own."""
    task = task_of(
        optimizer=lambda groups: optim.AdamW(groups, lr=0.01),
        scheduler=lambda optimizer: optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=13),
        rules=(td.rule("0.*", lr=0.003), *td.STANDARD),
    )
    forms = (None, td.independent(0.02), td.decoupled(0.5), td.corrected(2.0))
    assert largest_gap(task, trials_of(*forms, lr_scales=(1.0, 0.3))) < 1e-12


def test_a_schedule_that_begins_at_zero_counts_no_step_before_it_moves():
    """At learning rate 0 weights rest and decay schedules wait."""
    task = task_of(
        optimizer=lambda groups: optim.SGD(groups, lr=0.1),
        scheduler=lambda optimizer: optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step < 5 else 1.0),
    )
    forms = (td.per_step(0.1), td.decoupled(0.5, schedule=td.schedules.inverse_time(2)), td.coupled(0.1))
    assert largest_gap(task, trials_of(*forms)) < 1e-12


class Words(nn.Module):
    """An embedding, which vmap gives gradients that are not contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 4), nn.Linear(8, 3)
        self.register_buffer("scale", torch.rand(8))

    def forward(self, x):
        return self.head(torch.relu(self.table(x).flatten(1) * self.scale))


def words(seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randint(11, (60, 2), generator=generator), torch.randint(3, (60,), generator=generator)
    return Data(train=(x[:40], y[:40]), test=(x[40:], y[40:]))


WORDS = task_of(data=words, model=lambda: Words().double(), optimizer=lambda groups: optim.AdamW(groups, lr=0.1))


def test_any_other_model_goes_through_vmap_and_is_the_same():
    """Embeddings and buffers of its own, on mini-batches."""
    assert largest_gap(WORDS, trials_of(None, td.decoupled(0.5), td.coupled(0.1))) < 1e-12


def test_gradients_that_are_not_contiguous_would_be_stepped_wrongly(monkeypatch):
    """Seeded fault: the fused kernel reads a gradient as if it lay in memory like its weight."""

    def scattered(self, rows):
        x, y, shared = self._inputs(rows)
        grads, outputs = self._gradients(self.stack.params, self.stack.buffers, x, y, shared)
        return [grad.transpose(1, -1).contiguous().transpose(1, -1) for grad in grads], outputs

    trials = trials_of(None, td.decoupled(0.5))
    monkeypatch.setattr(Vmapped, "gradients", scattered)
    assert largest_gap(WORDS, trials) > 1e-3


def norms() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)).double()


def test_batch_norm_keeps_averages_for_each_member():
    """Running means and variances are stacked too, and used when measuring."""
    assert largest_gap(task_of(model=norms), trials_of(None, td.decoupled(0.5), td.coupled(0.1))) < 1e-12


def test_dropout_draws_for_each_member_anew():
    """Two members alike in all else drop different units, and on average learn alike."""
    task = task_of(model=lambda: nn.Sequential(nn.Linear(5, 40), nn.Dropout(0.5), nn.Linear(40, 3)).double())
    trials = [Trial(contender=as_contender(td.decoupled(value)), seed=0, value=value) for value in (0.0, 1e-300)]
    found = run(task, trials)
    first, second = (found[trial] for trial in trials)
    assert first.train_loss[0] == pytest.approx(second.train_loss[0], abs=1e-12), "measured without dropout"
    assert first.gradient_norm[0] != second.gradient_norm[0]
    assert first.train_loss[-1] == pytest.approx(second.train_loss[-1], abs=0.1)


def test_full_batches_and_members_of_many_seeds():
    """Every step sees all rows, as `overfit` does; more seeds than values."""
    task = task_of(batch_size=None, eval_every=1)
    assert largest_gap(task, trials_of(None, td.decoupled(0.5), seeds=range(5))) < 1e-12


def test_losses_that_torch_reduces_and_those_of_the_user_agree_with_a_run_alone():
    """Binary and squared losses, one that only the user has, and targets of which some do not count."""

    def binary(seed):
        x = torch.randn(60, 5, generator=torch.Generator().manual_seed(seed)).double()
        y = (x[:, :1] > 0).double()
        return Data(train=(x[:40], y[:40]), test=(x[40:], y[40:]))

    def ignoring(seed):
        data = three_classes(seed)
        x, y = data.train
        return Data(train=(x, torch.where(torch.arange(40) % 7 == 0, -100, y)), test=data.test)

    def model():
        return nn.Sequential(nn.Linear(5, 6), nn.Sigmoid(), nn.Linear(6, 1), nn.Sigmoid()).double()

    for loss in (F.binary_cross_entropy, F.mse_loss, F.smooth_l1_loss, lambda o, y: ((o - y) ** 4).mean()):
        task = task_of(data=binary, model=model, loss=loss, score=None)
        assert largest_gap(task, trials_of(None, td.coupled(0.1))) < 1e-12
    assert largest_gap(task_of(data=ignoring), trials_of(None, td.coupled(0.1))) < 1e-12


def test_a_member_that_diverges_leaves_the_others_alone():
    """NaN stays where it is: its curve says so, and its neighbors are what they would be."""
    task = task_of(optimizer=lambda groups: optim.SGD(groups, lr=0.1), score=None)
    trials = trials_of(None, td.penalized(0.1), lr_scales=(1.0, 1e200))
    found = run(task, trials)
    for trial in trials:
        curve = found[trial].train_loss
        if trial.lr_scale == 1.0:
            assert gap(alone(task, trial), found[trial]) < 1e-12
        else:
            assert not math.isfinite(curve[-1])
            assert [math.isfinite(point) for point in curve] == [
                math.isfinite(p) for p in alone(task, trial).train_loss
            ]


def test_a_member_that_raises_fails_alone(small):
    """A loss that refuses NaN ends the run that has it, with what it said; the others go on."""
    small = dataclasses.replace(small, num_steps=48, eval_every=12)
    trials = trials_of(None, td.penalized(100.0), lr_scales=(1.0, 1e-3))
    found = run(small, trials)
    failed = [trial for trial in trials if isinstance(found[trial], Failure)]
    assert len(failed) == 2
    for trial in trials:
        if trial not in failed:
            assert gap(alone(small, trial), found[trial]) < 1e-5, "float32: sums are taken in another order"
            continue
        assert "between 0 and 1" in found[trial].message
        assert "Traceback" in found[trial].traceback
        assert "between 0 and 1" in alone(small, trial).message


def test_a_decay_that_a_run_alone_would_refuse_fails_alone():
    """At the start where it is refused there; at the step where a schedule makes it too much."""
    rising = td.decoupled(20.0, schedule=lambda step: 1.0 if step < 5 else 10.0)
    task = task_of(optimizer=lambda groups: optim.SGD(groups, lr=0.01))
    trials = trials_of(None, td.decoupled(200.0), rising)
    found = run(task, trials)
    for trial in trials:
        if trial.contender.what is None:
            assert gap(alone(task, trial), found[trial]) < 1e-12
        else:
            assert found[trial].message == alone(task, trial).message


def test_halving_stops_members_in_the_middle():
    """Who is not chosen has curves up to the rung; who is goes on as if alone."""
    task = task_of(optimizer=lambda groups: optim.AdamW(groups, lr=0.01))
    trials = trials_of(None, td.decoupled(0.5), td.cautious(1.0), td.toward("initial", 1.0))
    asked = []

    def choose(rung, measures):
        asked.append((rung, len(measures)))
        best = sorted(measures, key=lambda trial: (-measures[trial], trial.key))
        return frozenset(best[: len(best) // 2])

    found = run(task, trials, keep=Keep(rungs=(3, 8), choose=choose))
    assert asked == [(3, 8), (8, 4)]
    for trial in trials:
        last = found[trial].steps[-1]
        assert gap(alone(dataclasses.replace(task, num_steps=last), trial), found[trial]) < 1e-12
    assert sorted(one.steps[-1] for one in found.values()) == [3] * 4 + [8] * 2 + [12] * 2


def test_what_does_not_fit_into_memory_runs_in_turns(monkeypatch):
    """The same numbers, several stacks; where not even one run fits, that is said."""
    from torchdecay.lab.engines.stacked.engine import StackedRun

    sizes = []
    made = StackedRun.__init__

    def count(self, task, prepared, members, **options):
        sizes.append(len(members))
        made(self, task, prepared, members, **options)

    monkeypatch.setattr(StackedRun, "__init__", count)
    trials = trials_of(None, td.decoupled(0.5), td.decoupled(1.0))
    assert largest_gap(task_of(), trials, memory=40_000) < 1e-12
    assert len(sizes) > 1 and sum(sizes) == len(trials)
    with pytest.raises(TaskError, match=r"for a single run, and of 0\.0 MB that are free 70% may be taken"):
        run(task_of(), trials, memory=4_000)
    with pytest.raises(TaskError, match="6 runs side by side"):
        run(task_of(), trials, memory=20_000, keep=Keep(rungs=(4,), choose=lambda rung, measures: frozenset(measures)))


def test_steps_and_time_are_told(monkeypatch):
    """Progress counts every member's steps, and each run has its share of the time, those that are left of the rest."""
    ticks = itertools.count()
    monkeypatch.setattr("torchdecay.lab.engines.stacked.loop.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    trials, told = trials_of(None, td.decoupled(0.5)), []
    found = run(task_of(), trials, on_step=told.append)
    assert sum(told) == 12 * len(trials)
    whole = found[trials[0]].seconds
    assert {one.seconds for one in found.values()} == {whole} and 0 < whole * len(trials) <= next(ticks)
    keep = Keep(rungs=(4,), choose=lambda rung, measures: frozenset(trials[:1]))
    halved = run(task_of(), trials, keep=keep)
    stopped = halved[trials[1]].seconds
    # Alone it has all the time that passes, as one of four it had a quarter.
    assert halved[trials[0]].seconds > 2 * stopped > 0


def test_trials_that_others_claim_are_left_alone():
    """Two sweeps into one store: who does not get a trial does not run it."""
    trials = trials_of(None, td.decoupled(0.5))
    assert set(run(task_of(), trials, claim=lambda trial: trial.seed == 0)) == {trials[0], trials[2]}


def test_an_interrupt_passes_through():
    """Ctrl-C is nobody's failure."""

    def interrupt(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(task_of(), trials_of(None), on_step=interrupt)


def test_the_random_state_is_left_as_it_was():
    """Models are made from their seeds, and the caller's random numbers go on."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(WORDS, trials_of(None))
    assert torch.equal(torch.rand(3), expected)


def test_float32_agrees_after_ten_steps():
    """Training in float32 is chaotic, so it is compared while it is young."""
    task = dataclasses.replace(task_named("digits"), num_steps=10, eval_every=5)
    assert largest_gap(task, trials_of(None, td.decoupled(10.0), seeds=(0,))) < 1e-5


def wide(task: Task) -> Task:
    """The same task in float64."""

    def data(seed):
        parts = {
            part: tuple(one.double() if one.is_floating_point() else one for one in rows)
            for part, rows in task.data(seed).parts.items()
        }
        return Data(**parts)

    return dataclasses.replace(task, data=data, model=lambda: task.model().double())


TO_THE_END = ("digits", "ridge")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_tasks_that_ship_are_those_of_runs_alone(name):
    """In float64: two of them to their end, the others, which are chaotic, for fifty steps."""
    task = wide(task_named(name))
    if name not in TO_THE_END:
        task = dataclasses.replace(task, num_steps=50, eval_every=25)
    forms = (td.native(0.05), td.decoupled(2.0)) if name in TO_THE_END else (ByHand(0.1), td.decoupled(1.0))
    try:
        task.data(0)
    except (TaskError, MissingExtra) as absent:
        pytest.skip(str(absent))
    assert largest_gap(task, trials_of(*forms, seeds=(0, 1) if name == "digits" else (0,))) < 1e-10


def test_ridge_and_overfit_for_a_few_steps():
    """A closed-form regression where there is one; a full batch with a sigmoid at the end and decay on all weights."""
    for name in {"ridge", "overfit"} & set(BUILT_IN):
        task = dataclasses.replace(wide(task_named(name)), num_steps=2, eval_every=2)
        assert largest_gap(task, trials_of(ByHand(0.1), seeds=(0,))) < 1e-10


@pytest.mark.parametrize("halves", [False, True])
def test_ctrl_c_gives_up_the_curves_so_far(halves):
    """Every member hands over what it has measured, marked as unfinished, and once; the interrupt goes on."""
    found: dict[Trial, TrainingRun | Failure] = {}
    steps: list[int] = []

    def on_step(count):
        steps.append(count)
        if len(steps) == 3:
            raise KeyboardInterrupt

    trials = trials_of(None, td.decoupled(1.0))
    keep = Keep(rungs=(11,), choose=lambda rung, measures: frozenset(measures)) if halves else None
    task = task_of()
    asked = Assignment(task=task, trials=trials, on_run=found.__setitem__, on_step=on_step, keep=keep)
    with pytest.raises(KeyboardInterrupt):
        stacked.run(asked)
    assert set(found) == set(trials)
    for trial, outcome in found.items():
        whole = alone(task, trial)
        assert outcome.unfinished and not whole.unfinished and outcome.steps == (0, 4, 8)
        assert outcome.train_loss == pytest.approx(whole.train_loss[:3], rel=1e-5)
