"""Steps that are part of a graph: gradients through the decay are those through torch's own, or it is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.plans.presets import PRESETS

WD, LR = 0.5, 0.1


def step_through(start, decay, cls, *, native, **options):
    """The weight after two steps from `start`, with gradients that depend on it."""
    weight = start.clone()
    weight.retain_grad()
    groups = [{"params": [weight], "param_names": ["weight"]}]
    made = cls(groups, lr=LR, weight_decay=WD if native else 0.0, differentiable=True, **options)
    if not native:
        plan = td.plan(nn.Linear(3, 1, bias=False), decay, rules=())
        td.attach(made, plan, via="hook", bind={"there": {"weight": torch.ones(1, 3, dtype=torch.float64)}})
    for power in (2, 3):
        weight.grad = power * start ** (power - 1)
        made.step()
    return weight


def weights():
    return torch.tensor([[1.0, 2.0, -0.5]], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("cls", "options"),
    [(optim.SGD, {}), (optim.SGD, {"momentum": 0.9, "maximize": True}), (optim.Adam, {}), (optim.AdamW, {})],
    ids=["SGD", "momentum", "Adam", "AdamW"],
)
def test_gradients_through_the_hook_are_those_through_the_optimizers_own_decay(cls, options):
    decay = td.decoupled(WD) if cls is optim.AdamW else td.coupled(WD)
    start = weights()
    own, ours = (step_through(start, decay, cls, native=native, **options) for native in (True, False))
    assert torch.equal(own, ours)
    jacobians = [torch.autograd.grad(one.square().sum(), start)[0] for one in (own, ours)]
    assert torch.allclose(*jacobians, rtol=1e-12)


@pytest.mark.parametrize(
    "decay",
    [
        td.decoupled(WD),
        td.coupled(WD, mask=td.spare_rows(0)),
        td.toward("there", WD),
        td.independent(0.05, max_lr=0.2),
        td.coupled(WD).replace(regularizer=td.forms.huber(WD, delta=0.7).regularizer),
    ],
    ids=repr,
)
def test_gradients_through_a_pull_are_those_of_finite_differences(decay):
    assert torch.autograd.gradcheck(lambda start: step_through(start, decay, optim.SGD, native=False), weights())


# A reference that is taken at attach moves along in a finite difference, and is a constant in a graph.
@pytest.mark.parametrize("form", [name for name, preset in PRESETS.items() if preset.shown.reference is None])
def test_every_form_runs_in_the_graph_or_is_refused_at_attach(form):
    """A finite difference along the weights says what the gradient has to be."""
    decay, start = PRESETS[form].shown, weights()
    try:
        ours = step_through(start, decay, optim.SGD, native=False)
    except td.ApplyError as refused:
        assert "differentiable=True" in str(refused) or "is not bound" in str(refused)
        return
    told = torch.autograd.grad(ours.sum(), start)[0].sum()
    ends = [step_through(weights() + shift, decay, optim.SGD, native=False).sum() for shift in (1e-6, -1e-6)]
    assert told.item() == pytest.approx(((ends[0] - ends[1]) / 2e-6).item(), rel=1e-6)


class Curvature(optim.Optimizer):
    """θ ← θ − η·g/|h|, h being the sums of rows of the second derivative, which it takes in its step."""

    is_second_order = True

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    def step(self, closure=None):
        params = [param for group in self.param_groups for param in group["params"]]
        grads = [param.grad for param in params]
        curved = torch.autograd.grad([grad.sum() for grad in grads], params)
        with torch.no_grad():
            for param, grad, one in zip(params, grads, curved, strict=True):
                param.sub_(self.param_groups[0]["lr"] * grad / one.abs())


@pytest.mark.parametrize("decay", [td.coupled(0.3), td.decoupled(0.3)], ids=repr)
def test_a_step_that_differentiates_gradients_again_takes_a_plan(decay):
    """Coupled decay is in the second derivative too, as a penalty in the loss is; what pulls weights comes after."""

    def trained(decay=None, penalty=0.0, left=1.0):
        torch.manual_seed(0)
        model = nn.Linear(3, 2, bias=False).double()
        optimizer = Curvature(model.parameters(), lr=0.1)
        if decay is not None:
            td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
        for _ in range(3):
            optimizer.zero_grad()
            (model.weight.exp().sum() + penalty / 2 * model.weight.square().sum()).backward(create_graph=True)
            optimizer.step()
            model.weight.data.mul_(left)
        return model.weight.detach()

    if decay.site is td.Site.GRADIENT:
        assert torch.equal(trained(decay), trained(penalty=0.3)) and not torch.equal(trained(decay), trained())
    else:
        assert torch.equal(trained(decay), trained(left=1 - 0.1 * 0.3))
