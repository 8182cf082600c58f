"""η_max: each group's own peak learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchdecay.errors import ApplyError
from torchdecay.plans.decay import Decay

CLEARLY = 1 + 1e-6
"""Above a learning rate by more than rounding."""


def peak_of(
    decay: Decay,
    group: Mapping[str, Any],
    index: int,
    scheduler: Any = None,
    *,
    given: float | None = None,
    kept: float | None = None,
) -> float:
    """The peak learning rate of one group, for a decay whose scale needs it.

    In this order: the decay's own `max_lr`; that given to `attach`; the group's `max_lr` (OneCycleLR sets it; its
    `initial_lr` is peak/25); the scheduler's `max_lrs` (CyclicLR keeps it there); the group's `initial_lr`, which every
    scheduler sets, times its `lr_scale`, which timm's multiply by; the highest learning rate that the group has had,
    where it is set by hand. `kept` is what was found at an earlier step.
    """
    peaks = getattr(scheduler, "max_lrs", None) or ()
    candidates = (
        ("max_lr of the decay", decay.max_lr),
        ("max_lr of attach", given),
        ("max_lr of the group", group.get("max_lr")),
        ("max_lrs of the scheduler", next(iter(peaks[index : index + 1]), None)),
        ("initial_lr of the group", _scaled(group)),
        ("lr of the group", group.get("lr")),
    )
    source, value = next((name, value) for name, value in candidates if value is not None)
    if kept is not None and decay.max_lr is None and given is None:
        # A rate that is set by hand may begin low; others are where the scheduler will lead, whatever stands there now.
        return max(kept, float(value)) if source == "lr of the group" else kept
    peak = float(value)
    if not peak > 0:
        raise ApplyError(
            f"group {index}: the peak learning rate, taken from the {source}, is {peak:g}.",
            f"{decay!r} divides by it.",
            "Give it: max_lr=..., the highest learning rate that this group reaches.",
        )
    return peak


def _scaled(group: Mapping[str, Any]) -> Any:
    """The group's `initial_lr`, times an `lr_scale` that is applied: no learning rate is above that then."""
    initial, scale = group.get("initial_lr"), group.get("lr_scale")
    if initial is None or not isinstance(scale, (int, float)) or not scale > 0:
        return initial
    return initial * scale if float(group.get("lr") or 0.0) <= initial * scale * CLEARLY else initial
