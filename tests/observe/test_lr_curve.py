"""The learning rate over a run is the one that the real scheduler gives, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler as schedulers

import torchdecay as td
from torchdecay.errors import UnitError
from torchdecay.observe.lr_curve import group_curves, light_copy, lr_curve

STEPS = 12


def optimizer() -> optim.Optimizer:
    model = nn.Linear(2, 2)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.02}]
    return optim.SGD(groups, lr=0.1, momentum=0.9)


SCHEDULERS: dict[str, Callable[[optim.Optimizer], schedulers.LRScheduler]] = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: schedulers.StepLR(o, 3),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.1, 1.0, 5),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, STEPS, 2.0),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, STEPS),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, 3),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, [0.1, 0.3], total_steps=STEPS),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, 1.0, 4), schedulers.CosineAnnealingLR(o, STEPS - 4)], [4]
    ),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.5, 4), schedulers.ExponentialLR(o, 0.9)]
    ),
}


def stepped(make: Callable[[optim.Optimizer], schedulers.LRScheduler], every: int = 1) -> list[list[float]]:
    """The learning rates of each group while a real optimizer and scheduler step."""
    real = optimizer()
    scheduler = make(real)
    rates: list[list[float]] = [[], []]
    for step in range(STEPS):
        for group, found in zip(real.param_groups, rates, strict=True):
            found.append(float(group["lr"]))
            group["params"][0].grad = torch.ones_like(group["params"][0])
        real.step()
        if (step + 1) % every == 0 and step + 1 < STEPS:
            scheduler.step()
    return rates


def test_every_scheduler_of_torch_is_tried() -> None:
    """A new one in torch has to be added here."""
    known = {
        name
        for name, cls in vars(schedulers).items()
        if isinstance(cls, type) and issubclass(cls, schedulers.LRScheduler) and not name.endswith("LRScheduler")
    }
    assert known - set(SCHEDULERS) == {"ReduceLROnPlateau"}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_curve_is_the_real_one(name: str) -> None:
    """Bit for bit, for each group; and the real scheduler and optimizer stand where they stood."""
    given = optimizer()
    scheduler = SCHEDULERS[name](given)
    state, last = scheduler.state_dict(), scheduler.get_last_lr()
    before = [dict(group) for group in given.param_groups]
    curve = lr_curve(td.Run(steps=STEPS, lr_schedule=scheduler), given.param_groups)
    assert curve == stepped(SCHEDULERS[name])
    assert scheduler.state_dict().keys() == state.keys() and scheduler.get_last_lr() == last
    assert all(
        group[key] is value for group, old in zip(given.param_groups, before, strict=True) for key, value in old.items()
    )


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "OneCycleLR", "ChainedScheduler"])
def test_a_learning_rate_that_is_a_tensor_stays_what_it_was(name: str) -> None:
    """Schedulers fill it in place, so the copy needs tensors of its own."""
    weight = nn.Parameter(torch.zeros(2))
    given = optim.AdamW([weight], lr=torch.tensor(0.1))
    scheduler = (
        schedulers.OneCycleLR(given, 0.1, total_steps=STEPS) if name == "OneCycleLR" else SCHEDULERS[name](given)
    )
    before = float(given.param_groups[0]["lr"])
    curve = lr_curve(td.Run(steps=STEPS, lr_schedule=scheduler), given.param_groups)
    assert curve is not None and len(set(curve[0])) > 2
    assert float(given.param_groups[0]["lr"]) == before


def test_a_scheduler_by_epochs() -> None:
    """scheduler_interval="epoch": it steps once per epoch."""
    given = optimizer()
    scheduler = schedulers.StepLR(given, 1)
    run = td.Run(steps=STEPS, epochs=3, lr_schedule=scheduler, scheduler_interval="epoch")
    assert lr_curve(run, given.param_groups) == stepped(lambda o: schedulers.StepLR(o, 1), 4)


def test_an_epoch_of_unknown_length() -> None:
    """The run must say how long an epoch is."""
    given = optimizer()
    run = td.Run(steps=STEPS, lr_schedule=schedulers.StepLR(given, 1), scheduler_interval="epoch")
    with pytest.raises(UnitError, match="how many steps an epoch has"):
        lr_curve(run, given.param_groups)


def test_a_scheduler_under_way_tells_what_is_left() -> None:
    """Five steps in, seven are to come, and OneCycleLR does not end early."""
    given = optimizer()
    scheduler = SCHEDULERS["OneCycleLR"](given)
    for _ in range(5):
        given.step()
        scheduler.step()
    curve = lr_curve(td.Run(steps=STEPS, lr_schedule=scheduler), given.param_groups)
    assert curve == [rates[5:] for rates in stepped(SCHEDULERS["OneCycleLR"])]


def test_a_schedule_shorter_than_the_run() -> None:
    """Nobody knows what comes after it."""
    given = optimizer()
    scheduler = schedulers.OneCycleLR(given, 0.1, total_steps=5)
    with pytest.raises(UnitError, match="OneCycleLR ends at step 6, the run has 12"):
        lr_curve(td.Run(steps=STEPS, lr_schedule=scheduler), given.param_groups)


def test_what_follows_a_metric_can_not_be_known() -> None:
    """ReduceLROnPlateau waits for numbers that are not there yet."""
    given = optimizer()
    run = td.Run(steps=STEPS, lr_schedule=schedulers.ReduceLROnPlateau(given))
    assert lr_curve(run, given.param_groups) is None


def test_a_function_multiplies_each_group_s_own_rate() -> None:
    """And no schedule at all is constant."""
    groups = optimizer().param_groups
    assert lr_curve(td.Run(steps=3, lr_schedule=lambda step: 1 / (1 + step)), groups) == [
        [0.1 * (1 / (1 + step)) for step in range(3)],
        [0.02 * (1 / (1 + step)) for step in range(3)],
    ]
    assert lr_curve(td.Run(steps=2), groups) == [[0.1] * 2, [0.02] * 2]
    assert lr_curve(td.Run(steps=2, lr=0.3), [{}]) == [[0.3] * 2]


@pytest.mark.parametrize("value", [float("nan"), -1.0, float("inf")])
def test_a_function_that_returns_nonsense(value: float) -> None:
    """Named with the step."""
    with pytest.raises(UnitError, match=f"returned {value} at step 0"):
        lr_curve(td.Run(steps=2, lr_schedule=lambda step: value), optimizer().param_groups)


def test_a_schedule_that_raises_is_named() -> None:
    """With the step, and what it is to be."""
    with pytest.raises(UnitError, match=r"lr_schedule\(0\) raised TypeError[\s\S]*number of a step"):
        td.forecast(
            optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), run=td.Run(steps=3, lr_schedule=lambda step, epoch: 1.0)
        )


def test_no_learning_rate_anywhere() -> None:
    """Neither in the group nor in the run; or one that is no number."""
    with pytest.raises(UnitError, match="group 0 has no learning rate"):
        lr_curve(td.Run(steps=2), [{}])
    with pytest.raises(UnitError, match="no number"):
        lr_curve(td.Run(steps=2), [{"lr": "fast"}])


@pytest.mark.filterwarnings("ignore:Seems like")
def test_the_copy_is_light() -> None:
    """A copy of a scheduler carries neither weights nor state."""
    model = nn.Linear(1000, 1000)
    real = optim.AdamW(model.parameters(), lr=0.1)
    scheduler = schedulers.CosineAnnealingLR(real, 10)
    copied, light = light_copy(scheduler)
    assert copied.optimizer is light and scheduler.optimizer is real
    assert sum(p.numel() for group in light.param_groups for p in group["params"]) == 1
    copied.step()
    assert real.param_groups[0]["lr"] == 0.1


def test_a_schedule_by_name_spans_the_run() -> None:
    """It starts at the group's own rate and would be 0 one step after the last."""
    groups = optimizer().param_groups
    assert lr_curve(td.Run(steps=4, lr_schedule="linear"), groups) == [
        [0.1, 0.1 * 0.75, 0.1 * 0.5, 0.1 * 0.25],
        [0.02, 0.02 * 0.75, 0.02 * 0.5, 0.02 * 0.25],
    ]
    assert lr_curve(td.Run(steps=3, lr_schedule="constant"), groups) == [[0.1] * 3, [0.02] * 3]


