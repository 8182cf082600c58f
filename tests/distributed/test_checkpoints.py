"""Checkpoints between meshes: torch.distributed.checkpoint and `td.load_optimizer`, from any to any."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import optim
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

import torchdecay as td
from meshes import ONES, both, fsdp2, make_model, tensor_parallel, whole_weights
from ranks import in_ranks
from torchdecay.sharding import beside, whole

FORMS = {
    "constrained": (td.forms.constrained(kappa_initial=0.5), torch.float64),
    "adaptive": (td.forms.adaptive(0.1), torch.float64),
    "by_spectrum": (td.forms.by_spectrum(0.1, min_values=2, every_steps=10), torch.float64),
    "scheduled": (td.independent(0.1, schedule=td.schedules.inverse_time(10)), torch.float64),
    "toward initial": (td.toward("initial", 0.1), torch.float64),
    "toward tensors": (td.toward(ONES, 0.1), torch.float64),
    "debts": (td.decoupled(0.05), torch.bfloat16),
    "displacements": (td.l1(0.01), torch.bfloat16),
}


def alone(model):
    return model


TRIPS = {
    "2 to 2": ((2, fsdp2), (2, fsdp2)),
    "2 to 1": ((2, fsdp2), (1, alone)),
    "1 to 2": ((1, alone), (2, fsdp2)),
    "4 to 2": ((4, both), (2, fsdp2)),
}


class Job:
    def __init__(self, form, wrap):
        decay, self.dtype = FORMS[form]
        self.model = wrap(make_model().to(self.dtype))
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.02, eps=1e-4, weight_decay=0.0)
        self.handle = td.attach(self.optimizer, td.plan(self.model, decay, rules=()), model=self.model)

    def train(self, steps):
        """Under gradients that are given, which no mesh sums in an order of its own."""
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            for param in self.model.parameters():
                param.grad = beside(torch.randn(param.shape, generator=generator).to(self.dtype), param)
            self.optimizer.step()
        return self

    def state(self, options):
        references = {name: tensor.clone() for name, tensor in self.handle.state_dict().items()}
        optimizer = get_optimizer_state_dict(self.model, self.optimizer, options=options)
        return {"model": get_model_state_dict(self.model), "optimizer": optimizer, "references": references}

    def numbers(self):
        """What must be the same to the bit when it was loaded."""
        return self.handle.debts, self.handle.duals, [self.handle.steps(0), whole_weights(self.model)]


def _saved(rank, wrap, folder):
    for form in FORMS:
        for flat in (False, True):
            job, options = Job(form, wrap).train(range(3)), StateDictOptions(flatten_optimizer_state_dict=flat)
            dcp.save(job.state(options), checkpoint_id=folder / f"{form} {flat}")
            here, later = copy.deepcopy(job.numbers()), job.train(range(3, 6)).numbers()
            if rank == 0:
                torch.save((here, later), folder / f"{form} {flat}.pt")


def _loaded(rank, wrap, folder):
    for form in FORMS:
        for flat in (False, True):
            job, options = Job(form, wrap).train(range(1)), StateDictOptions(flatten_optimizer_state_dict=flat)
            state = job.state(options)
            dcp.load(state, checkpoint_id=folder / f"{form} {flat}")
            set_model_state_dict(job.model, state["model"])
            if state["references"]:
                with pytest.raises(td.LoadError, match="not those of the run that is resumed"):
                    set_optimizer_state_dict(job.model, job.optimizer, state["optimizer"], options=options)
                job.handle.load_state_dict(state["references"])
            set_optimizer_state_dict(job.model, job.optimizer, state["optimizer"], options=options)
            here, later = torch.load(folder / f"{form} {flat}.pt")
            _same(job.numbers(), here, exact=True)
            # Norms are summed in another order from here on.
            _same(job.train(range(3, 6)).numbers(), later, exact=form not in ("constrained", "adaptive"))


def _same(mine, expected, *, exact):
    (debts, duals, (steps, weights)), (owed, mu, (count, then)) = mine, expected
    assert steps == count
    if exact:
        assert debts == owed and duals == mu and torch.equal(weights, then)
    else:
        assert duals == pytest.approx(mu, rel=1e-12)
        torch.testing.assert_close(weights, then, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("trip", TRIPS)
def test_torchs_checkpoints_go_from_any_mesh_to_any(trip, tmp_path):
    """Counters, duals, debts and references, nested and flattened, are those that were saved, to the bit."""
    (before, first), (after, second) = TRIPS[trip]
    in_ranks(_saved, first, tmp_path, ranks=before)
    in_ranks(_loaded, second, tmp_path, ranks=after)


def _by_name(rank):
    for form in ("constrained", "debts"):
        for first, second in ((alone, fsdp2), (fsdp2, alone), (fsdp2, tensor_parallel)):
            job = Job(form, first).train(range(3))
            saved = copy.deepcopy(job.optimizer.state_dict())
            weights = [whole(param.detach()).clone() for param in job.model.parameters()]
            other = Job(form, second).train(range(1))
            with torch.no_grad():
                for param, value in zip(other.model.parameters(), weights, strict=True):
                    param.copy_(beside(value, param))
            td.load_optimizer(other.optimizer, saved, model=other.model)
            _same(other.numbers(), job.numbers(), exact=True)
            _same(other.train(range(3, 6)).numbers(), job.train(range(3, 6)).numbers(), exact=form == "debts")


def test_load_optimizer_goes_between_whole_and_cut_state():
    """Each process takes its part of whole moments, or all of moments that were cut, or cut otherwise."""
    in_ranks(_by_name)


def _references_from_one_mesh_to_another(rank):
    jobs = {wrap: Job("toward initial", wrap).train(range(2)) for wrap in (alone, fsdp2)}
    for wrap, job in jobs.items():
        state = {name: tensor.clone() + 1 for name, tensor in job.handle.state_dict().items()}
        expected = [whole(tensor) for tensor in state.values()]
        for other in jobs.values():
            before = other.handle.state_dict().items()
            other.handle.load_state_dict(
                {name: beside(torch.zeros(one.shape, dtype=one.dtype), one) for name, one in before}
            )
            other.handle.load_state_dict(state)
            found = [whole(tensor) for tensor in other.handle.state_dict().values()]
            assert all(map(torch.equal, found, expected)), wrap


def test_a_handle_takes_whole_references_into_shards_and_those_of_shards_into_whole_ones():
    in_ranks(_references_from_one_mesh_to_another)
