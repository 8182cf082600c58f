"""What each card says, derived again from real steps of its class."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn, optim

from this_torch import torch_classes
from torchdecay.optimizers.cards import CARDS, card_of, has_trait, torch_class, update_of
from torchdecay.optimizers.formulas import settled
from torchdecay.optimizers.steps import reads_update_sign, update_directions

# Settings in which the parts of an update differ: name → options.
SETTINGS = {
    "SGD": ({}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "nesterov": True}),
    "Adam": ({}, {"amsgrad": True}),
    "AdamW": ({}, {"amsgrad": True}),
    "RMSprop": ({}, {"momentum": 0.9}, {"momentum": 0.9, "centered": True}),
    "ASGD": ({}, {"lambd": 0.3}),
}
WHOLE = ("SGD", "Adam", "AdamW", "NAdam", "RAdam")
CASES = [(name, options) for name in torch_classes() for options in SETTINGS.get(name, ({},))]
SIGNED = [case for case in CASES if card_of(torch_class(case[0])).update is not None]


def case_id(value):
    return value if isinstance(value, str) else "-".join(map(str, value)) or "plain"


def build(name, options, *, shape=(4, 3), **more):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    fixed = {"weight_decay": 0.0} if "weight_decay" in inspect.signature(torch_class(name).__init__).parameters else {}
    lr = {} if name == "LBFGS" else {"lr": 0.01}
    return weight, torch_class(name)([weight], **lr, **fixed, **options, **more)


def run(weight, optimizer, steps, *, seed=1, sparse=False):
    """Steps with random gradients; yields the weight before, once the gradient is there, and goes on after the step."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        if sparse:
            weight.grad = weight.grad.to_sparse(1)
        before = weight.detach().clone()
        yield before
        optimizer.step((lambda: weight.sum()) if isinstance(optimizer, optim.LBFGS) else None)


@pytest.mark.parametrize(("name", "options"), SIGNED, ids=case_id)
@pytest.mark.parametrize("maximize", [False, True])
def test_the_sign_of_the_coming_update_is_read_from_gradient_and_state(name, options, maximize):
    """At each of many steps, from the first on; turned around it would be seen."""
    weight, optimizer = build(name, options, maximize=maximize)
    group = optimizer.param_groups[0]
    assert reads_update_sign(optimizer, group)
    signs = before = None
    for now in run(weight, optimizer, 30):
        if signs is not None:
            assert torch.equal(signs, (before - now).sign())
        (columns,) = update_directions(optimizer, group, [weight])
        before, signs = now, next(columns.each())[1].whole().sign()
        assert signs.abs().sum() > 0


def test_cards_that_tell_the_whole_update_are_those_that_are_tested_for_it():
    """A new one has to be added here."""
    assert {name for name in torch_classes() if (up := card_of(torch_class(name)).update) and up.is_whole} == set(WHOLE)


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] in WHOLE], ids=case_id)
def test_the_update_that_was_taken_is_what_the_state_tells(name, options):
    """To the last digits, RAdam's steps before it divides included."""
    weight, optimizer = build(name, options)
    group = optimizer.param_groups[0]
    update = update_of(optimizer, group)
    grad = before = None
    for now in run(weight, optimizer, 12):
        if before is not None:
            taken = update.taken(group, optimizer.state[weight], grad)
            torch.testing.assert_close(taken, before - now, rtol=1e-9, atol=1e-15)
            assert not torch.allclose(1.0001 * taken, before - now, rtol=1e-9, atol=1e-15)  # the seeded fault
        before, grad = now, weight.grad.clone()


@pytest.mark.parametrize("options", SETTINGS["SGD"], ids=case_id)
def test_the_settled_factor_is_what_a_gradient_that_stays_comes_to(options):
    """After a long run of the same gradient."""
    weight, optimizer = build("SGD", options)
    for _ in range(400):
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    factor = card_of(optimizer).settled(optimizer.param_groups[0])
    torch.testing.assert_close((before - weight.detach()) / 0.01, torch.full_like(weight, factor), rtol=1e-9, atol=0)


def test_from_a_momentum_of_1_on_nothing_settles():
    """torch allows it, and division by 1 − momentum would not."""
    assert settled({"momentum": 1.0, "dampening": 0.0}) == float("inf")