def test_cosine_by_name_is_torch_s() -> None:
    """To rounding: torch goes from step to step, the name has a closed form."""
    curve = lr_curve(td.Run(steps=STEPS, lr_schedule="cosine"), optimizer().param_groups)
    assert curve is not None
    for mine, real in zip(curve, stepped(SCHEDULERS["CosineAnnealingLR"]), strict=True):
        assert mine == pytest.approx(real, rel=1e-12)


def test_warm_up_by_name_comes_first() -> None:
    """From 0 in equal steps, then the schedule over what is left."""
    (curve, _) = lr_curve(td.Run(steps=6, lr_schedule="linear", warmup_steps=2), optimizer().param_groups) or ([], [])
    assert curve == pytest.approx([0.0, 0.05, 0.1, 0.075, 0.05, 0.025])


def test_by_epochs_names_and_functions_go_in_stairs() -> None:
    """As a scheduler that steps once per epoch."""
    run = td.Run(steps=4, epochs=2, lr_schedule="linear", scheduler_interval="epoch")
    assert lr_curve(run, optimizer().param_groups)[0] == [0.1, 0.1, 0.05, 0.05]  # type: ignore[index]
    run = td.Run(steps=4, epochs=2, lr_schedule=lambda epoch: 0.5**epoch, scheduler_interval="epoch")
    assert lr_curve(run, optimizer().param_groups)[0] == [0.1, 0.1, 0.05, 0.05]  # type: ignore[index]


