"""What forms do to weights in the large: scale of gradients, norms in equilibrium, signs, bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

import torchdecay as td

pytestmark = pytest.mark.long

FEW = settings(max_examples=12)


class Bag(nn.Module):
    """One weight and nothing else."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)


def run(decay, weight, gradients, lrs, make, via="auto"):
    """The weights after each step."""
    model = Bag(weight.clone())
    optimizer = make(model.parameters())
    td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via=via)
    seen = []
    for gradient, lr in zip(gradients, lrs, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        model.weight.grad = gradient.clone()
        optimizer.step()
        seen.append(model.weight.detach().clone())
    return seen


def adam(params):
    return optim.Adam(params, lr=0.01, eps=0)


@pytest.mark.parametrize("via", ["auto", "hook"])
def test_decoupled_adam_does_not_see_the_scale_of_gradients_and_coupled_does(via):
    """Each coordinate's gradient times 10^±3: the reason why AdamW is not Adam with L2."""
    weight, gradients = torch.randn(40).double(), torch.randn(30, 40).double()
    scales = 10.0 ** (3 * torch.randint(2, (40,)).double() * 2 - 3)
    lrs = [0.01] * 30

    def moved(decay):
        one = run(decay, weight, gradients, lrs, adam, via)[-1]
        other = run(decay, weight, gradients * scales, lrs, adam, via)[-1]
        return float((one - other).abs().max())

    assert moved(td.decoupled(0.5)) < 1e-12
    assert moved(td.independent(0.005, max_lr=0.01)) < 1e-12
    assert moved(td.coupled(0.5)) > 1e-2


def norms(decay, size=4000, steps=3000):
    """Norms of a random walk with steps of length η under a cosine from 0.1 to nearly 0, begun in equilibrium."""
    generator = torch.Generator().manual_seed(0)
    lrs = [0.1 * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2) for step in range(steps)]
    # Σ η²·C over 1 − (1 − ηλ)² is C·η/(2λ): the equilibrium at the peak.
    weight = torch.randn(size, generator=generator).double() * math.sqrt(0.1 / (2 * 0.5))
    directions = (torch.randn(size, generator=generator).double() for _ in range(steps))
    return [
        float(w.norm()) / math.sqrt(size) for w in run(decay, weight, directions, lrs, lambda p: optim.SGD(p, lr=0.1))
    ]


