"""What comes before what: an optimizer from before the sharding, weights that get their values after the plan."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim
from torch.distributed.fsdp import fully_shard

import torchdecay as td
from meshes import FORMS, fsdp2, make_model, plan_of, tensor_parallel
from ranks import in_ranks
from torchdecay.sharding import local

GONE = r"{} parameters of the optimizer are in no model any more; the first is of shape"


def _optimizer_before_sharding(rank):
    x = torch.ones(2, 5).double()
    # Tensor parallel replaces two layers of three.
    for wrap, gone in ((fsdp2, 6), (tensor_parallel, 4)):
        model = make_model()
        optimizer = optim.AdamW(td.param_groups(model, 0.1), lr=0.1)
        plan = td.plan(model, td.decoupled(0.1))
        earlier = optim.AdamW(td.param_groups(model, 0.1), lr=0.1)
        td.attach(earlier, plan, model=model)
        model = wrap(model)
        with pytest.raises(td.ApplyError, match=GONE.format(gone)):
            td.attach(optimizer, plan)
        for options in ({}, {"model": model}):
            with pytest.raises(td.ApplyError, match=GONE.format(gone)):
                td.verify(optimizer, **options)
        with td.Monitor(optimizer, every_steps=1) as monitor:
            model(x).sum().backward()
            optimizer.step()
        (event,) = monitor.history.events
        assert event.kind == "no gradients"
        assert ("none of the weights" if gone == 6 else f"{gone} weights of the AdamW are in no model") in event.what
        # A plan that was attached before it: at its first step.
        with pytest.raises(td.ApplyError, match=GONE.format(gone)):
            earlier.step()
        # Beside one that was built anew the old one goes on, and is told so all the same.
        anew = optim.AdamW(td.param_groups(model, 0.1), lr=0.1)
        for one in (optimizer, earlier):
            one.zero_grad()
        with td.Monitor(optimizer, every_steps=1) as monitor:
            model(x).sum().backward()
            optimizer.step()
        assert [event.kind for event in monitor.history.events] == ["no gradients"]
        with pytest.raises(td.ApplyError, match=GONE.format(gone)):
            earlier.step()
        anew.step()
        # As it should be.
        optimizer = optim.AdamW(td.param_groups(model, 0.1), lr=0.1)
        td.attach(optimizer, plan)
        assert td.verify(optimizer).ok
        optimizer.step()


def test_an_optimizer_from_before_the_sharding_is_refused():
    """By attach, also without the model, by verify, by the monitor, and by the first step of a plan that was there."""
    in_ranks(_optimizer_before_sharding)


def _values_after_the_plan(rank):
    for form in ("norm_control", "toward initial", "toward_average", "constrained", "hyperball", "decoupled"):
        for attach_after in (False, True):
            with torch.device("meta"):
                model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 8)).double()
            fully_shard(model)
            optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
            plan = plan_of(model, FORMS[form])
            if form != "decoupled":
                with pytest.raises(td.ApplyError, match="on the meta device: there is nothing yet"):
                    td.attach(optimizer, plan, model=model)
            model.to_empty(device="cpu")
            for param in model.parameters():
                # What is in that memory: zeros may be, by chance, which some forms refuse. It counts as no writing.
                local(param).data.fill_(3.0)
            if not attach_after:
                td.attach(optimizer, plan, model=model)
            torch.manual_seed(0)
            for layer in model[::2]:
                layer.reset_parameters()
            if attach_after:
                td.attach(optimizer, plan, model=model)
            model(torch.ones(2, 5).double()).sum().backward()
            if attach_after or form == "decoupled":
                optimizer.step()
                continue
            # One that moves nothing, as torch takes it to make the state that a checkpoint is loaded into.
            optimizer.param_groups[0]["lr"] = 0.0
            optimizer.step()
            optimizer.param_groups[0]["lr"] = 0.1
            with pytest.raises(td.ApplyError, match="had no values, or others, when the plan measured them"):
                optimizer.step()


def test_weights_that_get_their_values_after_the_plan_measured_them_are_refused():
    """On meta at attach, after `to_empty` at the first step: norms and references would be of whatever was there."""
    in_ranks(_values_after_the_plan)
