"""What the checks of an audit look at, gathered once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from torchdecay.apply.handle import Handle
from torchdecay.apply.lowering import name_parameters
from torchdecay.errors import ApplyError
from torchdecay.observe.lr_curve import lr_curve
from torchdecay.observe.pulls import attached, decay_of
from torchdecay.observe.run import Run
from torchdecay.optimizers.cards import Native, has_trait, native_of, settled_factor
from torchdecay.optimizers.peaks import peak_of
from torchdecay.plans.census import census
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.plan import Plan
from torchdecay.plans.regularizers import L2
from torchdecay.plans.tree import parameters_by_name


class Member(NamedTuple):
    """One parameter in one group.

    Attributes:
        name: canonical where the model is known, else the group's name for it, else its place.
        param: the tensor.
        about: what the census says of it, or None without a model.
        decay: what pulls it: the attached plan's Decay, else what the group's weight_decay natively is; None is none.
        spoken: the decay in words.
    """

    name: str
    param: Tensor
    about: Parameter | None
    decay: Decay | None
    spoken: str


@dataclass(frozen=True)
class Group:
    """One parameter group, with what it means.

    Attributes:
        optimizer: whose.
        number: which of the optimizers that were given.
        index: which of its groups.
        where: how to call it.
        values: the live group.
        native: what weight_decay means here, None when that is not known.
        handle: of an attached plan, or None.
        members: its parameters.
        weight_decay: as a usable number, else 0.
        named: whether the names are names, and not places.
    """

    optimizer: Any
    number: int
    index: int
    where: str
    values: Mapping[str, Any]
    native: Native | None
    handle: Handle | None
    members: tuple[Member, ...]
    weight_decay: float
    named: bool

    @property
    def lr(self) -> float | None:
        """The learning rate as a number, or None without a usable one."""
        return as_number(self.values.get("lr"))

    def fraction(self, decay: Decay, lr: float, step: int = 0) -> float | None:
        """c_t·λ_t, the part of a weight that this pull takes in one step, or None where it is no such part.

        Plain SGD takes lr·λ_t by a coupled decay; adaptive optimizers take what the gradients leave.
        """
        if decay.controller is not None or decay.reference is not None or not isinstance(decay.regularizer, L2):
            return None
        peak = self.peak(decay)
        if decay.schedule.needs_lr and not peak:
            return None
        coefficient = decay.coefficient_at(step, lr / peak if decay.schedule.needs_lr and peak else 1.0)
        if decay.site in (Site.GRADIENT, Site.LOSS):
            return None if settled_factor(self.optimizer, self.values) is None else lr * coefficient
        if decay.site not in (Site.BEFORE, Site.AFTER) or (decay.scale.needs_max_lr and not peak):
            return None
        taken = decay.scale.factor(lr, peak) * coefficient
        return taken / (1 + taken) if decay.proximal else taken

    def settled(self, decay: Decay) -> float:
        """By how much momentum multiplies a coupled pull of SGD once it has settled; 1 where nothing settles."""
        coupled = decay.site in (Site.GRADIENT, Site.LOSS)
        factor = settled_factor(self.optimizer, self.values) if coupled else None
        return 1.0 if factor is None or not math.isfinite(factor) else factor

    def peak(self, decay: Decay) -> float | None:
        """The peak learning rate that the decay is scaled by, or None where it is not known or not needed."""
        if decay.max_lr is not None:
            return decay.max_lr
        if not (decay.scale.needs_max_lr or decay.schedule.needs_lr):
            return None
        if self.lr is None:
            return None if self.handle is None else self.handle.max_lr(self.index)
        try:
            if self.handle is not None:
                return self.handle.max_lr(self.index, decay)
            return peak_of(decay, self.values, self.index)
        except ApplyError:
            return None


@dataclass(frozen=True)
class Case:
    """All that an audit was given."""

    optimizers: Sequence[Any]
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
        made: list[Group] = []
        for number, optimizer in enumerate(self.optimizers):
            label = type(optimizer).__name__ + (f" {number + 1}" if len(self.optimizers) > 1 else "")
            planned = _planned(optimizer, self.model)
            made += [
                _group(optimizer, number, index, f"{label}, group {index}", about, planned)
                for index in range(len(optimizer.param_groups))
            ]
        return tuple(made)

    @cached_property
    def curves(self) -> Mapping[int, list[list[float]] | None]:
        """Learning rates over the run by the optimizer's place; None where nobody can know them."""
        if self.run is None:
            return {}
        schedule = self.run.lr_schedule
        curves: dict[int, list[list[float]] | None] = {}
        for number, optimizer in enumerate(self.optimizers):
            groups = optimizer.param_groups
            foreign = isinstance(schedule, LRScheduler) and schedule.optimizer.param_groups is not groups
            unusable = any("lr" in group and as_number(group["lr"]) is None for group in groups)
            curves[number] = None if foreign or unusable else lr_curve(self.run, groups)
        return curves

    def curve(self, group: Group) -> list[float] | None:
        """The group's learning rate over the run, or None when there is no run or nobody can know."""
        curves = self.curves.get(group.number)
        return None if curves is None or group.index >= len(curves) else curves[group.index]

    def pulled(self) -> Iterator[tuple[Group, Member, Decay]]:
        """Every parameter that something pulls."""
        for group in self.groups:
            for member in group.members:
                if member.decay is not None:
                    yield group, member, member.decay

    def pulls(self) -> Iterator[tuple[Group, Decay, tuple[Member, ...]]]:
        """Each different pull of each group, with those that it pulls."""
        for group in self.groups:
            found: dict[int, tuple[Decay, list[Member]]] = {}
            for member in group.members:
                if member.decay is not None:
                    found.setdefault(id(member.decay), (member.decay, []))[1].append(member)
            for decay, members in found.values():
                yield group, decay, tuple(members)


