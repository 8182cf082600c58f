"""Weights that a norm follows come to rest where the closed forms say: rotation and norm, simulated under noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import torchdecay as td
from this_torch import Muon
from torchdecay.errors import UnitError

ROWS, SIZE = 64, 256
"""So many weights of so many elements are simulated at once; what they do is averaged."""
SETTLE, MEASURE = 3.0, 300


class Lion(optim.Optimizer):
    """Lion from its paper's equations, without any decay (Symbolic Discovery of Optimization Algorithms,
    arXiv 2302.06675)."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                state = self.state[param]
                moment = state.setdefault("exp_avg", torch.zeros_like(param))
                param.sub_((beta1 * moment + (1 - beta1) * param.grad).sign(), alpha=group["lr"])
                moment.mul_(beta2).add_(param.grad, alpha=1 - beta2)


def adamw(model: nn.Module) -> optim.Optimizer:
    return optim.AdamW(model.parameters(), lr=2e-3, weight_decay=2.5, betas=(0.9, 0.99), eps=0.0)


def adamw_independent(model: nn.Module) -> optim.Optimizer:
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0, betas=(0.8, 0.99), eps=0.0)
    td.attach(optimizer, td.plan(model, td.independent(0.005), rules=()), model=model)
    return optimizer


def sgd(model: nn.Module) -> optim.Optimizer:
    return optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)


def sgd_nesterov(model: nn.Module) -> optim.Optimizer:
    return optim.SGD(model.parameters(), lr=0.05, momentum=0.8, weight_decay=0.02, nesterov=True)


def sgd_decoupled(model: nn.Module) -> optim.Optimizer:
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, dampening=0.2)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1), rules=()), model=model)
    return optimizer


def lion(model: nn.Module) -> optim.Optimizer:
    optimizer = Lion(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    td.attach(optimizer, td.plan(model, td.decoupled(0.5), rules=()), model=model)
    return optimizer


def lion_pytorch(model: nn.Module) -> optim.Optimizer:
    """The library's own, whose weight_decay is left at 0."""
    module = pytest.importorskip("lion_pytorch")
    optimizer: optim.Optimizer = module.Lion(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    td.attach(optimizer, td.plan(model, td.decoupled(2.0), rules=()), model=model)
    return optimizer


OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    make.__name__: make for make in (adamw, adamw_independent, sgd, sgd_nesterov, sgd_decoupled, lion, lion_pytorch)
}
NAMES = [pytest.param(name, marks=[pytest.mark.peers] * (name == "lion_pytorch")) for name in OPTIMIZERS]


class Weights(nn.Module):
    """One row per weight, each scale-invariant by itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(ROWS, SIZE))


def noise(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Gradients of a loss that only sees directions: at right angles to each row, and shorter for longer rows."""
    drawn = torch.randn(weight.shape, generator=generator)
    norm = weight.norm(dim=1, keepdim=True)
    unit = weight / norm
    return (drawn - (drawn * unit).sum(1, keepdim=True) * unit) / norm


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_rotation_and_norm_at_rest(name: str) -> None:
    """Within 5 %: the closed forms leave out terms of higher order, and the simulation is one draw of noise."""
    model = Weights()
    optimizer = OPTIMIZERS[name](model)
    (said,) = td.forecast(optimizer, run=td.Run(steps=1000))
    rest = said.equilibrium
    assert rest is not None
    weight, generator = model.weight, torch.Generator().manual_seed(1)
    gradient = math.sqrt(SIZE - 1)
    norm = rest.norm(SIZE, gradient_norm=gradient)
    with torch.no_grad():
        # At the size where it should stay, so that little time is needed to find out whether it does.
        weight.mul_(1.2 * norm / weight.norm(dim=1, keepdim=True))
    turned, norms = [], []
    settle = round(SETTLE * rest.num_steps)
    for step in range(settle + MEASURE):
        before = weight.detach().clone()
        weight.grad = noise(before, generator)
        optimizer.step()
        if step >= settle:
            turned.append(torch.cosine_similarity(before.double(), weight.detach().double()).acos().square().mean())
            norms.append(weight.detach().norm(dim=1).mean())
    rotation, size = float(torch.stack(turned).mean().sqrt()), float(torch.stack(norms).mean())
    assert rotation == pytest.approx(rest.rotation, rel=0.05)
    assert size == pytest.approx(norm, rel=0.05)


@pytest.mark.parametrize(("shape", "momentum", "nesterov"), [((16, 32), 0.9, True), ((32, 16), 0.8, False)])
def test_muon_comes_about_there(shape: tuple[int, int], momentum: float, nesterov: bool) -> None:
    """Between .7 and .9 of the norm and 1 to 1.2 times the rotation, as is said: an orthogonal update is not linear."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    optimizer = Muon(
        [{"params": [weight], "param_names": ["w"]}], lr=0.02, weight_decay=0.5, momentum=momentum, nesterov=nesterov
    )
    (said,) = td.forecast(optimizer, run=td.Run(steps=1000)).groups
    rest, norm = said.equilibrium, said.norm("w", shape=shape)
    assert rest is not None and norm is not None and rest.num_steps == pytest.approx(50)
    with torch.no_grad():
        weight.mul_(norm / weight.norm())
    turned, norms = [], []
    for step in range(450):
        before = weight.detach().clone()
        weight.grad = noise(before.reshape(1, -1), torch.Generator().manual_seed(step)).reshape(shape)
        optimizer.step()
        if step >= 150:
            turned.append(
                torch.cosine_similarity(before.flatten().double(), weight.detach().flatten().double(), 0).acos()
            )
            norms.append(float(weight.detach().norm()))
    assert 1.0 < float(torch.stack(turned).mean()) / rest.rotation < 1.2
    assert 0.7 < sum(norms) / len(norms) / norm < 0.9
    with pytest.raises(UnitError, match="rows and columns"):
        said.norm("w")


def test_the_time_to_get_there() -> None:
    """After 1/(2f) steps what was too much of ‖w‖² at the start is down to 1/e; the forecast names that step."""
    model = Weights()
    optimizer = adamw(model)
    (said,) = td.forecast(optimizer, run=td.Run(steps=1000))
    rest = said.equilibrium
    assert rest is not None and said.equilibrium_step == pytest.approx(rest.num_steps, abs=1)
    norm, weight, generator = rest.norm(SIZE), model.weight, torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight.mul_(2.0 * norm / weight.norm(dim=1, keepdim=True))
    for _ in range(said.equilibrium_step or 0):
        weight.grad = noise(weight.detach(), generator)
        optimizer.step()
    left = (float(weight.detach().square().sum(1).mean()) / norm**2 - 1.0) / 3.0
    # Momentum delays it, and warm-up of the second moment disturbs the first steps.
    assert left == pytest.approx(1 / math.e, abs=0.06)


def test_no_equations_where_none_are_known() -> None:
    """Coupled decay in Adam, masks and gates, optimizers of other kinds."""
    model = Weights()
    run = td.Run(steps=10)
    others = (
        optim.Adam(model.parameters(), weight_decay=0.1),
        optim.RMSprop(model.parameters(), weight_decay=0.1),
        optim.AdamW(model.parameters(), weight_decay=0.1, amsgrad=True),
    )
    assert all(td.forecast(one, run=run).groups[0].equilibrium is None for one in others)
    plain = optim.AdamW(model.parameters())
    for decay in (td.cautious(0.1), td.toward("initial", 0.1), td.l1(0.1)):
        plan = td.plan(model, decay, rules=())
        assert td.forecast(plan, optimizer=plain, run=run, model=model).groups[0].equilibrium is None
