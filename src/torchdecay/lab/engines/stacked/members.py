"""What one trial asks of the stack: who decays, how hard, and in which parameter groups."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from torchdecay.apply.lowering import lower
from torchdecay.apply.rounding import is_low
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import ByHand
from torchdecay.lab.training.setup import Setup
from torchdecay.lab.training.trial import Trial
from torchdecay.optimizers.cards import base_card_of, card_of, native_of
from torchdecay.plans.controllers import Cautious
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.forms.l2 import coupled
from torchdecay.plans.groups import MARK
from torchdecay.plans.references import Initial
from torchdecay.plans.regularizers import PNorm
from torchdecay.plans.tree import parameters_by_name
from torchdecay.text import repr_quoted

_OURS = ("params", "param_names", "weight_decay", "decoupled_weight_decay", "fused", "foreach", "initial_lr", MARK)


class NotStackable(Exception):
    """The reason why a task or trial can't be stacked, as one sentence."""


@dataclass(frozen=True)
class GroupSpec:
    """One parameter group: its parameters by name, and what it says to the optimizer besides."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True, eq=False)
class StackedMember:
    """One trial, as the stack needs it, by names of parameters: what pulls each, and the groups of its optimizer.

    `settings` say of each parameter what its group says in the finished optimizer, as text, to compare with.
    """

    trial: Trial
    decays: dict[str, Decay | None]
    groups: tuple[GroupSpec, ...]
    settings: dict[str, str]
    optimizer_type: type[Optimizer]

    @property
    def structure(self) -> str:
        """Text that two members share if one optimizer can serve both."""
        return repr((self.trial.lr_scale, [(group.names, sorted(group.options.items())) for group in self.groups]))

    @property
    def form(self) -> tuple[Decay | None, ...]:
        """What two members share if their pulls differ in nothing but how hard they are."""
        return tuple(None if decay is None else template_of(decay) for decay in self.decays.values())


def template_of(decay: Decay) -> Decay:
    """The decay with coefficient 1, but with its schedule and peak: what members of one pass have in common."""
    return decay.replace(coefficient=1.0)


def read_member(task: Task, trial: Trial, setup: Setup) -> StackedMember:
    """What a trial asks for, from the setup that `train` would begin with."""
    model, optimizer, plan = setup.model, setup.optimizer, setup.plan
    # What hooks are left afterwards are the task's own.
    with setup:
        lowering = lower(plan, optimizer, model=model) if setup.handle is None else setup.handle.lowering
    _check_optimizer(optimizer)
    names = {id(param): name for name, param in model.named_parameters()}
    decays: dict[str, Decay | None] = {name: None for name, param in model.named_parameters() if param.requires_grad}
    tensors = parameters_by_name(model)
    by_hand = isinstance(trial.contender.what, ByHand)
    if by_hand:
        decays |= {names[id(weight)]: coupled(wd) for weight, wd in setup.by_hand}
    else:
        for row in lowering.rows:
            group = optimizer.param_groups[row.group]
            decays[names[id(tensors[row.name])]] = _resolved(row.decay, optimizer, group)
    for name, decay in decays.items():
        if decay is not None:
            _check_decay(name, decay)
    if any(is_low(param) for param in model.parameters()):
        raise NotStackable("it has low-precision weights, which are rounded run by run")
    bare = dataclasses.replace(plan, rows=tuple(dataclasses.replace(row, decay=None) for row in plan.rows))
    groups = _groups(task, (bare if by_hand else plan).param_groups(model), names)
    return StackedMember(trial, decays, groups, settings_of(optimizer, names), type(optimizer))


def settings_of(optimizer: Optimizer, names: dict[int, str]) -> dict[str, str]:
    """For each parameter what its group says, apart from who is in it and how it decays."""
    return {
        names[id(param)]: repr(sorted((key, value) for key, value in group.items() if key not in _OURS))
        for group in optimizer.param_groups
        for param in group["params"]
    }


def _groups(task: Task, made: list[dict[str, Any]], names: dict[int, str]) -> tuple[GroupSpec, ...]:
    specs: list[GroupSpec] = []
    for group in made:
        options = {key: value for key, value in group.items() if key not in _OURS}
        own = tuple(names[id(param)] for param in group["params"])
        # A scheduler may have one entry for each group; without one, groups that say the same are stepped at once.
        twin = next((spec for spec in specs if task.scheduler is None and repr(spec.options) == repr(options)), None)
        if twin is None:
            specs.append(GroupSpec(own, options))
        else:
            specs[specs.index(twin)] = GroupSpec(twin.names + own, options)
    return tuple(specs)


def _resolved(decay: Decay | None, optimizer: Optimizer, group: dict[str, Any]) -> Decay | None:
    """The decay as a pass carries it out: NATIVE becomes what native means on this optimizer."""
    if decay is None or decay.site is not Site.NATIVE:
        return decay
    known = native_of(optimizer, group)
    if known is None:
        raise NotStackable(f"what weight_decay means in {type(optimizer).__name__} is not known")
    return known.resolve(decay)


def _check_optimizer(optimizer: Optimizer) -> None:
    name, base = type(optimizer).__name__, base_card_of(optimizer)
    if base is None or "elementwise" not in base.traits:
        raise NotStackable(f"{name} is not known to update each element on its own")
    if card_of(optimizer) is None:
        raise NotStackable(f"{name} has a step of its own, which may not update each element on its own")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise NotStackable("the optimizer has hooks around its step, which would see all members at once")


def _check_decay(name: str, decay: Decay) -> None:
    for wrong, what in (
        (decay.update is not None, "takes norms of one run's weights"),
        (decay.controller is not None, "sets its coefficient from what it sees of one run"),
        (isinstance(decay.regularizer, PNorm), "reads the weights before the update"),
        (decay.gate is not None and not isinstance(decay.gate, Cautious), "goes by rows"),
        (decay.mask is not None, "has a mask"),
        (decay.reference is not None and not isinstance(decay.reference, Initial), "pulls toward tensors of one run"),
        (not decay.regularizer.elementwise, "reads a whole tensor"),
    ):
        if wrong:
            raise NotStackable(f"{decay!r} {what}, at {repr_quoted(name)}")