def as_number(value: Any) -> float | None:
    """A finite number, from a number or a tensor of one element; None for anything else."""
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 and not value.is_meta else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def native_decay(optimizer: Any, native: Native | None, weight_decay: float) -> Decay | None:
    """A group's own weight_decay as a Decay: what it natively means, or NATIVE where nobody knows."""
    if not weight_decay > 0 or has_trait(optimizer, "no decay"):
        return None
    return Decay(coefficient=weight_decay, site=Site.NATIVE) if native is None else native.decay(weight_decay)


def _planned(optimizer: Any, model: nn.Module | None) -> dict[int, tuple[str, Decay | None]]:
    """`id(parameter)` → its name and decay in the attached plan; empty without one, or when it no longer fits."""
    handle = attached(optimizer)
    if handle is None:
        return {}
    try:
        members = name_parameters(handle.plan, optimizer, model if model is not None else handle.model)
    except ApplyError:
        return {}
    return {id(param): (name, decay) for group in members for param, name, decay in group}


def _group(
    optimizer: Any,
    number: int,
    index: int,
    where: str,
    about: Mapping[int, Parameter],
    planned: Mapping[int, tuple[str, Decay | None]],
) -> Group:
    values = optimizer.param_groups[index]
    native = native_of(optimizer, values)
    weight_decay = as_number(decay_of(optimizer, values)[1]) or 0.0
    own = native_decay(optimizer, native, weight_decay)
    # One Decay, and one text for it, however many rows have an equal one.
    told: dict[int, tuple[Decay | None, str]] = {}
    names = list(values.get("param_names", ()))
    named = len(names) == len(values["params"])
    members = []
    for place, param in enumerate(values["params"]):
        known, (name, decay) = about.get(id(param)), planned.get(id(param), ("", own))
        if id(decay) not in told:
            means = decay
            if decay is not None and decay.site is Site.NATIVE:
                means = native_decay(optimizer, native, decay.coefficient)
            told[id(decay)] = means, repr(means)
        means, spoken = told[id(decay)]
        fallback = str(names[place]) if named else f"parameter {place}"
        members.append(Member(known.name if known else name or fallback, param, known, means, spoken))
    return Group(
        optimizer=optimizer,
        number=number,
        index=index,
        where=where,
        values=values,
        native=native,
        handle=attached(optimizer),
        members=tuple(members),
        weight_decay=weight_decay,
        named=named or all(member.about is not None or id(member.param) in planned for member in members),
    )
