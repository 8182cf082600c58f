"""The one training loop: same start, same order, honest curves, and decay by every road the same."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import nn

from plain_loop import plain_losses
from torchdecay.errors import ApplyError, TaskError
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.train import norm, train, watched_weights
from torchdecay.plans import policies
from torchdecay.plans.forms.l2 import decoupled
from torchdecay.plans.planning import plan
from torchdecay.plans.rules import rule


def curves(run: TrainingRun) -> tuple[Any, ...]:
    return run.steps, run.train_loss, run.test_loss, run.weight_norm, run.gradient_norm


def test_the_curves_are_those_of_a_plain_loop(small: Task) -> None:
    """Point i is measured before step i: the same numbers as a training loop written out here."""
    run = train(small, None, seed=3)
    data = small.data(3)
    torch.manual_seed(3)
    model = small.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    for step in range(13):
        optimizer.zero_grad()
        loss = small.loss(model(data.train[0]), data.train[1])
        loss.backward()
        if step % 3 == 0:
            with torch.no_grad():
                test = small.loss(model(data.test[0]), data.test[1]).item()
            gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            weights = torch.cat([model[0].weight.flatten(), model[2].weight.flatten()])
            expected.append((loss.item(), test, weights.double().norm().item(), gradients.double().norm().item()))
        optimizer.step()
    assert run.steps == (0, 3, 6, 9, 12)
    measured = list(zip(run.train_loss, run.test_loss, run.weight_norm, run.gradient_norm, strict=True))
    for got, wanted in zip(measured, expected, strict=True):
        assert got[:2] == wanted[:2]
        assert got[2:] == pytest.approx(wanted[2:], rel=1e-12)  # norms are summed in another order


def test_the_last_step_is_always_measured(small: Task) -> None:
    """Final numbers are those of the end, also where eval_every does not divide num_steps."""
    run = train(dataclasses.replace(small, num_steps=10, eval_every=4), None)
    assert run.steps == (0, 4, 8, 10)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(small: Task) -> None:
    """Results can be repeated, and seeds are really different."""
    assert curves(train(small, 0.1, seed=1)) == curves(train(small, 0.1, seed=1))
    assert curves(train(small, 0.1, seed=1)) != curves(train(small, 0.1, seed=2))


def test_decays_start_from_the_same_weights_and_see_the_same_rows(small: Task) -> None:
    """Pairs can be compared because only the decay differs: a tiny decay changes nothing visible in batches."""
    task = dataclasses.replace(small, batch_size=8, num_steps=30)
    bare, tiny = train(task, None), train(task, "decoupled:1e-12")
    assert bare.train_loss[0] == tiny.train_loss[0]
    assert bare.train_loss == pytest.approx(tiny.train_loss, abs=1e-6)


def test_the_callers_random_state_is_left_alone(small: Task) -> None:
    """A comparison in a notebook does not change what the next cell draws."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(small, 0.1, seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_the_number_of_threads_is_the_tasks_and_put_back(small: Task) -> None:
    """A small network trains with one thread; the caller's setting comes back, also after an error."""
    seen: list[int] = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return small.loss(outputs, targets)

    def fails(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("enough")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(dataclasses.replace(small, loss=loss, num_threads=1, num_steps=2), None)
        assert set(seen) == {1} and torch.get_num_threads() == 2
        with pytest.raises(RuntimeError, match="enough"):
            train(dataclasses.replace(small, loss=fails, num_threads=1), None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("spelling", ["native:0.1", "coupled:0.1", "decoupled:0.1", "penalized:0.1"])
def test_m1_8_by_hand_and_every_other_road_train_alike_under_sgd(small: Task, spelling: str) -> None:
    """For plain SGD by hand = built in = coupled = decoupled = penalty; 1e-6 is rounding over twelve steps."""
    hand, other = train(small, "by_hand:0.1"), train(small, spelling)
    assert hand.train_loss == pytest.approx(other.train_loss, abs=1e-6)
    assert hand.weight_norm == pytest.approx(other.weight_norm, rel=1e-6)
    assert hand.train_loss[-1] != train(small, None).train_loss[-1]


def test_by_hand_and_built_in_agree_to_the_bit(small: Task) -> None:
    """The loop that people write and SGD's weight_decay do the same arithmetic."""
    assert curves(train(small, "by_hand:0.1")) == curves(train(small, "native:0.1"))


def test_by_hand_keeps_to_the_rules_and_their_options(small: Task) -> None:
    """By hand too, what the task's rules spare is spared, and a rule's learning rate reaches the optimizer."""
    rules = [rule("2.weight", None), rule("0.*", lr=0.5), rule("*.bias", None)]
    task = dataclasses.replace(small, rules=rules)
    assert curves(train(task, "by_hand:0.1")) == curves(train(task, "native:0.1"))
    assert curves(train(task, "by_hand:0.1")) != curves(train(small, "by_hand:0.1"))


def test_by_hand_refuses_a_rule_that_it_can_not_follow(small: Task) -> None:
    """A rule with decoupled decay is not silently taken for coupled."""
    task = dataclasses.replace(small, rules=[rule("0.weight", decoupled(0.1)), *policies.STANDARD])
    with pytest.raises(TaskError, match="By hand there is only"):
        train(task, "by_hand:0.1")


def test_the_gradient_norm_is_that_of_the_loss_alone(small: Task) -> None:
    """A penalty or a decay in the gradient would make norms with and without decay incomparable."""
    bare = train(small, None).gradient_norm[0]
    for decay in ("by_hand:0.5", "penalized:0.5", "coupled:0.5"):
        assert train(small, decay).gradient_norm[0] == bare


def test_m5_5_weight_and_gradient_norms_with_and_without_decay(small: Task) -> None:
    """Both are there at every point; where the loss asks for nothing, a step leaves 1 − lr·wd of the weights."""
    task = dataclasses.replace(small, num_steps=200, eval_every=50, loss=lambda outputs, targets: 0 * outputs.sum())
    without, with_decay = train(task, None), train(task, "decoupled:0.1")
    first = without.weight_norm[0]
    assert without.weight_norm == (first,) * 5 and without.gradient_norm == with_decay.gradient_norm == (0.0,) * 5
    assert with_decay.weight_norm == pytest.approx([first * 0.99**step for step in (0, 50, 100, 150, 200)], rel=1e-5)


def test_norms_are_about_the_same_weights_in_every_run(small: Task) -> None:
    """Without decay too, the norm is over what the rules would let decay: biases are no part of it."""
    torch.manual_seed(0)
    model = small.model()
    assert list(watched_weights(small, model)) == ["0.weight", "2.weight"]
    assert train(small, None).weight_norm[0] == train(small, 0.1).weight_norm[0]
    everyone = dataclasses.replace(small, rules=policies.torch)
    assert len(watched_weights(everyone, model)) == 4


def test_norm_is_the_norm_of_all_elements() -> None:
    """3, 4 and 12 have norm 13, over however many tensors."""
    assert norm([torch.tensor([3.0]), torch.tensor([[4.0], [12.0]])]) == pytest.approx(13.0, rel=1e-15)
    assert norm([]) == 0.0


def test_batches_are_whole_and_cover_the_rows(small: Task) -> None:
    """Every epoch draws each row at most once, in a new order, and no batch is cut short."""
    seen: list[torch.Tensor] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(x[:, 0].clone())
            return torch.sigmoid(self.linear(x))

    train(dataclasses.replace(small, model=Watch, batch_size=16, num_steps=5, eval_every=5), None)
    assert all(len(batch) == 16 for batch in seen)
    first_epoch = torch.cat(seen[:2])
    assert len(first_epoch.unique()) == 32
    assert not torch.equal(torch.cat(seen[:2]), torch.cat(seen[2:4]))


def test_a_batch_larger_than_the_data_is_all_of_it(small: Task) -> None:
    """A table with few rows still trains."""
    huge, full = dataclasses.replace(small, batch_size=1000), small
    assert train(huge, 0.1).train_loss == train(full, 0.1).train_loss


@pytest.mark.parametrize("batch_size", [None, 16])
def test_the_training_loss_is_that_of_all_rows_in_eval_mode(small: Task, batch_size: int | None) -> None:
    """Comparable with the test loss: not the noisy loss of a step with dropout, nor that of a single batch."""
    task = dataclasses.replace(
        small,
        model=lambda: nn.Sequential(nn.Linear(8, 6), nn.Dropout(0.5), nn.Linear(6, 1), nn.Sigmoid()),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0),
        batch_size=batch_size,
    )
    run = train(task, None)
    torch.manual_seed(0)
    model = task.model().eval()
    x, y = task.data(0).train
    assert set(run.train_loss) == {task.loss(model(x), y).item()}


def test_a_scheduler_is_stepped_after_every_step(small: Task) -> None:
    """With a learning rate that drops to 0 after five steps, the weights stop moving there."""

    def cut(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 5))

    run = train(dataclasses.replace(small, scheduler=cut, eval_every=1), "decoupled:0.1")
    assert run.train_loss[4] != run.train_loss[5]
    assert len(set(run.train_loss[5:])) == 1


