"""What the checks of an audit look at, gathered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from torchdecay.apply.handle import Handle, handle_of
from torchdecay.errors import ApplyError
from torchdecay.observe.groups import as_number, decay_of, name_all
from torchdecay.observe.lr_curve import lr_curve
from torchdecay.observe.pulls import Pulled, own_pulls, pulls_of
from torchdecay.observe.run import Run
from torchdecay.plans.census import census
from torchdecay.plans.decay import Decay
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import names_of


class Member(NamedTuple):
    """One parameter in one group.

    Attributes:
        name: canonical where the model is known, else the group's name for it, else its place.
        param: the tensor.
        about: what the census says of it, or None without a model.
        pulled: what pulls it, by the attached plan or the group's own weight_decay.
    """

    name: str
    param: Tensor
    about: Parameter | None
    pulled: Pulled

    @property
    def decay(self) -> Decay | None:
        """What pulls it: NATIVE where nobody knows what the group's weight_decay means, None for nothing."""
        return self.pulled.decay

    @property
    def spoken(self) -> str:
        """The decay in words."""
        return self.pulled.means


@dataclass(frozen=True)
class Group:
    """One parameter group, with what it means.

    Attributes:
        optimizer: whose.
        number: which of the optimizers that were given.
        index: which of its groups.
        where: how to call it.
        values: the live group.
        handle: of an attached plan, or None.
        members: its parameters.
        weight_decay: as a usable number, else 0.
        named: whether the names are names, and not places.
        misfit: why the attached plan can't go on, or "".
    """

    optimizer: Any
    number: int
    index: int
    where: str
    values: Mapping[str, Any]
    handle: Handle | None
    members: tuple[Member, ...]
    weight_decay: float
    named: bool
    misfit: str

    @property
    def lr(self) -> float | None:
        """The learning rate as a number, or None without a usable one."""
        return as_number(self.values.get("lr"))


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
    def groups(self) -> tuple[Group, ...]:
        """Every group of every optimizer."""
        about = {id(one.tensor): one for one in self.parameters}
        known = {key: one.name for key, one in about.items()}
        made: list[Group] = []
        for number, optimizer in enumerate(self.optimizers):
            label = type(optimizer).__name__ + (f" {number + 1}" if len(self.optimizers) > 1 else "")
            handle = handle_of(optimizer)
            own_model = None if handle is None or self.model is not None else handle.model
            names_known = known if own_model is None else names_of(own_model)
            names = name_all(optimizer, names_known, unnamed="parameter {place}")
            try:
                pulls, misfit = pulls_of(optimizer, model=self.model), ""
            except ApplyError as error:
                pulls, misfit = own_pulls(optimizer), error.what
            fits = handle is not None and not misfit
            for index, (values, own_names, own) in enumerate(zip(optimizer.param_groups, names, pulls, strict=True)):
                params = values["params"]
                is_named = len(values.get("param_names", ())) == len(params)
                rows = zip(own_names, params, map(about.get, map(id, params)), own, strict=True)
                made.append(
                    Group(
                        optimizer=optimizer,
                        number=number,
                        index=index,
                        where=f"{label}, group {index}",
                        values=values,
                        handle=handle,
                        members=tuple(map(Member._make, rows)),
                        weight_decay=as_number(decay_of(optimizer, values)[1]) or 0.0,
                        named=is_named or fits or all(id(param) in about for param in params),
                        misfit=misfit,
                    )
                )
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

    @cached_property
    def pulled(self) -> tuple[tuple[Group, Member, Decay], ...]:
        """Every parameter that something pulls."""
        return tuple(
            (group, member, decay)
            for group in self.groups
            for member in group.members
            if (decay := member.pulled.decay) is not None
        )

    @cached_property
    def modules(self) -> tuple[nn.Module, ...]:
        """The model's modules, itself among them; none without a model."""
        return () if self.model is None else tuple(self.model.modules())

    @cached_property
    def pulls(self) -> tuple[tuple[Group, Pulled, tuple[Member, ...]], ...]:
        """Each different pull of each group, with those that it pulls."""
        found: dict[Pulled, tuple[Group, list[Member]]] = {}
        for group, member, _ in self.pulled:
            found.setdefault(member.pulled, (group, []))[1].append(member)
        return tuple((group, pulled, tuple(members)) for pulled, (group, members) in found.items())