@pytest.mark.long
def test_corrected_decay_keeps_the_norm_of_a_random_walk_and_decoupled_lets_it_fall():
    """θ ← (1 − cλ)θ − η·ξ: with c = η the equilibrium norm follows √η, with c = η²/η_max it stays."""
    corrected, decoupled = norms(td.corrected(0.5, max_lr=0.1)), norms(td.decoupled(0.5))
    equilibrium = math.sqrt(0.1 / (2 * 0.5))
    # The norm of 4,000 numbers scatters by 1/√8,000 around its mean, of which this is 5.
    assert all(abs(norm / equilibrium - 1) < 0.06 for norm in corrected)
    assert decoupled[-1] < 0.7 * equilibrium
    assert decoupled[-1] < decoupled[len(decoupled) // 2] < decoupled[0] * 1.02


finite = st.floats(-10, 10, allow_subnormal=False)
PROXIMAL = {
    "l1": td.l1,
    "elastic_net": lambda wd: td.elastic_net(l1=wd, l2=wd),
    "proximal": lambda wd: td.forms.proximal(wd, max_lr=0.1),
    "huber": lambda wd: td.forms.huber(wd, delta=0.5),
}


@pytest.mark.parametrize("form", PROXIMAL)
@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1)])
@FEW
@given(
    weights=st.lists(finite, min_size=1, max_size=6),
    gradient=finite,
    wd=st.floats(0, 1e4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_proximal_step_never_flips_a_sign(form, make, weights, gradient, wd, dtype):
    """However hard it pulls, it ends at 0 and not beyond, so that nothing oscillates; and it never lengthens."""
    assert not flips(PROXIMAL[form](wd), torch.tensor(weights, dtype=dtype), gradient, make)


def flips(decay, weight, gradient, make):
    """Whether the pull after the update turns a sign or lengthens a weight, in any of three steps."""
    model, twin = Bag(weight.clone()), Bag(weight.clone())
    optimizer, update = make(model.parameters()), make(twin.parameters())
    td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
    found = False
    for _ in range(3):
        # The twin says where the update alone ends: its state, like the other's, follows from the gradients only.
        with torch.no_grad():
            twin.weight.copy_(model.weight)
        for one, stepped in ((model, optimizer), (twin, update)):
            one.weight.grad = torch.full_like(weight, gradient)
            stepped.step()
        after, before = model.weight.detach(), twin.weight.detach()
        assert torch.isfinite(after).all()
        found |= bool(((after * before) < 0).any()) or bool((after.abs() > before.abs()).any())
    return found


def test_an_explicit_step_flips_a_sign():
    """The seeded fault: the gradient step of the same penalty, at the same strength, ends on the other side."""
    weight, make = torch.tensor([0.5], dtype=torch.float64), lambda p: optim.SGD(p, lr=0.1)
    assert flips(td.l1(20.0).replace(proximal=False), weight, 0.0, make)
    assert not flips(td.l1(20.0), weight, 0.0, make)


@pytest.mark.parametrize("measure", ["squared", "l1", "huber", "std"])
@FEW
@given(kappa=st.one_of(st.just(0.0), st.floats(1e-30, 1e30)), size=st.floats(1e-6, 1e6))
def test_constrained_decay_is_finite_for_any_bound(measure, kappa, size):
    """The multiplier grows until the bound holds; an explicit step would overshoot and diverge on the way."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, generator=generator).double() * size
    gradients = torch.randn(60, 12, generator=generator).double()
    decay = td.forms.constrained(kappa=kappa, measure=measure)
    for after in run(decay, weight, gradients, [0.01] * 60, lambda p: optim.AdamW(p, lr=0.01, weight_decay=0)):
        assert torch.isfinite(after).all()
        assert after.norm() < weight.norm() + 12


FORMS = {
    "decoupled": lambda wd: td.decoupled(wd, schedule=td.schedules.linear(1.0, 0.2, 5)),
    "coupled": td.coupled,
    "cautious": td.cautious,
    "l1": td.l1,
    "lazy": lambda wd: td.decoupled(wd, rows="lazy"),
    "norm_control": lambda wd: td.forms.norm_control(wd, ratio=0.5),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
shapes = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)


class Job:
    """Tensors of any shapes and dtypes in any groups, some of them without a gradient at some steps."""

    def __init__(self, decay, kinds, order, groups, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.params = nn.ParameterList(
            nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape, dtype in kinds
        )
        self.model = nn.ModuleDict({"bag": nn.Module()})
        self.model["bag"].all = self.params
        named = list(self.params)
        members = [[named[i] for i in order if i % groups == group] for group in range(groups)]
        self.optimizer = optim.AdamW([{"params": m} for m in members if m], lr=0.1, weight_decay=0.0)
        if decay is not None:
            td.attach(self.optimizer, td.plan(self.model, decay, rules=()), model=self.model)

    def train(self, steps):
        for step in steps:
            generator = torch.Generator().manual_seed(step + 1)
            for index, param in enumerate(self.params):
                idle = (index + step) % 3 == 0
                param.grad = None if idle else torch.randn(param.shape, generator=generator).to(param.dtype)
            self.optimizer.step()
        return [param.detach().clone() for param in self.params]


@st.composite
def layouts(draw):
    kinds = [(shape, draw(st.sampled_from(DTYPES))) for shape in draw(shapes)]
    return kinds, draw(st.permutations(range(len(kinds)))), draw(st.integers(1, 3))


@pytest.mark.parametrize("form", FORMS)
@FEW
@given(layout=layouts())
def test_no_decay_is_no_decay_in_any_layout(form, layout):
    """Whatever the shapes, dtypes, groups and their order: λ = 0 changes no bit."""
    plain, none = Job(None, *layout).train(range(4)), Job(FORMS[form](0.0), *layout).train(range(4))
    assert all(torch.equal(a, b) for a, b in zip(plain, none, strict=True))


@pytest.mark.parametrize("form", FORMS)
@FEW
@given(layout=layouts(), stop=st.integers(0, 5))
def test_resumed_is_never_stopped_in_any_layout(form, layout, stop):
    """Saved at any step, low precision's debts included."""
    decay = FORMS[form](0.2)
    expected = Job(decay, *layout).train(range(6))
    job = Job(decay, *layout)
    job.train(range(stop))
    fresh = Job(decay, *layout, seed=1)
    fresh.model.load_state_dict(job.model.state_dict())
    fresh.optimizer.load_state_dict(job.optimizer.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(expected, fresh.train(range(stop, 6)), strict=True))
