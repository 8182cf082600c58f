"""The shape that a parameter has outside its shard: FSDP1 makes every one of its parameters 1-D, some empty."""

from __future__ import annotations

from torch import nn


def whole_shapes(model: nn.Module) -> dict[int, tuple[int, ...]]:
    """`id(parameter)` → its shape before FSDP1 flattened it; empty for a model without FSDP1.

    FSDP2's DTensors report their whole shape themselves. With `use_orig_params=False` the parameters are gone, and
    nothing can be said about the flat one that is left.

    Args:
        model: any module.
    """
    shapes: dict[int, tuple[int, ...]] = {}
    for module in model.modules():
        flat = getattr(vars(module).get("_handle"), "flat_param", None)
        originals = getattr(flat, "_params", None)
        if flat is not None and originals is not None:
            # Parameters tied inside one FSDP unit stand in `_params` once, so the two lists run together.
            shapes.update((id(p), tuple(shape)) for p, shape in zip(originals, flat._shapes, strict=True))
    return shapes