def test_momentum_that_a_scheduler_moves() -> None:
    """OneCycleLR lowers momentum where it raises the learning rate; a group without momentum has no curve of it."""
    given = optimizer()
    run = td.Run(steps=STEPS, lr_schedule=schedulers.OneCycleLR(given, 0.1, total_steps=STEPS))
    found = group_curves(run, given.param_groups, ("lr", "momentum"))
    assert found is not None and found[0]["momentum"][0] == 0.95 and 0.85 <= min(found[0]["momentum"]) < 0.86
    assert group_curves(td.Run(steps=2), [{"lr": 1.0}], ("lr", "momentum")) == [{"lr": [1.0, 1.0]}]


def test_wrapped_schedulers_are_looked_into_and_others_told() -> None:
    """accelerate's hands on what it holds; one that is neither torch's nor a function can't be run ahead."""

    class Wraps:
        def __init__(self, scheduler: schedulers.LRScheduler) -> None:
            self.scheduler = scheduler

    class Foreign:
        def get_last_lr(self) -> list[float]:
            return [0.1]

    optimizer = optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    real = schedulers.CosineAnnealingLR(optimizer, 10)
    expected = td.forecast(optimizer, run=td.Run(steps=10, lr_schedule=real))
    assert td.forecast(optimizer, run=td.Run(steps=10, lr_schedule=Wraps(real))) == expected
    with pytest.raises(UnitError, match="can't be told"):
        td.forecast(optimizer, run=td.Run(steps=10, lr_schedule=Foreign()))


class OfDeepSpeed:
    """As its WarmupLR: no scheduler of torch, that counts from -1 and sets what it tells."""

    def __init__(self, optimizer):
        self.optimizer, self.last_batch_iteration = optimizer, -1

    def get_last_lr(self):
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self):
        self.last_batch_iteration += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 * (self.last_batch_iteration + 1) / STEPS


class OfTimm:
    """As all of its: it is asked for a step, and multiplies by the scale of each group."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def _get_lr(self, step):
        return [0.1 * (1 - step / STEPS), 0.02 * (1 - step / STEPS)]

    def step(self, epoch, metric=None):
        for group, rate in zip(self.optimizer.param_groups, self._get_lr(epoch), strict=True):
            group["lr"] = rate * group.get("lr_scale", 1.0)


@pytest.mark.parametrize("made", [OfDeepSpeed, OfTimm])
def test_schedulers_of_others_tell_as_they_go(made) -> None:
    """The curve is what a run with it really has, and asking for it moves nothing."""
    real = optimizer()
    real.param_groups[1]["lr_scale"] = 0.5
    scheduler = made(real)
    scheduler.step(0) if made is OfTimm else scheduler.step()
    curve = lr_curve(td.Run(steps=STEPS, lr_schedule=scheduler), real.param_groups)
    left = []
    for step in range(1 if made is OfDeepSpeed else 0, STEPS):
        scheduler.step(step) if made is OfTimm else None
        left.append([group["lr"] for group in real.param_groups])
        scheduler.step() if made is OfDeepSpeed else None
    assert [rate for rates in zip(*curve, strict=True) for rate in rates] == pytest.approx(
        [rate for rates in left for rate in rates]
    )
