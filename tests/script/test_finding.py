"""The model of an optimizer is found among all modules, whatever wraps it, and so is what says how long the run is."""

from __future__ import annotations

import gc
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from torchdecay.integrations.script.finding import Surroundings, around_it, look_around, model_of, run_of

pytestmark = pytest.mark.long


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Part()
        self.head = nn.Linear(3, 1)


def optimizer_of(*modules: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([param for module in modules for param in module.parameters()], lr=0.1)


def found(optimizer: torch.optim.Optimizer) -> nn.Module | None:
    return model_of(optimizer, look_around().modules)


def test_it_is_the_smallest_that_holds_all_and_of_equals_the_outermost() -> None:
    """The whole for the whole, the part for a part; a module around a part alone is the part's."""
    whole = Whole()
    assert found(optimizer_of(whole)) is whole
    assert found(optimizer_of(whole.part)) is whole.part
    assert found(optimizer_of(whole.head)) is whole.head


def test_what_is_frozen_does_not_count() -> None:
    """Adapters, or a head on a frozen body: the model is the whole, as the script names it."""
    whole = Whole()
    whole.part.requires_grad_(False)
    assert found(optimizer_of(whole.head)) is whole


def test_wrappers_are_not_the_model() -> None:
    """Names are those that the script gave."""
    whole = Whole()
    compiled = torch.compile(nn.DataParallel(whole), backend="eager")
    optimizer = optimizer_of(compiled)
    assert found(optimizer) is whole
    del compiled


def test_two_models_and_two_optimizers_on_one() -> None:
    """Each optimizer has the module that it trains."""
    one, other = Whole(), Whole()
    assert found(optimizer_of(one)) is one
    assert found(optimizer_of(other)) is other
    matrices = torch.optim.SGD([one.part.inner.weight, one.head.weight], lr=0.1)
    rest = torch.optim.AdamW([one.part.inner.bias, one.head.bias], lr=0.1)
    assert found(matrices) is one and found(rest) is one


def test_where_no_module_holds_all_it_is_the_one_that_holds_most() -> None:
    """Two models under one optimizer, and loose tensors."""
    big, small, loose = Whole(), nn.Linear(2, 2), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([*small.parameters(), *big.parameters(), loose], lr=0.1)
    assert found(optimizer) is big
    assert found(torch.optim.SGD([loose], lr=0.1)) is None


def test_an_object_is_never_asked_what_it_is() -> None:
    """A proxy that raises when it is asked for its class, its attributes or its hash is passed by."""

    class Meta(type):
        def __hash__(cls) -> int:
            raise AssertionError("asked")

        def __eq__(cls, other: object) -> bool:
            raise AssertionError("asked")

    class Proxy(metaclass=Meta):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError("asked")

    proxies = [Proxy() for _ in range(3)]
    assert any(one is proxies for one in gc.get_objects())
    look_around()


def test_a_frozen_collector_hides_the_model() -> None:
    """After gc.freeze there is no model, and that is no error."""
    assert model_of(optimizer_of(Whole()), []) is None


@pytest.mark.parametrize(
    ("make", "said", "steps"),
    [
        (lambda one: lr_scheduler.OneCycleLR(one, 0.1, total_steps=70), "70 steps, says OneCycleLR", 70),
        (
            lambda one: lr_scheduler.CosineAnnealingLR(one, T_max=30),
            "30 steps, says CosineAnnealingLR, where it goes on at each step",
            30,
        ),
        (
            lambda one: lr_scheduler.SequentialLR(
                one, [lr_scheduler.LinearLR(one), lr_scheduler.CosineAnnealingLR(one, T_max=30)], [5]
            ),
            "35 steps, says SequentialLR",
            35,
        ),
        (lambda one: lr_scheduler.StepLR(one, 10), "length unknown", 1_000),
        (
            lambda one: lr_scheduler.LambdaLR(one, partial(lambda step, num_training_steps: 1.0, num_training_steps=9)),
            "9 steps, says LambdaLR",
            9,
        ),
        (lambda one: None, "length unknown", 1_000),
    ],
)
def test_how_long_the_run_is(make: object, said: str, steps: int) -> None:
    """Where a schedule says so; one that may go by epochs does not."""
    optimizer = optimizer_of(Whole())
    scheduler = make(optimizer)  # type: ignore[operator]
    around = look_around() if scheduler is not None else Surroundings()
    run, known, told = run_of(optimizer, around, 0)
    assert said in told and run.num_steps == steps and known in (0, steps)
    assert run_of(optimizer, around, 50)[0].num_steps == 50


def test_what_is_around_an_optimizer_is_named() -> None:
    """The scheduler that calls the others, and a scaler that is at work."""
    optimizer = optimizer_of(Whole())
    warm = lr_scheduler.LinearLR(optimizer)
    then = lr_scheduler.ConstantLR(optimizer)
    both = lr_scheduler.SequentialLR(optimizer, [warm, then], [5])
    around = Surroundings(schedulers=[warm, then, both], scalers=[torch.amp.GradScaler("cpu")])
    assert around_it(optimizer, around) == ["SequentialLR", "GradScaler"]
