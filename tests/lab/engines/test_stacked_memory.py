"""The estimate of a stack's memory against what a process really takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torchdecay.lab.engines.stacked import engine as stacked
from torchdecay.lab.engines.stacked.memory import MemoryEstimate, available_bytes, estimate
from torchdecay.lab.engines.stacked.prepare import prepare
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.trial import Assignment, Trial


def data(seed: int) -> Data:
    x, y = torch.randn(256, 100, generator=torch.Generator().manual_seed(seed)), torch.arange(256) % 10
    return Data(train=(x[:192], y[:192]), test=(x[192:], y[192:]))


def wide_weights() -> nn.Module:
    """Weights are nearly all; a chain of linear layers."""
    return nn.Sequential(nn.Linear(100, 1000), nn.ReLU(), nn.Linear(1000, 700), nn.ReLU(), nn.Linear(700, 10))


def wide_activations() -> nn.Module:
    """Activations are nearly all; under vmap."""
    layers = [one for _ in range(12) for one in (nn.LayerNorm(100), nn.GELU(), nn.Linear(100, 100))]
    return nn.Sequential(*layers, nn.Linear(100, 10))


def most_held(work: Callable[[], object]) -> int:
    """The most bytes of tensors that were alive at the same time while this ran, by torch's own count.

    Not what the process took: what an allocator keeps of freed memory depends on all that went before.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@pytest.mark.long
@pytest.mark.parametrize(("model", "members"), [(wide_weights, 6), (wide_activations, 24)])
def test_the_estimate_is_within_half_of_what_is_taken(model, members):
    """Weights, gradients, moments and activations, for both ways of computing."""
    task = Task(name="memory", data=data, model=model, loss=F.cross_entropy, num_steps=2, batch_size=192, eval_every=1)
    trials = [
        Trial(contender=as_contender(f"decoupled:{index / 100}"), seed=index % 2, value=index / 100)
        for index in range(members)
    ]
    expected = estimate(task, prepare(task, trials)).total(members)
    taken = most_held(lambda: stacked.run(Assignment(task=task, trials=trials, on_run=lambda *_: None)))
    assert expected > 50 << 20
    assert expected / 1.5 < taken < expected * 1.5, f"{taken / 2**20:.0f} MB taken of {expected / 2**20:.0f} expected"


def test_how_many_fit_is_what_the_total_says():
    """One more would be above what may be taken."""
    for at_once, available in ((4, 10_000), (10**6, 10_000), (4, 300)):
        one = MemoryEstimate(100, 50, at_once, available)
        assert one.total(one.most) <= 0.7 * one.available < one.total(one.most + 1)


def test_this_machine_says_what_is_free():
    """A number between a megabyte and a petabyte."""
    assert 1 << 20 < available_bytes(torch.device("cpu")) < 1 << 50
