"""Processes that do not do the same are told so, before a weight has moved, and nobody waits for ever."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import optim

import torchdecay as td
from meshes import ddp, fsdp2, make_model
from ranks import in_ranks
from torchdecay.apply import ranks as own

NORMS = td.forms.norm_control(0.1)


def attached(model, decay, **options):
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    return optimizer, td.attach(optimizer, td.plan(model, decay, rules=()), model=model, **options)


def stepped(model, optimizer):
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()


def message(call, *args, **options):
    """What the error says, "" where there is none."""
    try:
        call(*args, **options)
    except td.ApplyError as error:
        return str(error)
    return ""


def _other_plans(rank):
    said = ""
    for wrap in (ddp, fsdp2):
        model = wrap(make_model())
        optimizer = None
        try:
            optimizer, _ = attached(model, td.decoupled(0.1 + 0.1 * rank))
        except td.ApplyError as error:
            said = str(error)
        dist.barrier()
        if optimizer is not None:
            said = message(stepped, model, optimizer)
        assert "another plan than the others" in said
        assert "0.2" in said and "0.1" in said, "the difference is not told"
        assert "check_ranks=False" in said
        dist.barrier()
        stepped(model, attached(model, td.decoupled(0.1 + 0.1 * rank), check_ranks=False)[0])
        dist.barrier()
    # The same plan, twice in a row and updated: fine.
    for _ in range(2):
        optimizer, handle = attached(model, td.decoupled(0.1))
        handle.update(td.plan(model, td.decoupled(0.2), rules=()))
        stepped(model, optimizer)
        handle.remove()
        dist.barrier()


def _replicas_apart(rank):
    model = make_model()
    if rank == 1:
        with torch.no_grad():
            model[0].weight.mul_(2)
    # What measures nothing does not mind: DDP will make them alike.
    attached(model, td.decoupled(0.1))[1].remove()
    for decay in (NORMS, td.toward("initial", 0.1), td.forms.constrained(kappa_initial=0.5)):
        optimizer, said = None, ""
        try:
            optimizer, handle = attached(model, decay)
        except td.ApplyError as error:
            said = str(error)
        dist.barrier()
        if optimizer is not None:
            said = message(stepped, model, optimizer)
            handle.remove()
        assert "the weights of this process are not those of the others" in said, (decay, said)
    replicas = ddp(model)
    stepped(replicas, attached(replicas, NORMS)[0])


def _one_alone(rank):
    own.PATIENCE = 2.0
    # Cut weights: whoever measures would hang in a sum.
    model = fsdp2(make_model())
    if rank == 0:
        with pytest.raises(td.ApplyError, match="attach was called by 1 of the 2 processes"):
            attached(model, NORMS)
    dist.barrier()
    # Replicas: the one that has it hears of it before its first step.
    model = ddp(make_model())
    if rank == 0:
        optimizer, handle = attached(model, td.decoupled(0.1))
        assert "attached on 1 of 2 processes" in message(stepped, model, optimizer)
        handle.remove()
    dist.barrier()


def _all(rank):
    _other_plans(rank)
    _replicas_apart(rank)
    _one_alone(rank)


def test_ranks_that_do_other_things_are_told():
    """Other plans, with the difference; replicas that start apart, where the plan measures them; attach on one only."""
    in_ranks(_all)
