"""What each optimizer's weight_decay means, read from its class and its group."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import HAS_SWITCH, needs_adams_switch, torch_classes
from torchdecay.optimizers.cards import SWITCH, card_of, has_trait, late_because, native_of, torch_class


def group_of(cls, **options):
    return cls([nn.Parameter(torch.ones(2, 2))], lr=0.1, **options)


@pytest.mark.parametrize("name", torch_classes())
def test_the_card_of_a_class_is_found_for_its_objects(name):
    """Wrapping `step`, which torch does once per class, does not hide the card."""
    optimizer = group_of(torch_class(name))
    card = card_of(optimizer)
    assert card.name == name
    if HAS_SWITCH:
        assert native_of(optimizer, optimizer.param_groups[0]) == card.native
    assert ("no decay" in card.traits) is (card.native is None)


@pytest.mark.parametrize("name", [name for name in torch_classes() if name != "LBFGS"])
def test_an_optimizer_is_called_blind_where_its_update_reads_no_weights(name):
    """Two weights under the same gradients are moved alike, bit for bit where both are 0 when it counts."""
    ends = []
    for start in (0.0, 100.0):
        weight = nn.Parameter(torch.full((3, 4), start, dtype=torch.float64))
        options = {} if has_trait(torch_class(name), "no decay") else {"weight_decay": 0.0}
        optimizer = torch_class(name)([weight], lr=0.125, **options)
        for step in range(3):
            drawn = torch.randn(3, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            weight.grad = drawn.to_sparse() if name == "SparseAdam" else drawn
            optimizer.step()
        ends.append(weight.detach() - start)
    # A hundred and a step, less a hundred: the step to fourteen digits; Muon multiplies in bf16.
    assert torch.allclose(*ends, rtol=0, atol=1e-11) == has_trait(torch_class(name), "blind")


def test_adamw_is_not_taken_for_adam():
    """AdamW derives from Adam; the first entry along its bases is its own."""
    optimizer = group_of(optim.AdamW)
    assert native_of(optimizer, optimizer.param_groups[0]).site is td.Site.BEFORE


@pytest.mark.parametrize("cls", [optim.Adam, optim.NAdam, optim.RAdam], ids=lambda cls: cls.__name__)
def test_the_group_key_switches_adam_between_coupled_and_decoupled(cls):
    """`decoupled_weight_decay` is read from the group, because groups may differ."""
    for decoupled, site in ((False, td.Site.GRADIENT), (True, td.Site.BEFORE)):
        optimizer = group_of(cls, decoupled_weight_decay=decoupled)
        assert native_of(optimizer, optimizer.param_groups[0]).site is site


@needs_adams_switch
def test_a_group_of_adamw_that_asks_for_coupled_decay_is_read_as_coupled():
    """AdamW obeys the key in a group: a table by class alone would call this decoupled."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = optim.AdamW([{"params": [weight], SWITCH: False}], lr=0.1, weight_decay=0.5)
    group = optimizer.param_groups[0]
    assert native_of(optimizer, group).site is td.Site.GRADIENT
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    # Coupled decay alone moves a weight by the learning rate; decoupled would leave .95.
    assert torch.allclose(weight, torch.tensor(0.9))


@needs_adams_switch
def test_adam_without_the_key_can_not_be_switched():
    """Versions of torch before the key existed would ignore it silently."""
    optimizer = group_of(optim.Adam)
    group = {key: value for key, value in optimizer.param_groups[0].items() if key != SWITCH}
    assert native_of(optimizer, optimizer.param_groups[0]).switch == "chooses"
    assert not native_of(optimizer, group).switch


def test_a_subclass_with_its_own_step_is_not_guessed():
    """It may do anything with weight_decay; one that changes nothing in `step` keeps the entry."""

    class Own(optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    class Same(optim.SGD):
        pass

    own, same = group_of(Own), group_of(Same)
    assert native_of(own, own.param_groups[0]) is None
    assert native_of(same, same.param_groups[0]) == card_of(optim.SGD).native


@pytest.mark.parametrize("cls", [optim.Rprop, optim.LBFGS, optim.SparseAdam], ids=lambda cls: cls.__name__)
def test_optimizers_without_decay_have_no_entry(cls):
    """What has no weight_decay means nothing by it."""
    optimizer = group_of(cls)
    assert "weight_decay" not in optimizer.defaults
    assert native_of(optimizer, optimizer.param_groups[0]) is None


def test_a_switch_that_a_class_does_not_have_is_not_read() -> None:
    """AdamW of torch 2.6 has no such option: a key of that name in its groups changes nothing there."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], weight_decay=0.1)
    optimizer.defaults.pop("decoupled_weight_decay", None)
    optimizer.param_groups[0]["decoupled_weight_decay"] = False
    found = native_of(optimizer, optimizer.param_groups[0])
    assert found is not None and found.site is td.Site.BEFORE and not found.switch


def test_the_class_says_why_pulls_on_weights_have_to_wait() -> None:
    """SAM and its kin by name or by what they can do, AdaHessian and its kin alike; of torch's own none."""

    def named(name: str, **attributes: object) -> object:
        made = type(name, (optim.Optimizer,), {"step": lambda self, closure=None: None, **attributes})
        return made([torch.nn.Parameter(torch.ones(1))], {"lr": 0.1})

    assert [late_because(one) for one in (named("FriendlySAM"), named("Climber", first_step=print))] == [
        "puts weights back",
        "puts weights back",
    ]
    assert late_because(named("AdaHessian")) == late_because(named("Own", is_second_order=True)) != ""
    assert late_because(named("Own")) == late_because(named("Sampler")) == ""
    assert not any(late_because(one) for one in (optim.SGD, optim.AdamW))
