"""A running job that is given another plan goes on: what weights owe, duals and counters are kept, in every form."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from laws.test_resume import FORMS
from torchdecay.apply.handle import Handle

STEPS, AT = 12, 5
DTYPES = {"float64": torch.float64, "bfloat16": torch.bfloat16}


class Job:
    """A small training under a plan."""

    def __init__(self, decay: Any, dtype: torch.dtype, via: Any, rules: Any = td.STANDARD) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.01, weight_decay=0.0)
        plan = td.plan(self.model, decay, rules=rules)
        self.handle: Handle = td.attach(self.optimizer, plan, model=self.model, via=via, max_lr=0.01)

    def train(self, steps: range) -> None:
        for step in steps:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)).to(self.model[0].weight)
            self.optimizer.zero_grad()
            (self.model(x).square().mean() + self.handle.penalty(self.model)).backward()
            self.optimizer.step()

    def kept(self) -> Any:
        """What a form carries from step to step."""
        engine = self.handle._engine
        numbers = copy.deepcopy(engine.passes.scalars())
        return numbers, self.handle.steps(0), {name: one.clone() for name, one in self.handle.state_dict().items()}

    def weights(self) -> list[torch.Tensor]:
        return [param.detach().clone() for param in self.model.parameters()]


def same(left: Any, right: Any) -> bool:
    """Whether two nests of numbers and tensors are equal to the bit."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (tuple, list)):
        return len(left) == len(right) and all(map(same, left, right))
    # As text, in which a bound that is not known yet, NaN, is the same.
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else repr(left) == repr(right)


@pytest.mark.parametrize("via", ["auto", "hook"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_an_update_to_the_same_plan_changes_no_bit(form: str, dtype: str, via: str) -> None:
    """Debts, duals, ratios, bounds, averages and counters go on as if nothing had been said."""
    decay = FORMS[form].replace(schedule=td.schedules.linear(1.0, 0.5, STEPS))
    never, updated = (Job(decay, DTYPES[dtype], via) for _ in range(2))
    never.train(range(STEPS))
    updated.train(range(AT))
    before = updated.kept()
    updated.handle.update(td.plan(updated.model, decay))
    assert same(before, updated.kept())
    updated.train(range(AT, STEPS))
    assert same(never.kept(), updated.kept())
    assert same(never.weights(), updated.weights())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_an_update_to_another_coefficient_keeps_what_was_seen(form: str, dtype: str) -> None:
    """Only what comes is pulled otherwise: what weights owe and controllers have seen is still so."""
    decay = FORMS[form]
    job = Job(decay, DTYPES[dtype], "auto")
    job.train(range(AT))
    numbers, steps, references = job.kept()
    job.handle.update(td.plan(job.model, decay.times(0.5)))
    numbers_after, steps_after, references_after = job.kept()
    assert steps == steps_after == AT
    assert same(references, references_after)
    for key in ("owed", "added", "units", "spans"):
        assert same(numbers[key], numbers_after[key])
    # Controllers are kept by what they are printed as, of which the coefficient is no part.
    assert same(numbers["controllers"], numbers_after["controllers"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("via", ["auto", "hook"])
def test_decay_is_switched_on_at_a_step_for_some_roles(dtype: str, via: str) -> None:
    """Said before as a schedule or then as an update: the norms decay from step 5 on, and are the same to the bit."""
    on = td.schedules.piecewise({0: 0, AT: 1})
    norms = td.role("norm")
    said = Job(td.decoupled(0.5), DTYPES[dtype], via, [td.rule(norms, td.decoupled(0.5, schedule=on)), *td.STANDARD])
    updated = Job(td.decoupled(0.5), DTYPES[dtype], via)
    without = Job(td.decoupled(0.5), DTYPES[dtype], via)
    for job in (said, updated, without):
        job.train(range(AT))
    assert same(said.weights(), updated.weights())
    assert same(said.weights(), without.weights())
    updated.handle.update(td.plan(updated.model, td.decoupled(0.5), rules=[td.rule(norms, td.DEFAULT), *td.STANDARD]))
    for job in (said, updated, without):
        job.train(range(AT, STEPS))
    assert same(said.weights(), updated.weights())
    assert not torch.equal(said.model[1].weight, without.model[1].weight)