@pytest.mark.parametrize("name", torch_classes())
def test_elementwise_is_what_keeps_elements_apart(name):
    """Another gradient for one row changes the steps of the other rows, or it does not."""
    if name in ("SparseAdam", "LBFGS"):
        assert not has_trait(torch_class(name), "elementwise")
        return
    ends = []
    for changed in (False, True):
        weight, optimizer = build(name, {})
        for _ in run(weight, optimizer, 5):
            weight.grad[0] += 3.0 * changed
        ends.append(weight.detach()[1:].clone())
    assert torch.equal(*ends) is has_trait(optimizer, "elementwise")


@pytest.mark.parametrize("name", torch_classes())
def test_a_fused_kernel_is_there_where_the_card_says_so(name):
    """Others have no such option, or refuse it."""
    try:
        build(name, {"fused": True})
        fused = True
    except (TypeError, RuntimeError):
        fused = False
    assert has_trait(torch_class(name), "fused") is fused


@pytest.mark.parametrize(("name", "options"), CASES, ids=case_id)
def test_state_of_the_weights_shape_is_on_the_card(name, options):
    """All of it in some setting of each class, and nothing that has another shape."""
    weight, optimizer = build(name, options)
    for _ in run(weight, optimizer, 3, sparse=name == "SparseAdam"):
        pass
    state = optimizer.state[weight]
    shaped = {key for key, value in state.items() if isinstance(value, torch.Tensor) and value.shape == weight.shape}
    assert shaped <= set(card_of(optimizer).state)
    assert shaped == set(card_of(optimizer).state) & set(state)


def test_each_key_of_the_cards_is_seen_in_some_setting():
    """A key that no optimizer has would be a slip of the pen."""
    seen: dict[str, set[str]] = {}
    for name, options in CASES:
        weight, optimizer = build(name, options)
        for _ in run(weight, optimizer, 3, sparse=name == "SparseAdam"):
            pass
        seen.setdefault(name, set()).update(optimizer.state[weight])
    for name, keys in seen.items():
        assert set(card_of(torch_class(name)).state) <= keys, name


def test_what_shrinks_weights_besides_is_a_key_of_the_group():
    """ASGD's lambd takes of the weights without any weight_decay, and no other class of torch has such a key."""
    for name in torch_classes():
        card = card_of(torch_class(name))
        if name == "SparseAdam":
            continue
        weight, optimizer = build(name, {"lambd": 0.5} if card.shrinks_by else {})
        weight.grad = torch.zeros_like(weight)
        before = weight.detach().clone()
        optimizer.step((lambda: torch.zeros(())) if name == "LBFGS" else None)
        assert (not torch.equal(before, weight.detach())) is bool(card.shrinks_by), name
        assert not card.shrinks_by or card.shrinks_by in optimizer.param_groups[0]


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_weight_decay_may_be_a_tensor_where_the_card_says_so(name):
    """Filled anew, it is read anew."""
    ends = []
    for held in (0.25, torch.tensor(0.25, dtype=torch.float64)):
        weight, optimizer = build(name, {})
        optimizer.param_groups[0]["weight_decay"] = held
        for _ in run(weight, optimizer, 3):
            pass
        ends.append(weight.detach())
    assert has_trait(optimizer, "tensor decay")
    assert torch.equal(*ends)


def test_an_adaptive_class_takes_steps_that_do_not_grow_with_the_gradient():
    """A thousand times the gradient: the tenth step is a thousand times as long, or not."""
    for name in torch_classes():
        if name in ("SparseAdam", "LBFGS", "Rprop", "Adafactor", "Muon"):
            continue
        moved = []
        for scale in (1.0, 1000.0):
            weight, optimizer = build(name, {})
            for now in run(weight, optimizer, 10):
                weight.grad *= scale
                before = now
            moved.append((weight.detach() - before).norm())
        assert bool(moved[1] < 2 * moved[0]) is has_trait(optimizer, "adaptive"), name


def test_a_class_of_another_library_with_torchs_name_has_no_card():
    """A name alone says nothing."""

    class SGD(optim.Optimizer):
        pass

    assert card_of(SGD) is None


def test_no_class_is_on_two_cards():
    """The first would hide the second."""
    patterns = [card.classes for card in CARDS]
    assert len(patterns) == len(set(patterns))
