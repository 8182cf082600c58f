"""Stages of a pipeline, each a model and an optimizer of its own: of all is measured what is over all stages."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

import torchdecay as td
from meshes import FORMS, make_model
from ranks import in_ranks
from torchdecay.sharding import beside, whole

OVER_ALL = ("adaptive", "stable", "by_spectrum")
CUT = 2
"""Layers of the first stage: its weights are others, and of another number, than those of the second."""


def attached(model, decay, **options):
    optimizer = optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)
    td.attach(optimizer, td.plan(model, decay, rules=()), model=model, **options)
    return optimizer


def loss_of(outputs, targets):
    return (outputs - targets).square().mean()


def trained(model, decay, step_of, **options):
    optimizer = attached(model, decay, **options)
    for step in range(5):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)).double()
        optimizer.zero_grad()
        step_of(x, x.sum(dim=1, keepdim=True))
        optimizer.step()
    return [param.detach() for param in model.parameters()]


def _stages(rank):
    for form in OVER_ALL:
        alone = make_model()
        expected = trained(alone, FORMS[form], lambda x, y, model=alone: loss_of(model(x), y).backward())
        count = len(list(alone[:CUT].parameters()))
        mine = expected[:count] if rank == 0 else expected[count:]

        def distance(mine=mine, form=form, **options):
            stage = make_model()
            stage = stage[:CUT] if rank == 0 else stage[CUT:]
            schedule = ScheduleGPipe(PipelineStage(stage, rank, 2, torch.device("cpu")), 2, loss_fn=loss_of)

            def step_of(x, y):
                schedule.step(x) if rank == 0 else schedule.step(target=y)

            found = trained(stage, FORMS[form], step_of, **options)
            return max((one - other).abs().max().item() for one, other in zip(found, mine, strict=True))

        # Micro-batches and stages sum in another order, which Adam's division magnifies.
        assert distance(stages=dist.group.WORLD) < 1e-10, form
        far = torch.tensor(distance())
        dist.all_reduce(far, dist.ReduceOp.MAX)
        assert far > 1e-6, f"{form} measures the same on a stage as on all"


def test_stages_are_the_whole_model():
    """Real stages with micro-batches: the weights are those of one process; without the group they aren't."""
    in_ranks(_stages)


def _sharded_stages(rank):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "dp"))
    is_first = mesh["pp"].get_local_rank() == 0
    for form in OVER_ALL:
        found = []
        for stages in (None, mesh["pp"].get_group()):
            model = make_model()
            if stages is not None:
                # A slice keeps its layers' names.
                model = fully_shard(model[:CUT] if is_first else model[CUT:], mesh=mesh["dp"])
            optimizer = attached(model, FORMS[form], stages=stages)
            for step in range(4):
                for name, param in model.named_parameters():
                    generator = torch.Generator().manual_seed(100 * step + 10 * int(name[0]) + ("weight" in name))
                    param.grad = beside(torch.randn(param.shape, generator=generator).double(), param)
                optimizer.step()
            found.append({name: whole(param.detach()) for name, param in model.named_parameters()})
        for name, one in found[1].items():
            torch.testing.assert_close(one, found[0][name], rtol=1e-12, atol=1e-12)


def test_stages_whose_weights_are_cut():
    """Two stages of two processes each, on one mesh."""
    in_ranks(_sharded_stages, ranks=4)


def _unlike(rank):
    model = nn.Linear(3, 2)
    with pytest.raises(td.ApplyError, match=r"other forms that measure.*\n.*stage 1: none"):
        attached(model, td.decoupled(0.1) if rank else td.forms.adaptive(0.1), stages=dist.group.WORLD)
    dist.barrier()
    with pytest.raises(td.ApplyError, match="which is no group of processes"):
        attached(model, td.forms.adaptive(0.1), stages=[0, 1])
    # A group of processes is none in another job: a handle that is pickled goes without.
    handle = td.attach(optim.SGD(model.parameters(), lr=0.1), 0.1, model=model, stages=dist.group.WORLD)
    assert pickle.loads(pickle.dumps(handle)).plan == handle.plan


def test_stages_with_other_forms_are_refused():
    """One would wait for the other in its first step."""
    in_ranks(_unlike)
