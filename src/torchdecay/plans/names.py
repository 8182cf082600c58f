"""What a parameter is called once wrappers are seen through: compile, DDP, FSDP, checkpointing, EMA, PEFT."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeVar, cast

WRAPPERS = {
    "module": (
        *("torch.DataParallel", "torch.DistributedDataParallel", "torch.AveragedModel"),
        *("apex.DistributedDataParallel", "deepspeed.DeepSpeedEngine"),
        *("timm.ModelEma", "timm.ModelEmaV2", "timm.ModelEmaV3"),
    ),
    "_orig_mod": ("torch.OptimizedModule",),
    "_fsdp_wrapped_module": ("torch.FullyShardedDataParallel",),
    "_checkpoint_wrapped_module": ("torch.ActivationWrapper",),
    "_forward_module": ("lightning._FabricModule", "lightning_fabric._FabricModule"),
    "_original_module": ("lightning._FabricModule", "lightning_fabric._FabricModule"),
    "base_model": ("peft.PeftModel",),
    "model": ("peft.BaseTuner",),
    "base_layer": ("peft.BaseTunerLayer",),
    "original_module": ("peft.AuxiliaryTrainingWrapper",),
}
"""A child that stands for what a wrapper wraps → the wrappers that have it. Libraries move classes between files, so
only the package and the class name count; no library is imported for it."""

UNMISTAKABLE = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Segments that nobody but a wrapper uses, so that they can be dropped from a name alone."""

CHECKPOINT_PREFIXES = ("base_model.model.", "module.")
"""Prefixes of whole checkpoints: dropped where every name has them."""


T = TypeVar("T")


def per_class(function: Callable[[type], T]) -> Callable[[type], T]:
    """Ask `function` once for each class; the oldest answers go, as parametrizations make a class per module."""
    return cast("Callable[[type], T]", lru_cache(maxsize=4096)(function))


@per_class
def transparent_children(kind: type) -> frozenset[str]:
    """The children of a module class that only stand for what it wraps; none unless it is a known wrapper."""
    bases = {f"{base.__module__.partition('.')[0]}.{base.__qualname__}" for base in kind.__mro__}
    return frozenset(child for child, wrappers in WRAPPERS.items() if not bases.isdisjoint(wrappers))


def canonical(name: str) -> str:
    """The name of a parameter or module without the segments that nobody but a wrapper puts in.

    Where the model is at hand its structure tells more, see `torchdecay.plans.tree`. A parametrized weight keeps the
    name that torch gives it (`fc.parametrizations.weight.original`): its tensors are other ones than the weight that
    the layer uses, and there may be several.

    Example:
        >>> canonical("_orig_mod.layers.0._checkpoint_wrapped_module.fc.weight")
        'layers.0.fc.weight'
    """
    return ".".join(segment for segment in name.split(".") if segment not in UNMISTAKABLE) or name


def canonical_keys(names: Iterable[str]) -> dict[str, str]:
    """Name → canonical name for the names of a checkpoint; a prefix that all of them share is a wrapper's.

    Two names never become one: where that would happen both stay as they are.
    """
    short = {name: canonical(name) for name in names}
    for prefix in CHECKPOINT_PREFIXES:
        # AveragedModel keeps its counter beside the module that it wraps.
        prefixed = [name for name in short if name != "n_averaged"]
        if prefixed and all(short[name].startswith(prefix) for name in prefixed):
            short.update({name: short[name][len(prefix) :] for name in prefixed})
    taken = Counter(short.values())
    return {name: new if taken[new] == 1 else name for name, new in short.items()}
