"""Whose parameters an optimizer has, and what else takes part in its steps: found through the garbage collector.

Nothing is patched or hooked for it, and no code of the script runs: an object is known by its `type()`, never asked.
"""

from __future__ import annotations

import gc
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from torchdecay.integrations.script.configured import SETTINGS
from torchdecay.observe.run import Run
from torchdecay.optimizers.wrappers import unwrap
from torchdecay.plans.names import transparent_children
from torchdecay.text import counted

_STAND_IN_STEPS = 1_000
_LENGTHS: dict[type, str] = {OneCycleLR: "total_steps", CosineAnnealingLR: "T_max", PolynomialLR: "total_iters"}
"""Schedules that go to the end of the run, and where they say when that is."""
_FIELDS, _OURS = "__dataclass_fields__", ("torch", "torchdecay")
_SCALERS = ("GradScaler", "ShardedGradScaler")
_AROUND = {
    ("transformers", "Trainer"),
    ("accelerate", "Accelerator"),
    ("lightning", "Trainer"),
    ("pytorch_lightning", "Trainer"),
}
"""(package, class) of those that know how long the run is, or how many passes make a step."""

# As type itself says it: a class of classes may have an opinion of its own.
_BASES, _NAME, _NAMES = (type.__dict__[name].__get__ for name in ("__mro__", "__name__", "__dict__"))


@dataclass(eq=False)
class Surroundings:
    """What the collector knows of that may have to do with an optimizer.

    Attributes:
        modules: all modules.
        optimizers: all torch optimizers.
        schedulers: of any optimizer.
        scalers: gradient scalers.
        settings: of the script, that say a weight_decay: arguments of its command line, dataclasses.
        around: trainers and the like, by (package, class).
        seconds: how long looking took.
    """

    modules: list[nn.Module] = field(default_factory=list)
    optimizers: list[Optimizer] = field(default_factory=list)
    schedulers: list[Any] = field(default_factory=list)
    scalers: list[Any] = field(default_factory=list)
    settings: list[Any] = field(default_factory=list)
    around: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    seconds: float = 0.0


def look_around() -> Surroundings:
    """Go once through all that the collector knows."""
    began = time.perf_counter()
    found = Surroundings()
    kinds: dict[int, list[Any] | None] = {}
    unasked: list[Any] = []
    known = kinds.get
    # Of hundreds of thousands nearly all are passed over, so those come first.
    for one in gc.get_objects():
        place = known(id(type(one)), unasked)
        if place is None:
            continue
        if place is unasked:
            place = kinds[id(type(one))] = _place_for(type(one), found)
        if place is not None:
            place.append(one)
    found.seconds = time.perf_counter() - began
    return found


def _place_for(kind: type, found: Surroundings) -> list[Any] | None:
    for base in _BASES(kind):
        if base is nn.Module:
            return found.modules
        if base is Optimizer:
            return found.optimizers
        if base is LRScheduler or base is ReduceLROnPlateau:
            return found.schedulers
        package, name = str(_NAMES(base).get("__module__", "")).partition(".")[0], _NAME(base)
        if base is Namespace or (
            package not in _OURS and not _NAMES(base).get(_FIELDS, {}).keys().isdisjoint(SETTINGS)
        ):
            return found.settings
        if package == "torch" and name in _SCALERS:
            return found.scalers
        if (package, name) in _AROUND:
            return found.around.setdefault((package, name), [])
    return None


# ── The model ──


def model_of(optimizer: Optimizer, modules: Iterable[nn.Module]) -> nn.Module | None:
    """Of the modules that hold most of an optimizer's parameters the one with the fewest to train besides.

    Among those that are equal it is the outermost that is no wrapper, so that names are the script's own.
    """
    wanted = _params_of(optimizer)
    by_id: dict[int, nn.Module] = {}
    parents: dict[int, list[int]] = {}
    owners: list[nn.Module] = []
    for module in modules:
        inside = module.__dict__
        by_id[id(module)] = module
        for child in (inside.get("_modules") or {}).values():
            if child is not None:
                parents.setdefault(id(child), []).append(id(module))
        if any(id(param) in wanted for param in (inside.get("_parameters") or {}).values()):
            owners.append(module)
    held: dict[int, set[int]] = {}
    for owner in owners:
        own = {id(param) for param in owner.__dict__["_parameters"].values()} & wanted
        for above in _above(id(owner), parents):
            held.setdefault(above, set()).update(own)
    if not held:
        return None
    most = max(map(len, held.values()))
    able = {key: _size(by_id[key]) for key, own in held.items() if len(own) == most}
    fewest = min(able.values())
    equal = [key for key, size in able.items() if size == fewest]
    plain = [key for key in equal if not transparent_children(type(by_id[key]))] or equal
    return by_id[min(plain, key=lambda key: len(_above(key, parents) & set(plain)))]


def _above(key: int, parents: dict[int, list[int]]) -> set[int]:
    """A module and all that contain it."""
    found, todo = {key}, [key]
    while todo:
        for parent in parents.get(todo.pop(), ()):
            if parent not in found:
                found.add(parent)
                todo.append(parent)
    return found


def _size(module: nn.Module) -> int:
    """How many elements there are to train in a module."""
    sizes: dict[int, int] = {}
    seen, todo = {id(module)}, [module]
    while todo:
        inside = todo.pop().__dict__
        own = (inside.get("_parameters") or {}).values()
        sizes |= {id(one): one.numel() for one in own if one is not None and one.requires_grad}
        for child in (inside.get("_modules") or {}).values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                todo.append(child)
    return sum(sizes.values())


