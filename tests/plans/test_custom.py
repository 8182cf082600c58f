"""Regularizers and schedules of the user's own: they pull, they are saved by name, and nothing reads them unasked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn, optim

import torchdecay as td
from torchdecay.errors import DecayError, LoadError
from torchdecay.plans.regularizers import CustomRegularizer, Regularizer
from torchdecay.plans.schedules import Schedule


def quartic(x: Tensor) -> Tensor:
    """R(x) = ¼Σx⁴, whose gradient is x³."""
    return x.pow(4).sum() / 4


@dataclass(frozen=True)
class Toward(Regularizer):
    """R(x) = ½‖x − c‖², with a prox of its own."""

    c: float = 0.5

    def value(self, x: Tensor) -> Tensor:
        return (x - self.c).square().sum() / 2

    def gradient(self, x: Tensor) -> Tensor:
        return x - self.c

    def prox(self, z: Tensor, tau: float) -> Tensor:  # type: ignore[override]
        return (z + tau * self.c) / (1 + tau)


@dataclass(frozen=True)
class Saw(Schedule):
    """1, ½, 1, ½, ..."""

    period: int = 2

    def __call__(self, step: int, lr_ratio: float = 1.0) -> float:
        return 1.0 / (1 + step % self.period)


OWN = {
    "function": td.decoupled(0.1).replace(regularizer=quartic),
    "class": td.decoupled(0.1).replace(regularizer=Toward(0.25)),
    "schedule": td.decoupled(0.1, schedule=Saw(3)),
}
by_kind = pytest.mark.parametrize("decay", OWN.values(), ids=OWN)


def train(decay: td.Decay, steps: int = 3) -> tuple[nn.Module, optim.Optimizer, td.Handle]:
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False).double()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, decay), model=model)
    step(model, optimizer, steps)
    return model, optimizer, handle


def step(model: nn.Module, optimizer: optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        optimizer.step()


@by_kind
def test_a_plan_with_what_is_ones_own_is_saved_by_name_and_refused_unless_asked(decay: td.Decay) -> None:
    """Reading would import and run the code that a file names."""
    plan = td.plan(nn.Linear(4, 3), decay)
    text = plan.to_json()
    assert "plans.test_custom:" in text
    with pytest.raises(LoadError, match='callables="import"'):
        td.Plan.from_json(text)
    assert td.Plan.from_json(text, callables="import") == plan
    described = td.Plan.from_json(text, callables="describe")
    assert "plans.test_custom:" in repr(described.decay)
    assert described.decay.form != td.decoupled(0.2).form or decay.schedule == Saw(3)


def test_other_numbers_of_a_class_of_ones_own_are_told_apart() -> None:
    """In a file that is only described too."""
    texts = [td.plan(nn.Linear(4, 3), OWN["class"].replace(regularizer=Toward(c))).to_json() for c in (0.25, 0.5)]
    one, other = (td.Plan.from_json(text, callables="describe") for text in texts)
    assert one != other


@pytest.mark.parametrize("own", [lambda x: x.sum(), Toward.value.__get__(Toward())], ids=["lambda", "method"])
def test_what_has_no_name_of_its_own_can_not_be_saved(own: object) -> None:
    """And runs all the same."""
    decay = td.decoupled(0.1).replace(regularizer=own)
    train(decay)
    with pytest.raises(LoadError, match="cannot be written"):
        td.plan(nn.Linear(4, 3), decay).to_json()


def test_a_class_that_a_file_names_must_be_one_of_those() -> None:
    """`module:qualname` may name anything that can be imported."""
    text = td.plan(nn.Linear(4, 3), OWN["class"]).to_json().replace(f"{__name__}:Toward", "fractions:Fraction")
    with pytest.raises(LoadError, match="no dataclass of a"):
        td.Plan.from_json(text, callables="import")


def test_a_function_pulls_by_its_gradient_at_every_site() -> None:
    """Before the update, through the gradient, through the loss: on plain SGD these are one."""
    torch.manual_seed(0)
    start = nn.Linear(4, 3, bias=False).double().weight.detach()
    expected = start.clone()
    for _ in range(3):
        expected = expected - 0.1 * 0.3 * expected**3 - 0.1
    for form in (td.decoupled(0.3), td.coupled(0.3)):
        model, _, handle = train(form.replace(regularizer=quartic))
        torch.testing.assert_close(model.weight.detach(), expected)
        assert handle.lowering["weight"].route == "hook"
    model, _, handle = train(td.penalized(0.3).replace(regularizer=quartic), steps=0)
    handle.penalty(model).backward()
    torch.testing.assert_close(model.weight.grad, 0.3 * start**3)


def test_a_class_of_ones_own_may_step_proximally_and_a_function_may_not() -> None:
    """Of values alone nobody knows where the minimum is."""
    decay = td.forms.proximal(0.3, max_lr=0.1).replace(regularizer=Toward(0.25))
    model, _, _ = train(decay, steps=1)
    torch.manual_seed(0)
    z = nn.Linear(4, 3, bias=False).double().weight.detach() - 0.1
    torch.testing.assert_close(model.weight.detach(), (z + 0.3 * 0.25) / 1.3)
    with pytest.raises(DecayError, match="proximal step of quartic"):
        decay.replace(regularizer=quartic)


def test_what_returns_no_number_is_said_by_name_and_moves_nothing() -> None:
    """A mean over rows is no R."""

    def rows(x: Tensor) -> Tensor:
        return x.sum(1)

    model, optimizer, _ = train(td.decoupled(0.1).replace(regularizer=rows), steps=0)
    before = model.weight.detach().clone()
    with pytest.raises(DecayError, match="0-d tensor"):
        step(model, optimizer, 1)
    assert torch.equal(model.weight, before)


@by_kind
def test_a_run_with_what_is_ones_own_is_resumed(decay: td.Decay) -> None:
    """A checkpoint describes it, and the plan that is attached has it."""
    expected, optimizer, _ = train(decay, steps=6)
    model, optimizer, _ = train(decay, steps=3)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    for on_load in ("plan", "checkpoint", "equal"):
        fresh = nn.Linear(4, 3, bias=False).double()
        optimizer = optim.SGD(fresh.parameters(), lr=0.1)
        td.attach(optimizer, td.plan(fresh, decay), model=fresh, on_load=on_load)
        fresh.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        step(fresh, optimizer, 3)
        assert torch.equal(fresh.weight, expected.weight), on_load


def test_it_prints_as_what_it_is() -> None:
    """By the function's name."""
    assert repr(CustomRegularizer(quartic)) == "quartic"
    assert "regularizer=quartic" in repr(OWN["function"])
    assert OWN["function"].equation == "θ ← θ − η·λ·∇quartic(θ), then θ ← θ − u"


@pytest.mark.parametrize(
    "function",
    [lambda x: x.detach().square().sum(), lambda x: torch.tensor(1.0), lambda x: torch.zeros(()).requires_grad_()],
)
def test_a_regularizer_without_gradient_is_told(function: Callable[[Tensor], Tensor]) -> None:
    """It would pull nothing, or raise torch's own words in the middle of a step; the weights stay."""
    weight = torch.ones(3)
    with pytest.raises(DecayError, match="has no gradient"):
        CustomRegularizer(function).gradient(weight)
    assert torch.equal(weight, torch.ones(3))
