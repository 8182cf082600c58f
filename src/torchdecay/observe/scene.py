"""What the checks of an audit look at, gathered once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.attach import Handle, handle_of
from torchdecay.apply.native import Native, native_of
from torchdecay.observe.lr_curve import lr_curve
from torchdecay.observe.run import Run
from torchdecay.plan.census import census, parameters_by_name
from torchdecay.plan.decay import Decay, Scale, Site
from torchdecay.plan.parameters import Parameter
from torchdecay.plan.plan import Plan


@dataclass(frozen=True)
class Member:
    """One parameter in one group.

    Attributes:
        name: canonical where the model is known, else the group's name for it, else its place.
        param: the tensor.
        about: what the census says of it, or None without a model.
        decay: what pulls it: the attached plan's Decay, else what the group's weight_decay natively is; None is none.
    """

    name: str
    param: Tensor
    about: Parameter | None
    decay: Decay | None


@dataclass(frozen=True)
class Group:
    """One parameter group, with what it means.

    Attributes:
        optimizer: whose.
        values: the live group.
        index: which of the optimizer's groups.
        where: how to call it.
        native: what weight_decay means here, None when that is not known.
        handle: of an attached plan, or None.
        members: its parameters.
        weight_decay: as a usable number, else 0.
    """

    optimizer: Optimizer
    values: Mapping[str, Any]
    index: int
    where: str
    native: Native | None
    handle: Handle | None
    members: tuple[Member, ...]
    weight_decay: float

    @property
    def lr(self) -> float | None:
        """The learning rate as a number, or None without a usable one."""
        return as_number(self.values.get("lr"))


@dataclass(frozen=True)
class Scene:
    """All that an audit was given."""

    optimizers: Sequence[Optimizer]
    model: nn.Module | None
    plan: Plan | None
    run: Run | None
    loss: Tensor | None

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The model's parameters, or none without a model."""
        return () if self.model is None else census(self.model)

    @cached_property
    def tensors(self) -> Mapping[str, nn.Parameter]:
        """The model's tensors under all their names."""
        return {} if self.model is None else parameters_by_name(self.model)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Every group of every optimizer."""
        about = {id(self.tensors[one.name]): one for one in self.parameters}
        made = []
        for number, optimizer in enumerate(self.optimizers):
            label = type(optimizer).__name__ + (f" {number + 1}" if len(self.optimizers) > 1 else "")
            for index, values in enumerate(optimizer.param_groups):
                made.append(_group(optimizer, values, index, f"{label}, group {index}", about))
        return tuple(made)

    @cached_property
    def curves(self) -> Mapping[int, list[list[float]] | None]:
        """Learning rates over the run, by the optimizer's place; empty without a run."""
        if self.run is None:
            return {}
        return {i: lr_curve(self.run, optimizer.param_groups) for i, optimizer in enumerate(self.optimizers)}

    def curve(self, group: Group) -> list[float] | None:
        """The group's learning rate over the run, or None when there is no run or nobody can know."""
        curves = self.curves.get(next(i for i, one in enumerate(self.optimizers) if one is group.optimizer))
        return None if curves is None or group.index >= len(curves) else curves[group.index]

    def pulled(self) -> Iterator[tuple[Group, Member, Decay]]:
        """Every parameter that something pulls."""
        for group in self.groups:
            for member in group.members:
                if member.decay is not None:
                    yield group, member, member.decay


def as_number(value: Any) -> float | None:
    """A finite number, from a number or a 0-d tensor; None for anything else."""
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def fraction(decay: Decay, lr: float) -> float | None:
    """The fraction of a weight that this pull takes per step, or None where it is not a fraction of the weight."""
    if decay.site not in (Site.BEFORE, Site.AFTER) or decay.controller is not None or decay.max_lr is None:
        if decay.scale is Scale.LR and decay.site in (Site.BEFORE, Site.AFTER) and decay.controller is None:
            return lr * decay.coefficient
        return decay.coefficient if decay.scale is Scale.ONE and decay.site is Site.BEFORE else None
    return decay.scale.factor(lr, decay.max_lr) * decay.coefficient


def _group(
    optimizer: Optimizer, values: Mapping[str, Any], index: int, where: str, about: Mapping[int, Parameter]
) -> Group:
    native, handle = native_of(optimizer, values), handle_of(optimizer)
    weight_decay = as_number(values.get("weight_decay")) or 0.0
    members = []
    names = values.get("param_names") or [f"parameter {i}" for i in range(len(values["params"]))]
    for given, param in zip(names, values["params"], strict=True):
        known = about.get(id(param))
        name = known.name if known else str(given)
        if handle is not None and name in handle.plan:
            decay = handle.plan[name].decay
            if decay is not None and decay.site is Site.NATIVE:
                decay = native_decay(native, decay.coefficient)
        else:
            decay = native_decay(native, weight_decay)
        members.append(Member(name, param, known, decay))
    return Group(optimizer, values, index, where, native, handle, tuple(members), weight_decay)


def native_decay(native: Native | None, weight_decay: float) -> Decay | None:
    """A group's own weight_decay as a Decay: what native means there, or NATIVE where nobody knows."""
    if not weight_decay > 0:
        return None
    if native is None:
        return Decay(coefficient=weight_decay, site=Site.NATIVE)
    if native.site is Site.GRADIENT:
        return Decay(coefficient=weight_decay, site=Site.GRADIENT)
    return Decay(coefficient=weight_decay, site=Site.BEFORE, scale=Scale.LR)
