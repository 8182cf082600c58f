"""What the checks of an audit look at, gathered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from torchdecay.apply.handle import Handle, handle_of
from torchdecay.errors import ApplyError
from torchdecay.findings.rule import Severity
from torchdecay.observe.audit.penalties import penalized_parameters
from torchdecay.observe.groups import as_number, decay_of, name_all
from torchdecay.observe.lr_curve import lr_curve
from torchdecay.observe.pulls import Pulled, own_pulls, pulls_of
from torchdecay.observe.run import Run
from torchdecay.observe.verify.pulled import as_measured
from torchdecay.observe.verify.result import Verification
from torchdecay.plans.census import census
from torchdecay.plans.decay import Decay
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.plan import Plan
from torchdecay.plans.rules import Rule
from torchdecay.plans.tree import Models, names_of
from torchdecay.sharding import is_dtensor, is_flat_part

_MOST_NUMBERED = 8


class Hit(NamedTuple):
    """What a check saw: in one place, on some parameters.

    Attributes:
        where: optimizer and group, or the model.
        what: with values.
        names: the parameters.
        severity: when it differs from the catalog's.
    """

    where: str
    what: str
    names: tuple[str, ...] = ()
    severity: Severity | None = None


class Member(NamedTuple):
    """One parameter in one group.

    Attributes:
        group: which.
        name: canonical where the model is known, else the group's name for it, else its place.
        planned: what a plan calls it: its name in its own model, where several are known.
        param: the tensor.
        about: what the census says of it, or None without a model.
        pulled: what pulls it, by the attached plan or the group's own weight_decay.
    """

    group: Group
    name: str
    planned: str
    param: Tensor
    about: Parameter | None
    pulled: Pulled

    @property
    def decay(self) -> Decay | None:
        """What pulls it: NATIVE where nobody knows what the group's weight_decay means, None for nothing."""
        return self.pulled.decay

    def hit(self, what: str, severity: Severity | None = None) -> Hit:
        """Something that was seen on it."""
        return Hit(self.group.where, what, (self.name,), severity)


@dataclass(frozen=True, eq=False)
class Group:
    """One parameter group, with what it means.

    Attributes:
        optimizer: whose.
        index: which of its groups.
        where: how to call it.
        handle: of an attached plan, or None.
        named: whether the names are names, and not places.
        misfit: why the attached plan can't go on, or "".
        members: its parameters.
    """

    optimizer: Any
    index: int
    where: str
    handle: Handle | None
    named: bool
    misfit: str
    members: list[Member] = field(default_factory=list, repr=False)

    @property
    def values(self) -> Mapping[str, Any]:
        """The live group."""
        values: dict[str, Any] = self.optimizer.param_groups[self.index]
        return values

    @property
    def lr(self) -> float | None:
        """The learning rate as a number, or None without a usable one."""
        return as_number(self.values.get("lr"))

    @property
    def weight_decay(self) -> float:
        """As a usable number, else 0."""
        return as_number(decay_of(self.optimizer, self.values)[1]) or 0.0

    def hit(self, what: str) -> Hit:
        """Something that was seen on all of its parameters."""
        return Hit(self.where, what, tuple(member.name for member in self.members))


