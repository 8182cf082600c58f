"""Masks of numbers: each element's pull is multiplied by its own, as by a Fisher information."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td

FISHER = torch.tensor([[0.0, 0.5, 1.0], [2.0, 0.25, 0.0]])
FORMS = {
    "decoupled": td.decoupled(0.5, mask="fisher"),
    "toward": td.toward("initial", 0.5, mask="fisher"),
    "coupled": td.coupled(0.5, mask="fisher"),
    "penalized": td.penalized(0.5, mask="fisher"),
    "l1": td.l1(0.5, mask="fisher"),
    "huber": td.forms.huber(0.5, mask="fisher"),
    "proximal": td.forms.proximal(0.5, max_lr=0.1, mask="fisher"),
    "cautious": td.cautious(0.5, mask="fisher"),
    "p_norm": td.forms.p_norm(0.5, p=1, mask="fisher"),
    "norm_control": td.forms.norm_control(0.5, ratio=0.5, mask="fisher"),
}


def start() -> torch.Tensor:
    return torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def attached(decay: td.Decay, fisher: torch.Tensor, dtype: torch.dtype = torch.float64):
    model = nn.Linear(3, 2, bias=False).to(dtype)
    model.weight.data.copy_(start())
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, decay), model=model, bind={"fisher": {"weight": fisher}})
    return model, optimizer, handle


def train(decay: td.Decay, fisher: torch.Tensor, steps: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    model, optimizer, handle = attached(decay, fisher, dtype)
    for step in range(steps):
        optimizer.zero_grad()
        (model.weight.sum() * (0.5 - step) + handle.penalty(model)).backward()
        optimizer.step()
    return model.weight.detach()


# The multiplier of norm_control is that of all elements together.
@pytest.mark.parametrize("form", [name for name in FORMS if name != "norm_control"])
def test_an_element_is_pulled_as_it_would_be_by_its_own_coefficient(form: str) -> None:
    """Of weight 2, as under a decay of 2λ; of weight 0, as under none; of all alike, as under a mask of bools."""
    decay = FORMS[form]
    weighted = train(decay, FISHER)
    for weight in FISHER.unique():
        alone = decay.times(float(weight)).replace(mask=None)
        torch.testing.assert_close(weighted[weight == FISHER], train(alone, FISHER)[weight == FISHER])
    assert torch.equal(train(decay, FISHER > 0), train(decay, (FISHER > 0).double()))


@pytest.mark.parametrize("form", FORMS)
def test_verify_and_the_rest_of_the_readers_know_of_them(form: str) -> None:
    """What is measured is what the weights say."""
    model, optimizer, handle = attached(FORMS[form], FISHER)
    assert td.verify(optimizer).ok
    assert str(td.inspect(optimizer, model=model))
    held = handle.mask("weight")
    assert held is not None
    torch.testing.assert_close(held, FISHER.double())


@pytest.mark.parametrize("form", FORMS)
def test_low_precision_follows(form: str) -> None:
    """Nothing is owed for an element alone, so each step is rounded at random."""
    exact, low = (train(FORMS[form], FISHER, 20, dtype) for dtype in (torch.float64, torch.bfloat16))
    torch.testing.assert_close(low.double(), exact, rtol=0.1, atol=0.1)


def test_the_heaviest_element_decides_what_is_too_much() -> None:
    """ηλM at 1 would end a weight: refused before anything moves."""
    with pytest.raises(td.ApplyError, match="would remove"):
        attached(td.decoupled(6.0, mask="fisher"), FISHER)
    attached(td.decoupled(6.0, mask="fisher"), FISHER / 2)


@pytest.mark.parametrize(
    ("fisher", "decay", "said"),
    [
        (-FISHER, FORMS["decoupled"], "below 0"),
        (FISHER / 0, FORMS["decoupled"], "none that are finite"),
        (FISHER.int(), FORMS["decoupled"], "from 0 on"),
        (FISHER, td.decoupled(0.1, mask="fisher", rows="touched"), "goes by rows"),
        (FISHER, td.penalized(0.1, mask="fisher").replace(regularizer=td.l1(1).regularizer), "is no L2"),
    ],
    ids=["below 0", "infinite", "integers", "rows", "loss"],
)
def test_what_can_weigh_nothing_is_refused_at_attach(fisher: torch.Tensor, decay: td.Decay, said: str) -> None:
    """By name, and with what to give."""
    with pytest.raises(td.ApplyError, match=rf'"weight"[\s\S]*{said}'):
        attached(decay, fisher)


def test_a_step_that_raises_gives_the_weights_back() -> None:
    """A weighted pull can't be divided out again, so what stood there is kept."""
    model, optimizer, _ = attached(FORMS["decoupled"], FISHER)
    before = model.weight.detach().clone()
    model.weight.grad = torch.ones_like(model.weight)
    optimizer._init_group = None  # type: ignore[method-assign, assignment]
    with pytest.raises(TypeError):
        optimizer.step()
    assert torch.equal(model.weight, before)
