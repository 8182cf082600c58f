"""What a plan costs grows with the number of tensors and no faster, and what a checkpoint keeps of it does not grow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.apply.lowering import lower
from torchdecay.apply.routes import Place
from torchdecay.plans.decay import Decay

DECAYS = {
    "native": td.native(0.1),
    "decoupled": td.decoupled(0.1),
    "l1": td.l1(0.1),
    "toward": td.toward("initial", 0.1),
}


class Read(list[Any]):
    """A group's parameters, that count how many were read."""

    count = 0

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            Read.count += 1
            yield one

    def __getitem__(self, index: Any) -> Any:
        Read.count += 1
        return super().__getitem__(index)


def job(tensors: int, decay: Decay, cls: Any = optim.SGD) -> tuple[nn.Module, optim.Optimizer, td.Plan]:
    model = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(tensors))
    plan = td.plan(model, decay)
    optimizer = cls(plan.param_groups(model), lr=0.01)
    for group in optimizer.param_groups:
        group["params"] = Read(group["params"])
    return model, optimizer, plan


@pytest.mark.parametrize("decay", DECAYS)
def test_each_tensor_is_read_a_fixed_number_of_times(decay: str) -> None:
    """Attach, update, a state dict and a load ask of a group once what is true of the group: the work is linear."""
    counts = []
    for tensors in (100, 200):
        model, optimizer, plan = job(tensors, DECAYS[decay])
        read = {}

        def counted(what: str, work: Any, read: dict[str, int] = read) -> Any:
            Read.count = 0
            made = work()
            read[what] = Read.count
            return made

        counted("lower", lambda plan=plan, optimizer=optimizer, model=model: lower(plan, optimizer, model=model))
        handle = counted(
            "attach", lambda plan=plan, optimizer=optimizer, model=model: td.attach(optimizer, plan, model=model)
        )
        counted("update", lambda handle=handle, model=model: handle.update(td.plan(model, DECAYS[decay].times(0.5))))
        state = counted("state_dict", optimizer.state_dict)
        counted("load_state_dict", lambda optimizer=optimizer, state=state: optimizer.load_state_dict(state))
        counts.append((tensors, read))
    (few, first), (many, second) = counts
    for what, reads in second.items():
        assert reads - first[what] <= 12 * (many - few), what
        assert reads <= 13 * many + 20, what


def test_a_scan_of_the_group_for_each_tensor_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded fault: whether any weight is of low precision, asked anew for each parameter, as it once was."""

    def anew(self: Place) -> bool:
        return any(param.dtype == torch.bfloat16 for param in self.group["params"])

    monkeypatch.setattr(Place, "has_low", property(anew))
    kept = Place.terms
    monkeypatch.setattr(Place, "terms", lambda self, param, way: (self.has_low, kept(self, param, way))[1])
    with pytest.raises(AssertionError, match="lower"):
        test_each_tensor_is_read_a_fixed_number_of_times("decoupled")


@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW])
def test_what_a_checkpoint_keeps_of_a_plan_does_not_grow_with_it(cls: Any) -> None:
    """Rows point into torch's own param_names by place: two kilobytes, of 40 tensors or of 1,000."""
    sizes = []
    for tensors in (40, 1_000):
        _, optimizer, plan = job(tensors, td.decoupled(0.1), cls)
        td.attach(optimizer, plan)
        state = optimizer.state_dict()
        marks = [group.get("torchdecay", "") for group in state["param_groups"]]
        sizes.append(len(json.dumps([state["torchdecay"], marks])))
    assert sizes[1] <= sizes[0] + 20 < 4_000


def test_two_optimizers_of_one_plan_keep_their_own_rows() -> None:
    """A checkpoint of one side has nothing of the other."""
    model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    split = td.split(model, td.decoupled(0.1), others=td.decoupled(0.01))
    states = []
    for groups in (split.matrices, split.others):
        optimizer = optim.SGD(groups, lr=0.1)
        td.attach(optimizer, split.plan)
        states.append(json.dumps(optimizer.state_dict()["torchdecay"]["plan"]))
    assert "0.01" not in states[0] and "0.01" in states[1]


def test_one_decay_in_many_rows_is_read_back_once() -> None:
    """A plan from a file shares what the file says again and again, and equals the one that was written."""
    model = nn.ModuleList(nn.Linear(2, 2) for _ in range(20))
    plan = td.plan(model, td.decoupled(0.1), rules=[td.rule("3.weight", td.l1(0.2), lr=0.1), *td.STANDARD])
    back = td.Plan.from_json(plan.to_json())
    assert back == plan and not back.diff(plan)
    assert len({id(row.decay) for row in back.rows if row.decay is not None}) == 2