@dataclass(frozen=True)
class Case:
    """All that an audit was given; several models are one."""

    optimizers: Sequence[Any]
    model: nn.Module | None
    plan: Plan | None
    run: Run | None
    loss: Tensor | None
    recipe: tuple[str, tuple[Rule, ...]] | None = None
    verified: Verification | None = None

    def has(self, what: str) -> bool:
        """Whether "model", "plan", "run", "loss" or "recipe" is there."""
        return getattr(self, what) is not None

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The model's parameters."""
        return [] if self.model is None else list(census(self.model))

    @cached_property
    def modules(self) -> list[nn.Module]:
        """The model's modules, itself among them."""
        return [] if self.model is None else list(self.model.modules())

    @cached_property
    def groups(self) -> list[Group]:
        """Every group of every optimizer."""
        about = {id(one.tensor): one for one in self.parameters}
        known = {key: one.name for key, one in about.items()}
        made: list[Group] = []
        for number, optimizer in enumerate(self.optimizers, start=1):
            # So many are one for each layer, and are told of together.
            is_numbered = 1 < len(self.optimizers) <= _MOST_NUMBERED
            label = type(optimizer).__name__ + (f" {number}" if is_numbered else "")
            handle = handle_of(optimizer)
            names = planned = name_all(optimizer, known, unnamed="parameter {place}")
            if isinstance(self.model, Models):
                alone = self.model.whose(param for group in optimizer.param_groups for param in group["params"])
                planned = name_all(optimizer, names_of(alone), unnamed="parameter {place}")
            try:
                pulls = pulls_of(optimizer, model=self.model)
                misfit = ""
            except ApplyError as error:
                pulls, misfit = own_pulls(optimizer), error.what
            pulls = as_measured(pulls, names, self.verified, number - 1)
            fits = handle is not None and not misfit
            told = zip(optimizer.param_groups, names, planned, pulls, strict=True)
            for index, (values, own_names, in_plan, own) in enumerate(told):
                params = values["params"]
                is_named = len(values.get("param_names", ())) == len(params)
                named = is_named or fits or all(id(param) in about for param in params)
                group = Group(optimizer, index, f"{label}, group {index}", handle, named, misfit)
                rows = zip(own_names, in_plan, params, map(about.get, map(id, params)), own, strict=True)
                group.members.extend(Member(group, *row) for row in rows)
                made.append(group)
        return made

    @cached_property
    def penalized(self) -> set[int]:
        """Identities of the parameters that the loss holds a penalty of."""
        return set() if self.loss is None else penalized_parameters(self.loss)

    def is_explicit(self, member: Member) -> bool:
        """Whether a recipe, or a rule of the user's own in a plan, given or attached, decides what pulls it."""
        if self.recipe is not None:
            return True
        plan = self.plan if member.group.handle is None else member.group.handle.plan
        return plan is not None and member.planned in plan and plan[member.planned].explicit

    @cached_property
    def members(self) -> list[Member]:
        """Every parameter of every group."""
        return [member for group in self.groups for member in group.members]

    @cached_property
    def pulled(self) -> list[Member]:
        """Every parameter that something pulls."""
        return [member for member in self.members if member.decay is not None]

    @cached_property
    def pulls(self) -> Mapping[Pulled, list[Member]]:
        """Each different pull of each group, with those that it pulls."""
        found: dict[Pulled, list[Member]] = {}
        for member in self.pulled:
            found.setdefault(member.pulled, []).append(member)
        return found

    @cached_property
    def _curves(self) -> Mapping[int, list[list[float]] | None]:
        if self.run is None:
            return {}
        curves, schedule = {}, self.run.lr_schedule
        for groups in (optimizer.param_groups for optimizer in self.optimizers):
            foreign = isinstance(schedule, LRScheduler) and schedule.optimizer.param_groups is not groups
            if not foreign and all("lr" not in group or as_number(group["lr"]) is not None for group in groups):
                curves[id(groups)] = lr_curve(self.run, groups)
        return curves

    def curve(self, optimizer: Any, index: int) -> list[float] | None:
        """The learning rate of a group over the run, or None when there is no run or nobody can know."""
        curves = self._curves.get(id(optimizer.param_groups))
        return None if curves is None or index >= len(curves) else curves[index]


def is_readable(gradient: Tensor) -> bool:
    """Whether its numbers are here: of a sharded one the whole would have to be waited for."""
    return gradient.layout is torch.strided and not gradient.is_meta and not cuts_apart(gradient)


def cuts_apart(tensor: Tensor) -> bool:
    """Whether other processes have parts of a tensor, or may have."""
    return is_dtensor(tensor) or is_flat_part(tensor)
