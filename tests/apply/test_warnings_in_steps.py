"""What is wrong with decay while a training runs is told, and ends no step, also where warnings are errors."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay import errors


class Case:
    """A training with a plan, of which something is wrong."""

    def __init__(self, decay=None) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(4, 2)
        self.optimizer = optim.SGD(self.model.parameters(), lr=0.1, weight_decay=0.1)
        self.plan = td.plan(self.model, decay or td.l1(0.1))

    def attach(self):
        return td.attach(self.optimizer, self.plan, model=self.model)

    def train(self, steps=3):
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.ones(3, 4)).square().mean().backward()
            self.optimizer.step()
            self.between()
        return self.model.weight.detach().clone()

    def between(self):
        pass


class Overwritten(Case):
    category, said = errors.OwnershipWarning, "weight_decay was set to 0.5"

    def __init__(self):
        super().__init__()
        self.attach()

    def between(self):
        self.optimizer.param_groups[0]["weight_decay"] = 0.5


class Forgotten(Case):
    category, said = errors.ForgottenPenaltyWarning, "was not called"

    def __init__(self):
        super().__init__(td.penalized(0.1))
        self.handle = self.attach()


class Copied(Case):
    category, said = errors.DetachedWarning, "is a copy of one that a plan was attached to"

    def __init__(self):
        super().__init__()
        self.attach()
        self.model, self.optimizer = copy.deepcopy((self.model, self.optimizer))


class Unwritten(Case):
    category, said = errors.NotRecordedWarning, "network down"

    def __init__(self):
        super().__init__()
        self.monitor = td.Monitor(self.optimizer, every_steps=1, model=self.model, writers=[self.write])

    def write(self, values, step):
        raise ConnectionError("network down")


class Outgrown(Case):
    category, said = errors.PeakWarning, "0.2 now, above 0.1"

    def __init__(self):
        super().__init__(td.independent(0.1))
        self.attach()

    def between(self):
        self.optimizer.param_groups[0]["lr"] = 0.2


@pytest.mark.parametrize("case", [Overwritten, Forgotten, Copied, Unwritten, Outgrown])
def test_a_warning_within_a_step_ends_no_step_where_warnings_are_errors(case):
    """It is told once, mostly at the script's line; the weights are those of a run with other filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meant = case().train()
    errors._shown.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("error")
        assert torch.equal(case().train(), meant)
    assert [one.category for one in told] == [case.category]
    assert case is Unwritten or told[0].filename == __file__
    assert case.said in str(told[0].message)
