"""Each form, carried out on a real optimizer, against its scalar reference."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from reference import scalar

STEPS, SIZE, PEAK = 25, 12, 0.05
# Both sides do the same few dozen float64 operations per element in another order.
CLOSE = {"rtol": 1e-11, "atol": 1e-13}


def problem():
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    noise = torch.randn(STEPS, SIZE, generator=generator, dtype=torch.float64)
    # A wave, so that momentum and gradient disagree for a while after each turn, as `projected` needs it.
    wave = torch.cos(torch.arange(STEPS, dtype=torch.float64) / 3).unsqueeze(1)
    gradients = 0.3 * noise + wave * noise[0]
    lrs = [PEAK * (1 - step / (2 * STEPS)) for step in range(STEPS)]
    return weights, gradients, lrs


START = problem()[0].tolist()
REFERENCE = [0.3 * value for value in START]
# Weights are a matrix of 3 x 4; these are places in it.
TENSOR = [list(range(SIZE))]
ROWS = [[4 * row + column for column in range(4)] for row in range(3)]
COLUMNS = [[4 * row + column for row in range(3)] for column in range(4)]

FORMS = {
    "coupled": (lambda: td.coupled(0.3), lambda: scalar.Coupled(0.3)),
    "decoupled": (lambda: td.decoupled(0.3), lambda: scalar.Decoupled(0.3)),
    "independent": (lambda: td.independent(0.3, max_lr=PEAK), lambda: scalar.Decoupled(0.3, lambda lr: lr / PEAK)),
    "per_step": (lambda: td.per_step(0.01), lambda: scalar.Decoupled(0.01, lambda lr: 1.0)),
    "corrected": (
        lambda: td.corrected(0.3, max_lr=PEAK),
        lambda: scalar.Decoupled(0.3, lambda lr: lr * lr / PEAK),
    ),
    "cautious": (lambda: td.cautious(0.3), lambda: scalar.Cautious(0.3)),
    "l1": (lambda: td.l1(0.05), lambda: scalar.ElasticNet(0.05)),
    "elastic_net": (lambda: td.elastic_net(l1=0.05, l2=0.2), lambda: scalar.ElasticNet(0.05, 0.2)),
    "toward initial": (lambda: td.toward("initial", 0.3), lambda: scalar.Decoupled(0.3, ref=START)),
    "toward 1": (lambda: td.toward(1.0, 0.3), lambda: scalar.Decoupled(0.3, ref=[1.0] * SIZE)),
    "proximal": (lambda: td.forms.proximal(0.1, max_lr=PEAK), lambda: scalar.Proximal(0.1, PEAK)),
    "huber": (lambda: td.forms.huber(0.5, delta=0.4), lambda: scalar.Huber(0.5, 0.4)),
    "toward_average": (
        lambda: td.forms.toward_average(0.3, beta=0.9),
        lambda: scalar.TowardAverage(0.3, 0.9, START),
    ),
    "projected": (lambda: td.forms.projected("ref", 0.7), lambda: scalar.Projected(0.7, REFERENCE)),
    "stable": (lambda: td.forms.stable(0.3), lambda: scalar.Stable(0.3)),
    "adaptive": (lambda: td.forms.adaptive(0.3), lambda: scalar.Adaptive(0.3)),
    "ada_decay": (lambda: td.forms.ada_decay(0.3), lambda: scalar.AdaDecay(0.3)),
    "constrained": (lambda: td.forms.constrained(kappa=4.0), lambda: scalar.Constrained(4.0, 1 / SIZE)),
    "constrained tight": (
        lambda: td.forms.constrained(kappa=1e-3, rho=1.0),
        lambda: scalar.Constrained(1e-3, 1.0),
    ),
    "norm_control": (
        lambda: td.forms.norm_control(0.3, ratio=0.8),
        lambda: scalar.NormControl(0.3, 0.8, START),
    ),
    "hyperball": (td.forms.hyperball, lambda: scalar.Hyperball("initial", TENSOR, START)),
    "hyperball current by rows": (
        lambda: td.forms.hyperball("current", per="row"),
        lambda: scalar.Hyperball("current", ROWS, START),
    ),
    "hyperball of 2 by columns": (
        lambda: td.forms.hyperball(2, per="column"),
        lambda: scalar.Hyperball(2.0, COLUMNS, START),
    ),
    "projection": (lambda: td.forms.projection(3.0), lambda: scalar.NormProjection(3.0, TENSOR, START)),
    "projection by experts": (
        lambda: td.forms.projection(per="expert"),
        lambda: scalar.NormProjection("initial", ROWS, START),
    ),
    "radial_brake": (
        lambda: td.forms.radial_brake(outward=0.25, inward=0.75),
        lambda: scalar.RadialBrake(0.25, 0.75, TENSOR, START),
    ),
    "radial_brake by rows": (
        lambda: td.forms.radial_brake(inward=0.0, per="row"),
        lambda: scalar.RadialBrake(0.5, 0.0, ROWS, START),
    ),
    "relative_update": (td.forms.relative_update, lambda: scalar.RelativeUpdate("current", TENSOR, START)),
    "relative_update by columns": (
        lambda: td.forms.relative_update(per="column"),
        lambda: scalar.RelativeUpdate("current", COLUMNS, START),
    ),
    "norm_control by rows": (
        lambda: td.forms.norm_control(0.3, ratio=0.8, per="row"),
        lambda: scalar.NormControl(0.3, 0.8, START, ROWS),
    ),
    "group_lasso by rows": (lambda: td.forms.group_lasso(0.3), lambda: scalar.GroupLasso(0.3, ROWS)),
    "group_lasso by columns": (
        lambda: td.forms.group_lasso(0.3, per="column"),
        lambda: scalar.GroupLasso(0.3, COLUMNS),
    ),
    "p_norm 1": (lambda: td.forms.p_norm(0.1, p=1), lambda: scalar.PNorm(0.1, 1.0)),
    "p_norm 0.5": (lambda: td.forms.p_norm(0.1, p=0.5), lambda: scalar.PNorm(0.1, 0.5)),
    "p_norm 3": (lambda: td.forms.p_norm(0.3, p=3), lambda: scalar.PNorm(0.3, 3.0)),
    "projection current by columns": (
        lambda: td.forms.projection("current", per="column"),
        lambda: scalar.NormProjection("current", COLUMNS, START),
    ),
}
OPTIMIZERS = {
    "sgd": (lambda p: optim.SGD(p, lr=PEAK), lambda: scalar.Sgd(PEAK)),
    "momentum": (
        lambda p: optim.SGD(p, lr=PEAK, momentum=0.9, dampening=0.1),
        lambda: scalar.Sgd(PEAK, 0.9, 0.1),
    ),
    "adamw": (lambda p: optim.AdamW(p, lr=PEAK, weight_decay=0), lambda: scalar.Adam(PEAK)),
    "fused adamw": (lambda p: optim.AdamW(p, lr=PEAK, weight_decay=0, fused=True), lambda: scalar.Adam(PEAK)),
}


class Bag(nn.Module):
    """One weight and nothing else, so that the law is about the step alone."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(problem()[0].clone().reshape(3, 4))


