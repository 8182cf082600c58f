"""η_max: each group's own peak learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchdecay.errors import ApplyError
from torchdecay.plans.decay import Decay


def peak_of(decay: Decay, group: Mapping[str, Any], index: int, scheduler: Any = None) -> float:
    """The peak learning rate of one group, for a decay whose scale needs it.

    In this order: the decay's own `max_lr`; the group's `max_lr` (OneCycleLR sets it; its `initial_lr` is peak/25);
    the scheduler's `max_lrs` (CyclicLR keeps it there); the group's `initial_lr`, which every scheduler sets; the
    group's learning rate as it is now.

    Raises:
        ApplyError: when the peak found is not above 0.
    """
    candidates = (
        ("max_lr of the decay", decay.max_lr),
        ("max_lr of the group", group.get("max_lr")),
        ("max_lrs of the scheduler", _entry(getattr(scheduler, "max_lrs", None), index)),
        ("initial_lr of the group", group.get("initial_lr")),
        ("lr of the group", group.get("lr")),
    )
    source, value = next((name, value) for name, value in candidates if value is not None)
    peak = float(value)
    if not peak > 0:
        raise ApplyError(
            f"group {index}: the peak learning rate, taken from the {source}, is {peak:g}.",
            f"{decay!r} divides by it.",
            "Give it: max_lr=..., the highest learning rate that this group reaches.",
        )
    return peak


def _entry(values: Any, index: int) -> Any:
    return values[index] if values is not None and index < len(values) else None