def others_of(optimizer: Optimizer, model: nn.Module, optimizers: Iterable[Optimizer]) -> bool:
    """Whether other optimizers have parameters of the model that this one has not."""
    mine = _params_of(optimizer)
    rest = {id(param) for param in model.parameters() if param.requires_grad} - mine
    return any(not rest.isdisjoint(_params_of(one)) for one in optimizers if one is not optimizer)


def unserved(served: Iterable[Optimizer], optimizers: Iterable[Optimizer]) -> list[Optimizer]:
    """Those that have parameters to train which none of the served has: a wrapper has none of its own."""
    have = set().union(*map(_params_of, served))
    return [one for one in optimizers if not _params_of(one, only_trained=True) <= have]


def _params_of(optimizer: Optimizer, *, only_trained: bool = False) -> set[int]:
    groups = optimizer.__dict__.get("param_groups", ())
    return {id(one) for group in groups for one in group["params"] if one.requires_grad or not only_trained}


# ── What is around it ──


def scheduler_of(optimizer: Optimizer, schedulers: Sequence[Any]) -> Any:
    """The scheduler of an optimizer, of several the one that calls the others; None without one."""
    own = [one for one in schedulers if one.__dict__.get("optimizer") is optimizer]
    called = {id(inner) for one in own for inner in one.__dict__.get("_schedulers", ())}
    return next((one for one in own if id(one) not in called), None)


def around_it(optimizer: Optimizer, found: Surroundings) -> list[str]:
    """What takes part in an optimizer's steps, each in a few words."""
    said = []
    if (scheduler := scheduler_of(optimizer, found.schedulers)) is not None:
        said.append(type(scheduler).__name__)
    said += [type(one).__name__ for one in found.scalers[:1] if one.__dict__.get("_enabled")]
    if (passes := _accumulated(found)) > 1:
        said.append(f"{passes} passes a step")
    return said


def run_of(optimizer: Optimizer, found: Surroundings, steps: int) -> tuple[Run, int, str]:
    """The run as far as anybody knows it, how many steps that is (0: nobody knows), and who says so.

    Args:
        optimizer: the optimizer.
        found: what is around it.
        steps: what the user said; 0 for nothing.
    """
    scheduler = scheduler_of(optimizer, found.schedulers)
    known, who = (steps, "--steps") if steps else _length(optimizer, scheduler, found)
    if not known:
        said = f"length unknown, so forecast over {_STAND_IN_STEPS:,} steps at this learning rate; --steps N sets it"
        return Run(steps=_STAND_IN_STEPS), 0, said
    said = f"{counted(known, 'step')}, says {who}"
    epochs = _epochwise(scheduler, found)
    if epochs:
        return Run(steps=known, epochs=epochs, lr_schedule=scheduler, scheduler_interval="epoch"), known, said
    return Run(steps=known, lr_schedule=scheduler), known, said


def _length(optimizer: Optimizer, scheduler: Any, found: Surroundings) -> tuple[int, str]:
    for (package, name), trainers in found.around.items():
        for trainer in trainers:
            if package == "transformers" and unwrap(trainer.__dict__.get("optimizer")) is unwrap(optimizer):
                return int(trainer.state.max_steps), "Trainer"
            if package in ("lightning", "pytorch_lightning") and name == "Trainer" and _steers(trainer, optimizer):
                known = trainer.estimated_stepping_batches
                return (int(known), "Lightning") if known not in (-1, float("inf")) else (0, "")
    known, by_steps = _ends(scheduler)
    return known, type(scheduler).__name__ + ("" if by_steps else ", where it goes on at each step")


def _ends(scheduler: Any) -> tuple[int, bool]:
    """At which of its own steps a schedule ends, 0 for never, and whether those are the optimizer's for certain."""
    if isinstance(scheduler, LambdaLR):
        told = [one.keywords.get("num_training_steps") for one in scheduler.lr_lambdas if isinstance(one, partial)]
        return int(next(filter(None, told), 0)), True
    if isinstance(scheduler, SequentialLR):
        last, _ = _ends(scheduler._schedulers[-1])
        return (scheduler._milestones[-1] + last if last else 0), False
    for kind, name in _LENGTHS.items():
        if type(scheduler) is kind:
            return int(getattr(scheduler, name)), kind is OneCycleLR
    return 0, True


def _epochwise(scheduler: Any, found: Surroundings) -> int | None:
    """Over how many epochs a scheduler goes on once per epoch, where Lightning says that it does."""
    for key in (("lightning", "Trainer"), ("pytorch_lightning", "Trainer")):
        for trainer in found.around.get(key, ()):
            for config in trainer.lr_scheduler_configs if scheduler is not None else ():
                if config.scheduler is scheduler and config.interval == "epoch":
                    return trainer.max_epochs or None
    return None


def _accumulated(found: Surroundings) -> int:
    for (package, name), several in found.around.items():
        for one in several:
            if name == "Accelerator":
                return int(one.gradient_accumulation_steps)
            if package != "transformers":
                return int(one.accumulate_grad_batches)
    return 1


def _steers(trainer: Any, optimizer: Optimizer) -> bool:
    return any(unwrap(one) is unwrap(optimizer) for one in trainer.strategy.optimizers)