def run(decay, make):
    _, gradients, lrs = problem()
    model = Bag()
    optimizer = make(model.parameters())
    reference = {"ref": {"weight": torch.tensor(REFERENCE, dtype=torch.float64).reshape(3, 4)}}
    handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via="hook", bind=reference)
    seen = []
    for gradient, lr in zip(gradients, lrs, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        model.weight.grad = gradient.clone().reshape(3, 4)
        optimizer.step()
        assert torch.equal(model.weight.grad.flatten(), gradient)
        seen.append(model.weight.detach().flatten().clone())
    handle.remove()
    return torch.stack(seen)


def reference_of(form, opt):
    weights, gradients, lrs = problem()
    return torch.tensor(scalar.train(form, opt, weights.tolist(), gradients.tolist(), lrs), dtype=torch.float64)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_follows_its_equation(form, optimizer):
    decay, slow_form = FORMS[form]
    make, slow_optimizer = OPTIMIZERS[optimizer]
    torch.testing.assert_close(run(decay(), make), reference_of(slow_form(), slow_optimizer()), **CLOSE)


@pytest.mark.parametrize("form", FORMS)
def test_the_references_tell_forms_apart(form):
    """The seeded fault: no decay at all is far from every reference."""
    _, slow_optimizer = OPTIMIZERS["momentum"]
    without = reference_of(scalar.Form(), slow_optimizer())
    assert (reference_of(FORMS[form][1](), slow_optimizer()) - without).abs().max() > 1e-4
