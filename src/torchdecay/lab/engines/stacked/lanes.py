"""Lanes: members that one optimizer steps, with its learning rate and its schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchdecay.lab.engines.stacked.members import NotStackable, StackedMember, settings_of
from torchdecay.lab.engines.stacked.tensors import Stack, rows_of
from torchdecay.lab.tasks.task import Task
from torchdecay.optimizers.cards import has_trait


@dataclass(eq=False)
class Lane:
    """Members side by side in the stack, whose optimizers differ in nothing, and whose decays in their strength only.

    The task's optimizer and scheduler work on this slice of every stacked parameter. For each group `steps` counts
    those that moved weights, as decay schedules do, and `peaks` keeps its peak learning rate by decay, once a step
    needed it.
    """

    members: slice
    optimizer: Optimizer
    scheduler: LRScheduler | None
    params: dict[str, Tensor]
    group_of: dict[str, int]
    steps: list[int]
    peaks: dict[tuple[int, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, stack: Stack, members: Sequence[StackedMember], place: slice) -> Lane:
        """A lane for members that stand at `place` in the stack."""
        first = members[0]
        params = {name: stack.params[name].detach()[place] for name in stack.names}
        # All are float tensors on one device, as a fused kernel wants them, unless the model says otherwise.
        plain = {(param.device, param.is_floating_point()) for param in params.values()}
        has_fused = has_trait(first.optimizer_type, "fused") and len(plain) == 1 and (*plain,)[0][1]
        fused = {"fused": True} if has_fused else {}
        groups = [
            {
                "params": [params[name] for name in group.names],
                "param_names": list(group.names),
                **group.options,
                "weight_decay": 0.0,
                **fused,
            }
            for group in first.groups
        ]
        optimizer = task.optimizer(groups)
        if (scale := first.trial.lr_scale) != 1.0:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * scale
        names = {id(param): name for name, param in params.items()}
        if settings_of(optimizer, names) != first.settings:
            raise NotStackable("the task's optimizer looks at more than the names of its parameters")
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0
        scheduler = None if task.scheduler is None else task.scheduler(optimizer)
        group_of = {
            names[id(param)]: index for index, group in enumerate(optimizer.param_groups) for param in group["params"]
        }
        return cls(place, optimizer, scheduler, params, group_of, [0] * len(optimizer.param_groups))

    def give(self, grads: Mapping[str, Tensor | None]) -> None:
        """Hand over this lane's part of the stack's gradients."""
        for name, param in self.params.items():
            grad = grads[name]
            if grad is None:
                param.grad = None
            elif param.grad is None or param.grad.data_ptr() != grad[self.members].data_ptr():
                param.grad = grad[self.members]

    def step(self) -> None:
        """The optimizer's update, then the scheduler's."""
        moved = [group["lr"] != 0 for group in self.optimizer.param_groups]
        self.optimizer.step()
        self.steps = [steps + bool(moves) for steps, moves in zip(self.steps, moved, strict=True)]
        if self.scheduler is not None:
            self.scheduler.step()

    def move(self, stack: Stack, picked: Sequence[int], place: slice) -> None:
        """Go on with some of the members, whose weights stand at `place` in the stack now."""
        for group in self.optimizer.param_groups:
            moved = []
            for old, name in zip(group["params"], group["param_names"], strict=True):
                new = stack.params[name].detach()[place]
                if old.grad is not None:
                    new.grad = rows_of(old.grad, picked)
                if (state := self.optimizer.state.pop(old, None)) is not None:
                    self.optimizer.state[new] = {key: _moved(value, picked, old) for key, value in state.items()}
                self.params[name] = new
                moved.append(new)
            group["params"] = moved
        self.members = place


def _moved(value: Any, picked: Sequence[int], old: Tensor) -> Any:
    # What is not of the parameter's shape, a step counter, is the same for all.
    return rows_of(value, picked) if isinstance(value, Tensor) and value.shape == old.shape else value


def order_of(members: Sequence[StackedMember], seeds: Sequence[int]) -> list[int]:
    """Members so that those of one lane stand together, and in it those of one seed."""
    structures = list(dict.fromkeys(member.structure for member in members))
    forms = list(dict.fromkeys(member.form for member in members))
    keys = [
        (structures.index(member.structure), forms.index(member.form), seed)
        for member, seed in zip(members, seeds, strict=True)
    ]
    return sorted(range(len(members)), key=keys.__getitem__)


def lanes_of(task: Task, stack: Stack, members: Sequence[StackedMember]) -> list[Lane]:
    """The lanes of members that stand in `order_of`."""
    kinds = [(member.structure, member.form) for member in members]
    starts = [i for i in range(len(members)) if i == 0 or kinds[i] != kinds[i - 1]]
    places = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(members)], strict=True)]
    return [Lane.of(task, stack, members[place], place) for place in places]


def state_bytes(task: Task, stack: Stack, member: StackedMember) -> int:
    """Bytes of optimizer state of one member, found by one step of a stack of one."""
    one = Stack(
        stack.model,
        {name: torch.zeros_like(param[:1]) for name, param in stack.params.items()},
        {},
        stack.names,
        stack.seed_of[:1],
    )
    lane = Lane.of(task, one, [member], slice(0, 1))
    lane.give({name: torch.zeros_like(one.params[name]) for name in one.names})
    lane.optimizer.step()
    tensors = [
        value for state in lane.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
    ]
    return sum(tensor.nbytes for tensor in tensors)