def test_scores_and_validation_get_their_curves(small: Task) -> None:
    """What a task offers is measured at every point."""

    def data(seed: int) -> Any:
        made = small.data(seed)
        return dataclasses.replace(made, validation=made.test)

    task = dataclasses.replace(small, data=data, score=lambda outputs, targets: float(outputs.mean()))
    run = train(task, None)
    assert run.validation_loss == run.test_loss
    assert run.train_score is not None and len(run.train_score) == len(run.steps)
    assert train(small, None).test_score is None


def test_frozen_parameters_are_left_out(small: Task) -> None:
    """A user's partly frozen model trains, and its frozen weight is no part of the norms."""

    def model() -> nn.Module:
        made = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1), nn.Sigmoid())
        made[0].requires_grad_(False)
        return made

    task = dataclasses.replace(small, model=model)
    assert list(watched_weights(task, model())) == ["2.weight"]
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    assert [train(task, None).train_loss[-1], train(task, None).test_loss[-1]] == plain_losses(task, sgd)
    shrunk = [train(task, "decoupled:1").train_loss[-1], train(task, "decoupled:1").test_loss[-1]]
    assert shrunk == pytest.approx(plain_losses(task, sgd, kept=0.9), rel=1e-5)


def test_a_whole_plan_can_be_trained(small: Task) -> None:
    """Comparing who decays, not only how hard."""
    torch.manual_seed(0)
    everyone = plan(small.model(), 0.1, rules=policies.torch)
    by_rules = train(dataclasses.replace(small, rules=policies.torch), 0.1)
    assert train(small, everyone).train_loss == by_rules.train_loss != train(small, 0.1).train_loss


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": lambda seed: None}, "data of type NoneType"),
        ({"model": lambda: None}, "model of type NoneType"),
        ({"optimizer": lambda groups: None}, "optimizer of type NoneType"),
    ],
)
def test_a_task_that_gives_something_else_is_told(small: Task, change: dict[str, Any], said: str) -> None:
    """What the user's function should have returned, in words."""
    with pytest.raises(TaskError, match=said):
        train(dataclasses.replace(small, **change), None)


def test_too_strong_a_decay_is_an_error(small: Task) -> None:
    """lr·wd of 1 flips every sign, so nothing is trained."""
    with pytest.raises(ApplyError):
        train(small, "decoupled:10")


def test_lr_scale_multiplies_every_learning_rate_before_the_scheduler(small: Task) -> None:
    """Half the scale with a scheduler on top is the same training as half the learning rate."""

    def linear(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=6)

    def slower(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=0.05)

    task = dataclasses.replace(small, scheduler=linear)
    scaled = train(task, "decoupled:0.1", lr_scale=0.5, with_line=False)
    assert curves(scaled) == curves(train(dataclasses.replace(task, optimizer=slower), "decoupled:0.1"))
    assert curves(scaled) != curves(train(task, "decoupled:0.1")) and scaled.line is None


def test_progress_is_told_at_every_point(small: Task) -> None:
    """A progress bar follows the curves."""
    steps: list[int] = []
    run = train(small, None, on_step=steps.append)
    assert tuple(steps) == run.steps
