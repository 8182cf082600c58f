"""`attach` under FSDP2 and DDP, on two processes: forms of each kind give what they give on one.

All of them, on every mesh, are in tests/distributed.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn, optim
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

import torchdecay as td
from plans.examples import everywhere
from ranks import in_ranks
from torchdecay import sharding
from torchdecay.apply import bindings
from torchdecay.sharding import beside, whole

ONES = {"0.weight": torch.ones(7, 5).double(), "0.bias": torch.ones(7).double()}  # none for the second layer
FORMS = {
    "l1": td.l1(0.01),
    "masked coupled, toward tensors": td.coupled(0.1, mask=td.spare_rows(0)).replace(
        reference=td.toward(ONES, 0.1).reference
    ),
    "penalized toward tensors, masked": td.penalized(0.1, mask=td.spare_rows(0)).replace(
        reference=td.toward(ONES, 0.1).reference
    ),
    "cautious": td.cautious(0.1),
    "toward initial": td.toward("initial", 0.1),
    "stable": td.forms.stable(0.1),
    "adaptive": td.forms.adaptive(0.1),
    "constrained": td.forms.constrained(kappa_initial=0.5),
    "norm_control": td.forms.norm_control(0.1, ratio=0.5),
    "toward_average": td.forms.toward_average(0.1, beta=0.5),
    "spectral": td.forms.spectral(0.1),
    "constrained std": td.forms.constrained(kappa_initial=0.5, measure="std"),
    "group_lasso": td.forms.group_lasso(0.1),
    "group_lasso by columns": td.forms.group_lasso(0.1, per="column"),
    "p_norm": td.forms.p_norm(0.1, p=1),
    "hyperball": td.forms.hyperball(),
    "hyperball by rows": td.forms.hyperball("current", per="row"),
    "relative_update": td.forms.relative_update(),
    "radial_brake by rows": td.forms.radial_brake(per="row").replace(coefficient=0.5),
    "norm_control by rows": td.forms.norm_control(0.1, ratio=0.5, per="row"),
    "projection by columns": td.forms.projection(per="column"),
}


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)).double()


class Job:
    def __init__(self, decay, *, wrap=None):
        self.model = make_model()
        if wrap:
            self.model = wrap(self.model)
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.1, weight_decay=0.0)
        self.handle = td.attach(
            self.optimizer, td.plan(self.model, decay, rules=everywhere(decay)), model=self.model, via="hook"
        )

    def train(self, steps):
        # Every rank sees the same rows, so that the mean of the gradients is that of one process.
        for step in steps:
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)).double()
            self.optimizer.zero_grad()
            (self.model(x).square().mean() + self.handle.penalty(self.model)).backward()
            self.optimizer.step()
        return self

    def weights(self):
        whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in self.model.parameters()]
        return torch.cat([p.detach().flatten() for p in whole])


def _apart(decay, wrap):
    return (Job(decay, wrap=wrap).train(range(4)).weights() - Job(decay).train(range(4)).weights()).abs().max().item()


def _forms_agree(rank):
    for name, decay in FORMS.items():
        # Sums over ranks round in another order; Adam's division magnifies that where a gradient is tiny.
        assert _apart(decay, fully_shard) < 1e-10, f"{name} under FSDP2"
        assert _apart(decay, DistributedDataParallel) < 1e-10, f"{name} under DDP"


def _resume_agrees(rank):
    for name in (
        "toward initial",
        "constrained",
        "norm_control",
        "adaptive",
        "toward_average",
        "projection by columns",
    ):
        expected = Job(FORMS[name], wrap=fully_shard).train(range(6)).weights()
        job = Job(FORMS[name], wrap=fully_shard).train(range(3))
        saved = copy.deepcopy([part.state_dict() for part in (job.model, job.handle, job.optimizer)])
        fresh = Job(FORMS[name], wrap=fully_shard).train(range(1))
        for part, state in zip((fresh.model, fresh.handle, fresh.optimizer), saved, strict=True):
            part.load_state_dict(state)
        assert torch.equal(fresh.train(range(3, 6)).weights(), expected), name


def _a_part_read_as_the_whole_is_seen(rank):
    whole = sharding.all_over_ranks
    sharding.all_over_ranks = lambda parts, of, how="sum": parts
    try:
        assert _apart(FORMS["adaptive"], fully_shard) > 1e-6
    finally:
        sharding.all_over_ranks = whole
    assert _apart(FORMS["adaptive"], fully_shard) < 1e-10


REDUCTIONS = {"decoupled": 0, "l1": 0, "cautious": 0, "stable": 1, "adaptive": 1, "constrained": 1, "norm_control": 1}
REDUCTIONS |= {
    "hyperball": 1,
    "relative_update": 1,
    "constrained l1": 1,
    "projected": 2,
    "ada_decay": 2,
    "toward initial": 0,
}
MORE = {
    "decoupled": td.decoupled(0.1),
    "constrained l1": td.forms.constrained(kappa_initial=0.5, measure="l1"),
    "projected": td.forms.projected("initial", 0.1),
    "ada_decay": td.forms.ada_decay(0.1),
}


def _reductions_are_counted(rank):
    """Of two layers and of six: what a step asks of the other ranks does not grow with the tensors."""
    for name, expected in REDUCTIONS.items():
        for layers in (2, 6):
            torch.manual_seed(0)
            model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers))).double()
            model = fully_shard(model)
            decay = (FORMS | MORE)[name]
            optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            if name == "stable":
                optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
            td.attach(optimizer, td.plan(model, decay, rules=everywhere(decay)), model=model, via="hook")
            model(torch.ones(2, 4).double()).square().mean().backward()
            optimizer.step()
            with CommDebugMode() as counted:
                optimizer.step()
            assert counted.get_total_counts() == expected, (name, layers, dict(counted.get_comm_counts()))
            # Norms of 0, which may be of squares that are 0: the largest elements are asked for, of all at once.
            for param in model.parameters():
                param.grad.zero_()
                torch.nn.init.zeros_(param)
            with CommDebugMode() as counted:
                optimizer.step()
            most = expected and 4 * expected
            assert counted.get_total_counts() <= most, (name, layers, dict(counted.get_comm_counts()))


@pytest.mark.distributed
def test_norms_of_all_tensors_are_added_up_in_one_reduction():
    """One for each step, however many tensors; two where weights are measured before the update and after it."""
    in_ranks(_reductions_are_counted)


def _only_its_part_is_kept_of_a_file(rank, path):
    model = fully_shard(make_model())
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    seen, read = [], bindings.read_tensors
    bindings.read_tensors = lambda *args, **options: seen.append(options["mapped"]) or read(*args, **options)
    try:
        plan = td.plan(model, td.toward(str(path), 0.1), rules=())
        handle = td.attach(optimizer, plan, model=model)
    finally:
        bindings.read_tensors = read
    assert seen == [True], "all of the file is read"
    for name, param in model.named_parameters():
        held = handle.reference(name)
        assert torch.equal(held.full_tensor(), torch.load(path)[name])
        assert held.to_local().untyped_storage().nbytes() == param.to_local().nbytes


def test_of_a_file_of_references_each_rank_keeps_its_part(tmp_path):
    """Mapped into memory, so that only the pages of that part are read; whole weights hold no file open."""
    path = tmp_path / "began.pt"
    torch.manual_seed(3)
    torch.save({name: torch.randn_like(param) for name, param in make_model().named_parameters()}, path)
    in_ranks(_only_its_part_is_kept_of_a_file, path)


def test_forms_of_each_kind_on_two_ranks_are_those_on_one():
    """Norms, masks, references and penalties are those of whole weights, whatever part is here."""
    in_ranks(_forms_agree)


@pytest.mark.distributed
def test_a_sharded_run_is_resumed_bit_for_bit():
    """References are shards, and the numbers of controllers are the same on every rank."""
    in_ranks(_resume_agrees)


@pytest.mark.distributed
def test_a_ranks_part_of_a_norm_is_not_taken_for_the_norm():
    """The seeded fault: `float` of a sharded norm reads what this rank has."""
    in_ranks(_a_part_read_as_the_whole_is_seen)


def _another_plan_is_told(rank):
    job, said = None, ""
    try:
        job = Job(td.decoupled(0.1 + rank), wrap=DistributedDataParallel)
    except td.ApplyError as error:
        said = str(error)
    torch.distributed.barrier()
    if job is not None:
        # No backward pass: in that it would wait for the one that is gone.
        for param in job.model.parameters():
            param.grad = torch.zeros_like(param)
        try:
            job.optimizer.step()
        except td.ApplyError as error:
            said = str(error)
    assert "another plan than the others" in said


@pytest.mark.distributed
def test_a_rank_with_another_plan_is_told_of_and_tells():
    """The one that comes second at attach, the other before its first step moves a weight."""
    in_ranks(_another_plan_is_told)


def _bits_agree(rank):
    found = []
    for wrap in (fully_shard, lambda model: model):
        model = wrap(make_model().bfloat16())
        optimizer = optim.AdamW(model.parameters(), lr=0.02, eps=1e-4, weight_decay=0.0)
        handle = td.attach(optimizer, td.plan(model, td.decoupled(0.05), rules=()), model=model)
        for step in range(6):
            generator = torch.Generator().manual_seed(step)
            for param in model.parameters():
                param.grad = beside(torch.randn(param.shape, generator=generator).bfloat16(), param)
            optimizer.step()
        found.append(([whole(param.detach()) for param in model.parameters()], handle.debts))
    (sharded, debts), (alone, owed) = found
    assert all(map(torch.equal, sharded, alone)) and debts == owed and any(debts.values())


@pytest.mark.distributed
def test_low_precision_shards_have_the_bits_of_one_process():
    """What is owed is paid with draws that go by the place in the whole tensor; uneven shards too."""
    in_ranks(_bits_agree)


def _zeros_are_those_of_the_whole(rank):
    form = td.forms.p_norm(0.3, p=1.5)
    for rows, zero in ((1, 0), (4, 2), (4, 4)):
        model = nn.Linear(3, rows, bias=False).double()
        model.weight.data.fill_(1.0)[rows - zero :] = 0.0
        fully_shard(model)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        if zero < rows:
            td.attach(optimizer, td.plan(model, form), model=model)
            continue
        with pytest.raises(td.ApplyError, match="all zeros"):
            td.attach(optimizer, td.plan(model, form), model=model)


@pytest.mark.distributed
def test_a_weight_is_all_zeros_on_every_rank_or_on_none():
    """A rank that has no part of it, or zeros alone, would refuse by itself, and the others wait."""
    in_ranks(_zeros_are_those_of_the_whole)
