"""The laws that others hold their optimizers and forms to: kept by ours, and broken by seeded faults."""

from __future__ import annotations

from functools import partial
from itertools import count

import pytest
import torch
from torch import nn

import torchdecay as td
from torch_optimizers import TORCH
from torchdecay import testing

# torch loads NAdam's product of momentums in float64 and had it in float32: its own resume differs in the last digits.
OPTIMIZERS = {name: made for name, made in TORCH.items() if not name.startswith("NAdam")}
MATRICES = ((4, 3), (3, 3))
FORMS = (
    td.cautious(0.1),
    td.l1(0.1),
    td.toward("initial", 0.1),
    td.forms.constrained(kappa=1.0),
    td.per_step(0.01),
    td.forms.hyperball(),
    td.forms.relative_update(per="row"),
    td.forms.group_lasso(0.1),
    td.forms.p_norm(0.1, p=1),
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_torch_keep_the_laws(name: str) -> None:
    """Every class that has a decay of its own, with that switched off."""
    kind, options = OPTIMIZERS[name]
    testing.check_optimizer(
        partial(kind, **options, weight_decay=0.0), shapes=MATRICES if name == "Muon" else testing.SHAPES
    )


@pytest.mark.parametrize("decay", FORMS, ids=str)
def test_forms_keep_the_laws(decay: td.Decay) -> None:
    """One of each family."""
    testing.check_decay(decay)


class Faulty(torch.optim.SGD):
    """Momentum, with a fault."""

    serial = count()


class Forgetful(Faulty):
    """Counts outside its state: a checkpoint leaves that behind."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.steps = 0

    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            group["lr"] = 0.05 / self.steps
        return super().step(closure)


class Restless(Faulty):
    """Moves what has no gradient."""

    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param.data.mul_(0.99)
        return super().step(closure)


class Undoing(Faulty):
    """Puts the weights back to where its last step left them, and so drops what came between."""

    left = None

    def step(self, closure=None):
        params = [param for group in self.param_groups for param in group["params"]]
        for param, kept in zip(params, self.left or [one.detach().clone() for one in params], strict=True):
            param.data.copy_(kept)
        out = super().step(closure)
        self.left = [param.detach().clone() for param in params]
        return out


class Deaf(Faulty):
    """Calls no closure."""

    def step(self, closure=None):
        return super().step()


class Random(Faulty):
    """Takes another step each time."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = 0.05 + 0.001 * next(self.serial)
        return super().step(closure)


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Forgetful, testing.training_goes_on_from_its_checkpoint),
        (Restless, testing.a_parameter_without_gradient_is_left_alone),
        (Undoing, testing.decay_of_a_single_step_arrives),
        (Deaf, testing.a_closure_is_a_step),
        (Random, testing.a_plan_without_decay_changes_nothing),
    ],
)
def test_a_seeded_fault_breaks_its_law(kind: type[Faulty], law) -> None:
    """Both sides are shown."""
    with pytest.raises(AssertionError, match=r"weight \d differs, by|left weight 0 as it is"):
        law(lambda params: kind(params, lr=0.05, momentum=0.9))


def test_a_form_that_does_nothing_is_seen() -> None:
    """A coefficient of 0 moves no weight, and a penalty acts in the loss, which no law has."""
    with pytest.raises(AssertionError, match="moves no weight"):
        testing.a_form_moves_weights_and_leaves_them_finite(td.decoupled(0.0))
    with pytest.warns(td.ForgottenPenaltyWarning), pytest.raises(AssertionError, match="moves no weight"):
        testing.a_form_moves_weights_and_leaves_them_finite(td.penalized(0.1))


def test_a_law_leaves_no_trace() -> None:
    """Seeds and the default generator stand as before."""
    before = torch.get_rng_state()
    testing.check_optimizer(partial(torch.optim.SGD, lr=0.1))
    assert torch.equal(torch.get_rng_state(), before)
    assert nn.Linear(2, 2).weight.requires_grad
