"""`Monitor` under FSDP2 and DDP, on two processes: it records what it records on one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

import torchdecay as td
from ranks import in_ranks
from torchdecay.observe.monitor import reading

CASES = {
    "native": (lambda m: optim.AdamW(m.parameters(), lr=0.1, weight_decay=0.1), None),
    "hooked": (lambda m: optim.SGD(m.parameters(), lr=0.1, momentum=0.9), td.decoupled(0.1)),
    "cautious": (lambda m: optim.AdamW(m.parameters(), lr=0.1), td.cautious(0.1)),
    "l1": (lambda m: optim.SGD(m.parameters(), lr=0.1), td.l1(0.5)),
    "constrained": (lambda m: optim.AdamW(m.parameters(), lr=0.1), td.forms.constrained(kappa_initial=0.5)),
}


def history_of(name, *, wrap=None, path=None):
    make, decay = CASES[name]
    torch.manual_seed(0)
    # Seven rows on two ranks: parts of different sizes.
    model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Tanh(), nn.Linear(7, 3)).double()
    if wrap:
        model = wrap(model)
    optimizer = make(model)
    if decay is not None:
        td.attach(optimizer, td.plan(model, decay), model=model, via="hook")
    with td.Monitor(optimizer, every_steps=2, model=model, path=path) as monitor:
        for step in range(5):
            # Every rank sees the same rows, so that the mean of the gradients is that of one process.
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)).double()
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    return monitor.history


def same(one, other):
    # Whether parts moved between the steps is measured, and not asked first: nothing did.
    assert {*one.quantities} - {"between_shrink"} == {*other.quantities} - {"between_shrink"}
    assert one.groups == other.groups and one.steps == other.steps
    if "between_shrink" in one.quantities:
        assert not any(shrink for group in one.groups for shrink in one.curve(group, "between_shrink")[1])
    assert [event.kind for event in one.events] == [event.kind for event in other.events]
    for group in one.groups:
        for name in other.quantities:
            # Sums over ranks round in another order.
            assert one.curve(group, name)[1] == pytest.approx(other.curve(group, name)[1], rel=1e-5, abs=1e-9), name


def _agree(rank, folder):
    for name in CASES:
        expected = history_of(name)
        for wrap in (fully_shard, DistributedDataParallel):
            path = folder / f"{name}-{wrap.__name__}.jsonl"
            found = history_of(name, wrap=wrap, path=path)
            same(found, expected)
            dist.barrier()
            assert td.History.load(path) == found or rank > 0
    if rank == 1:
        # One of them writes: what stands there has each step once.
        assert td.History.load(folder / "native-fully_shard.jsonl").steps == (1, 2, 4)


def _a_part_read_as_the_whole_is_seen(rank):
    expected = history_of("native")
    summed = reading.over_ranks
    reading.over_ranks = lambda rows, params: [row.tolist() for row in rows]
    try:
        with pytest.raises(AssertionError):
            same(history_of("native", wrap=fully_shard), expected)
    finally:
        reading.over_ranks = summed


def _parts_of_fsdp1_are_summed(rank):
    expected = history_of("native")
    wrap = partial(FullyShardedDataParallel, use_orig_params=True, device_id=torch.device("cpu"))
    found = history_of("native", wrap=wrap)
    for group in expected.groups:
        for name in ("weight_norm", "gradient_norm", "realized_shrink"):
            assert found.curve(group, name)[1] == pytest.approx(expected.curve(group, name)[1], rel=1e-5), name


def _all(rank, folder):
    _agree(rank, folder)
    _parts_of_fsdp1_are_summed(rank)
    _a_part_read_as_the_whole_is_seen(rank)


def test_what_is_recorded_on_two_ranks_is_what_is_recorded_on_one(tmp_path):
    """Sums go over the parts of a sharded weight, and over no copy of a replicated one; one rank writes the file.

    Then the seeded fault, in the same processes because starting them takes longest: rows that are not added up.
    """
    in_ranks(_all, tmp_path)
