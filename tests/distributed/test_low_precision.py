"""Low-precision weights over processes: the bits of one process, whatever part of a weight is where."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import optim

import torchdecay as td
from meshes import HUBER, both, fsdp2, hsdp, make_model, plan_of, tensor_parallel
from ranks import in_ranks
from torchdecay.apply.rounding import drawn_at
from torchdecay.sharding import beside, cut_like, local, whole

ELEMENTWISE = {
    "decoupled": td.decoupled(0.05),
    "proximal": td.forms.proximal(0.05),
    "cautious": td.cautious(0.05),
    "l1": td.l1(0.05),
    "elastic_net": td.elastic_net(l1=0.05, l2=0.05),
    "huber": td.forms.huber(0.05, delta=0.1),
    "toward initial": td.toward("initial", 0.05),
    "spare_rows": td.decoupled(0.05, mask=td.spare_rows(0)),
}
BY_NORMS = {
    "constrained": td.forms.constrained(kappa_initial=0.9),
    "norm_control": td.forms.norm_control(0.05, ratio=0.9),
    "projection of rows": td.forms.projection(per="row"),
    "relative_update": td.forms.relative_update(),
    "spectral": td.forms.spectral(0.05),
}
MESHES = {"FSDP2": (2, fsdp2), "FSDP2 on 3": (3, fsdp2), "TP": (2, tensor_parallel), "TP + FSDP2": (4, both)}


def trained(decay, dtype, *, wrap=lambda model: model, steps=10):
    """Under gradients that are given, so that the weights differ by their decay alone; without those of the model."""
    model = wrap(make_model().to(dtype))
    optimizer = optim.AdamW(model.parameters(), lr=0.02, eps=1e-4, weight_decay=0.0)
    handle = td.attach(optimizer, plan_of(model, decay), model=model)
    owed = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for param in model.parameters():
            param.grad = beside(torch.randn(param.shape, generator=generator).to(dtype), param)
        optimizer.step()
        owed.append(handle.debts)
    return [whole(param.detach()) for param in model.parameters()], owed


def _same_bits(rank, wrap):
    for dtype in (torch.bfloat16, torch.float16) if wrap is tensor_parallel else (torch.bfloat16,):
        undecayed, _ = trained(td.decoupled(1e-9), dtype)
        for name, decay in ELEMENTWISE.items():
            (mine, debts), (alone, owed) = trained(decay, dtype, wrap=wrap), trained(decay, dtype)
            assert all(map(torch.equal, mine, alone)), (name, dtype)
            assert name in ("l1", "elastic_net") or debts == owed
            assert not torch.equal(alone[0], undecayed[0]), "nothing was paid"
        for decay in BY_NORMS.values():
            # Norms are summed in another order, by which an element may be rounded the other way.
            for one, other in zip(trained(decay, dtype, wrap=wrap)[0], trained(decay, dtype)[0], strict=True):
                torch.testing.assert_close(one, other, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("mesh", MESHES)
def test_shards_have_the_bits_of_one_process(mesh):
    """A payment draws by name, turn, weights and the place in the whole tensor: uneven and strided shards too."""
    ranks, wrap = MESHES[mesh]
    in_ranks(_same_bits, wrap, ranks=ranks)


def _penalties(rank, wrap):
    for dtype in (torch.float32, torch.bfloat16):
        for penalized in (td.penalized(0.1), td.penalized(0.1).replace(regularizer=HUBER)):
            found = []
            for model in (wrap(make_model().to(dtype)), make_model().to(dtype)):
                optimizer = optim.AdamW(model.parameters(), weight_decay=0.0)
                found.append(td.attach(optimizer, plan_of(model, penalized), model=model).penalty(model))
            mine = found[0].detach()
            every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
            dist.all_gather(every, mine)
            assert len({float(value) for value in every}) == 1, every
            # Summed in float32, in another order.
            torch.testing.assert_close(mine, found[1].detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("mesh", ["FSDP2 on 3", "TP + FSDP2"])
def test_a_penalty_is_the_same_number_on_every_rank(mesh):
    """That of one process, in half precision too."""
    ranks, wrap = MESHES[mesh]
    in_ranks(_penalties, wrap, ranks=ranks)


def _places_are_right(rank):
    for wrap in (fsdp2, hsdp, both):
        for param in wrap(make_model()).parameters():
            assert torch.equal(cut_like(param.full_tensor(), param), local(param)), (wrap, param.placements)


def test_a_part_knows_which_entries_it_has():
    """Against what torch itself gathers, on four processes with seven rows, and with one."""
    in_ranks(_places_are_right, ranks=4)


def test_draws_are_spread_evenly_and_go_by_the_place_alone():
    """Also beyond 2³¹ elements, and beyond 2³²."""
    at = torch.arange(1 << 16)
    for start in (0, 2**31 - 100, 2**32 - 100, 2**40):
        drawn = drawn_at(12345678901234, at + start)
        assert torch.equal(drawn[500:600], drawn_at(12345678901234, at[500:600] + start))
        assert drawn.min() >= 0 and drawn.max() < 1
        # Of 65,536 draws the mean is within 5 deviations, 5·0.289/256, and so is each tenth of them.
        assert abs(drawn.mean() - 0.5) < 0.0057
        assert (torch.histc(drawn, 10, 0, 1) - 6553.6).abs().max() < 5 * 76.8
        assert torch.corrcoef(torch.stack([drawn[1:], drawn[:-1]]))[0, 1].abs() < 0.02
    assert (drawn_at(1, at) - drawn_at(2, at)).abs().mean() > 0.3
