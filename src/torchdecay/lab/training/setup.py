"""`Setup`: a model and an optimizer that are ready to train, with the decay attached."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.attach import attach
from torchdecay.apply.handle import Handle
from torchdecay.errors import TaskError, UnknownRoleWarning
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import ByHand, Contender
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan as make_plan
from torchdecay.plans.tree import parameters_by_name


@dataclass(frozen=True)
class Setup:
    """A model and an optimizer that are ready to train, with the decay attached; as a context, detached at its end.

    Setting up changes no weight, so one model serves many setups. The handle is None where the loop itself decays the
    weights of `by_hand`, each that hard.
    """

    model: nn.Module
    optimizer: Optimizer
    plan: Plan
    handle: Handle | None
    by_hand: tuple[tuple[Tensor, float], ...] = ()

    @classmethod
    def make(cls, task: Task, model: nn.Module, contender: Contender, *, lr_scale: float = 1.0) -> Setup:
        """Set a model of the task up for one contender."""
        what = contender.what
        plan = what if isinstance(what, Plan) else quiet_plan(model, contender.decay, task.rules)
        bare = replace(plan, rows=tuple(replace(row, decay=None) for row in plan.rows))
        by_hand = isinstance(what, ByHand)
        optimizer = task.optimizer((bare if by_hand else plan).param_groups(model))
        if not isinstance(optimizer, Optimizer):
            raise TaskError(
                f"the task {task.name!r} made an optimizer of type {type(optimizer).__name__}.",
                fix="Let optimizer(groups) return a torch optimizer, torch.optim.AdamW(groups, lr=1e-3) say.",
            )
        if lr_scale != 1.0:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * lr_scale
        if by_hand:
            return cls(model, optimizer, plan, None, tuple(_pulls_by_hand(task, plan, model)))
        return cls(model, optimizer, plan, attach(optimizer, plan, model=model))

    def __enter__(self) -> Setup:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if self.handle is not None:
            self.handle.remove()


def quiet_plan(model: nn.Module, decay: Decay | None, rules: Iterable[Any]) -> Plan:
    """A plan whose parameters of unknown role are told once, in the notes, and not once a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownRoleWarning)
        return make_plan(model, decay, rules=rules)


def _pulls_by_hand(task: Task, plan: Plan, model: nn.Module) -> Iterator[tuple[Tensor, float]]:
    tensors = parameters_by_name(model)
    for row in plan.rows:
        if row.decay is None:
            continue
        if row.decay.site is not Site.GRADIENT or not row.decay.is_plain_l2:
            raise TaskError(
                f"the task {task.name!r} has a rule that gives {row.name} {row.decay!r}.",
                "By hand there is only grad += wd·w.",
                "Compare with coupled:VALUE in place of by_hand:VALUE.",
            )
        yield tensors[row.name], row.decay.coefficient
