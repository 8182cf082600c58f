"""A process ends at any moment: the other one ends too, with a sentence, and the last checkpoint is whole."""

from __future__ import annotations

import re

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import optim
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

import torchdecay as td
from meshes import fsdp2, make_model, plan_of, whole_weights
from ranks import end, in_ranks, without_one
from torchdecay.apply import ranks as own
from torchdecay.sharding import beside

DID_NOT_COME = r"{} was called by 1 of the 2 processes that have parts of these weights"
FIRST_ENDED = r"the other processes can't be asked any more: .*\n  The first of them.* has ended\."
NO_PARTS = r"could not be asked for their parts of a weight: .*\n  One of them has ended"


class Job:
    def __init__(self, decay=None):
        self.model = fsdp2(make_model())
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.1, weight_decay=0.0)
        plan = plan_of(self.model, decay or td.forms.constrained(kappa_initial=0.5))
        self.handle = td.attach(self.optimizer, plan, model=self.model)

    def train(self, steps):
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            for param in self.model.parameters():
                param.grad = beside(torch.randn(param.shape, generator=generator).double(), param)
            self.optimizer.step()
        return self

    def state(self):
        state = get_optimizer_state_dict(self.model, self.optimizer, options=StateDictOptions())
        return {"model": get_model_state_dict(self.model), "optimizer": state}

    def load(self, path):
        state = self.state()
        dcp.load(state, checkpoint_id=path)
        set_model_state_dict(self.model, state["model"])
        set_optimizer_state_dict(self.model, self.optimizer, state["optimizer"], options=StateDictOptions())
        return self

    def numbers(self):
        return self.handle.steps(0), self.handle.duals, whole_weights(self.model).tolist()


def _ends(rank, ending, where):
    own.PATIENCE = 3.0
    ends = rank == ending
    if where == "td.attach":
        torch.distributed.barrier()
        if ends:
            end()
    job = Job().train(range(2))
    torch.distributed.barrier()
    if ends:
        end()
    if where == "td.Monitor":
        td.Monitor(job.optimizer, model=job.model).__enter__()
    elif where == "td.verify":
        td.verify(job.optimizer)
    else:
        job.train(range(2, 4))


@pytest.mark.parametrize("ending", [0, 1])
@pytest.mark.parametrize("where", ["td.attach", "step", "td.Monitor", "td.verify"])
def test_who_is_left_ends_with_a_sentence(where, ending):
    """Whether the first has ended, by which the others find each other, or another."""
    kind, said = without_one(_ends, ending, where)
    assert kind == "ApplyError"
    expected = NO_PARTS if where == "step" else DID_NOT_COME.format(where) if ending else FIRST_ENDED
    # Of the first that has ended those who wait may hear in either way.
    assert re.search(expected, said) or (not ending and re.search(DID_NOT_COME.format(where), said)), said


def _ends_while_saving(rank, ending, at, folder):
    job = Job().train(range(3))
    dcp.save(job.state(), checkpoint_id=folder / "3")
    numbers = job.numbers()
    if rank != ending:
        torch.save(numbers, folder / "numbers.pt")
    job.train(range(3, 5))
    if rank == ending:
        setattr(FileSystemWriter, at, lambda *_, **__: end())
    dcp.save(job.state(), checkpoint_id=folder / "5")


def _goes_on(rank, folder):
    whole = [one.name for one in folder.iterdir() if (one / ".metadata").exists()]
    assert whole == ["3"]
    assert Job().load(folder / "3").numbers() == torch.load(folder / "numbers.pt")


@pytest.mark.parametrize(
    ("ending", "at"), [(0, "finish"), (1, "write_data"), (0, "write_data"), (1, "prepare_local_plan")]
)
def test_the_last_checkpoint_is_whole(ending, at, tmp_path):
    """A folder for each: that of the one that ended in the middle has no .metadata, and is told by it."""
    kind, _ = without_one(_ends_while_saving, ending, at, tmp_path)
    assert kind, "the other one has not noticed"
    in_ranks(_goes_on, tmp_path)


def _cut_off(rank, folder):
    job = Job().train(range(3))
    dcp.save(job.state(), checkpoint_id=folder / "whole")
    for name in ("__0_0.distcp", ".metadata"):
        if rank == 0:
            (folder / name).mkdir()
            for file in (folder / "whole").iterdir():
                content = file.read_bytes()
                (folder / name / file.name).write_bytes(content[: len(content) // 2] if file.name == name else content)
        torch.distributed.barrier()
        other = Job().train(range(1))
        state, before = other.state(), (other.handle.steps(0), other.handle.duals)
        with pytest.raises(dcp.api.CheckpointException):
            dcp.load(state, checkpoint_id=folder / name)
        # On both, and of what goes through our hands nothing has changed.
        assert (other.handle.steps(0), other.handle.duals) == before
        torch.distributed.barrier()
        # Into the same job a whole one can be loaded after it.
        assert other.load(folder / "whole").numbers() == job.numbers()
    for decay in (td.decoupled(0.1), td.forms.constrained(kappa_initial=0.7)):
        other = Job(decay).train(range(1))
        said = rf"(?s)another plan.*~ 0.weight: decay constrained\(kappa_initial=0.5\) -> {re.escape(repr(decay))}"
        before = other.handle.steps(0), other.handle.duals
        with pytest.raises(td.LoadError, match=said):
            other.load(folder / "whole")
        assert (other.handle.steps(0), other.handle.duals) == before


def test_checkpoints_that_are_cut_off_or_of_another_plan_are_refused(tmp_path):
    """On all processes; of another plan with the difference."""
    in_ranks(_cut_off, tmp_path)
