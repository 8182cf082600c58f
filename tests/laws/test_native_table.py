"""The table of what each torch optimizer means by weight_decay, derived again by probing the class."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from this_torch import needs_adams_switch
from torchdecay.optimizers.cards import SWITCH, card_of, torch_class, torch_names

WD, LR = 0.25, 0.125
DECAYING = [cls for name in torch_names(decaying=True) if (cls := torch_class(name))]
TABLE = {cls: card_of(cls).native for cls in DECAYING}
FIXED = {optim.ASGD: {"lambd": 0.0}}  # ASGD decays by lambd even at weight_decay 0


def step(cls, weight, gradient, **options):
    """The weight after one step, and the optimizer's state."""
    param = nn.Parameter(weight.clone())
    param.grad = gradient.clone()
    optimizer = cls([param], lr=LR, **FIXED.get(cls, {}) | options)
    optimizer.step()
    return param.detach(), optimizer.state[param]


def probed(cls, **options):
    """The site, found from what steps do, or None.

    GRADIENT: a step with weight_decay is the step without it, for the gradient g + wd·w. Else BEFORE: with a zero
    gradient the weight shrinks by exactly 1 − lr·wd.
    """
    torch.manual_seed(0)
    weight, gradient = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    decayed, _ = step(cls, weight, gradient, weight_decay=WD, **options)
    if torch.equal(decayed, step(cls, weight, gradient, weight_decay=0.0, **options)[0]):
        return None
    added, _ = step(cls, weight, gradient.add(weight, alpha=WD), weight_decay=0.0, **options)
    if torch.equal(decayed, added):
        return td.Site.GRADIENT
    shrunk, _ = step(cls, weight, torch.zeros_like(weight), weight_decay=WD, **options)
    return td.Site.BEFORE if torch.equal(shrunk, weight * (1 - LR * WD)) else None


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_each_entry_is_what_the_class_does(cls):
    """Probing gives the site that the table says."""
    assert TABLE[cls].site is probed(cls)


@needs_adams_switch
@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_each_entry_that_can_be_switched_switches(cls):
    """And the others have no such option, AdamW's fixed one apart."""
    signature = inspect.signature(cls.__init__).parameters
    assert (SWITCH in signature) is (TABLE[cls].switch == "chooses")
    if TABLE[cls].switch == "chooses":
        assert probed(cls, **{SWITCH: True}) is td.Site.BEFORE


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_each_entry_is_exact_where_it_says_so(cls):
    """A decay taken just before the step, or added to the gradient, gives the same bits, but for Adafactor."""
    torch.manual_seed(0)
    weight, gradient = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    native, _ = step(cls, weight, gradient, weight_decay=WD)
    if TABLE[cls].site is td.Site.BEFORE:
        by_hand, _ = step(cls, weight * (1 - LR * WD), gradient, weight_decay=0.0)
    else:
        by_hand, _ = step(cls, weight, gradient.add(weight, alpha=WD), weight_decay=0.0)
    assert torch.equal(native, by_hand) is TABLE[cls].exact


def test_every_optimizer_of_torch_is_in_the_table_or_known_to_have_no_decay():
    """A new class in torch must be looked at."""
    every = {one for one in vars(optim).values() if inspect.isclass(one) and issubclass(one, optim.Optimizer)}
    assert every - {optim.Optimizer} == {torch_class(name) for name in torch_names() if torch_class(name)}


class Ignores(optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            group["weight_decay"] = 0.0
        return super().step(closure)


class Twice(optim.AdamW):
    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for param in group["params"]:
                    param.mul_(1 - group["lr"] * group["weight_decay"])
        return super().step(closure)


@pytest.mark.parametrize("cls", [Ignores, Twice], ids=lambda cls: cls.__name__)
def test_the_probe_sees_an_optimizer_that_decays_otherwise(cls):
    """The seeded faults: one that ignores weight_decay, one that applies it twice."""
    assert probed(cls) is None
