"""`penalty` under DistributedDataParallel and with sharded parameters, on two processes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import torchdecay as td
from ranks import RANKS, in_ranks

L1, L2 = 0.25, 0.5


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)).double()


def make_data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 5, generator=generator).double(), torch.randn(8, 2, generator=generator).double()


def loss_of(model, rows, penalty=td.penalty):
    x, y = make_data()
    return nn.functional.mse_loss(model(x[rows]), y[rows]) + penalty(model, l1=L1, l2=L2)


def cut_off(model, **coefficients):
    """The seeded fault: the value is added to the loss, and no gradient comes back."""
    return td.penalty(model, **coefficients).detach()


def _ddp(rank):
    rows = slice(4 * rank, 4 * rank + 4)
    alone = make_model()
    loss_of(alone, slice(None)).backward()
    expected = [p.grad for p in alone.parameters()]

    for given in (lambda wrapped: wrapped, lambda wrapped: wrapped.module):
        wrapped = DistributedDataParallel(make_model())
        for _ in range(2):  # the second step finds gradients zeroed, not missing
            wrapped.zero_grad(set_to_none=False)
            loss_of(wrapped, rows, lambda model, given=given, **c: td.penalty(given(model), **c)).backward()
            for p, g in zip(wrapped.parameters(), expected, strict=True):
                # The mean over ranks of the means over four rows, summed in another order.
                torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-14)

    faulty = DistributedDataParallel(make_model())
    loss_of(faulty, rows, cut_off).backward()
    assert not any(torch.allclose(p.grad, g) for p, g in zip(faulty.parameters(), expected, strict=True))


def _sharded(rank):
    whole = make_model()
    value = td.penalty(whole, l1=L1, l2=L2)
    value.backward()

    mesh = init_device_mesh("cpu", (RANKS,))
    placements = [Shard(0), Replicate(), Shard(1), Replicate()]
    sharded = [
        nn.Parameter(distribute_tensor(p.detach(), mesh, [placement]))
        for p, placement in zip(whole.parameters(), placements, strict=True)
    ]
    of_sharded = td.penalty(sharded, l1=L1, l2=L2)
    of_sharded.backward()
    torch.testing.assert_close(of_sharded, value, rtol=1e-14, atol=0)
    for p, q in zip(sharded, whole.parameters(), strict=True):
        assert isinstance(p.grad, DTensor)
        assert p.grad.placements == p.placements
        assert torch.equal(p.grad.full_tensor(), q.grad)

    # Beside an ordinary tensor, and differentiated twice.
    mixed = [sharded[0], torch.ones(3, dtype=torch.float64, requires_grad=True)]
    first = torch.autograd.grad(td.penalty(mixed, l2=L2), mixed, create_graph=True)
    (second,) = torch.autograd.grad(first[0].sum(), mixed[0])
    assert torch.equal(second.full_tensor(), torch.full_like(whole[0].weight, 2 * L2))

    fsdp = fully_shard(make_model())
    loss_of(fsdp, slice(None)).backward()
    alone = make_model()
    loss_of(alone, slice(None)).backward()
    for p, q in zip(fsdp.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(p.grad.full_tensor(), q.grad, rtol=1e-12, atol=1e-14)


def _both(rank):
    _ddp(rank)
    _sharded(rank)


@pytest.mark.timeout(120)
def test_ranks_get_the_gradients_of_one_process():
    """DDP: the penalty's gradient goes through the reducer like any other, and equals one process on all rows.

    DTensors of any placement, and FSDP2: every rank sees the value of the whole and its own shard's gradient. One test,
    because starting two processes takes longer than both.
    """
    in_ranks(_both)
