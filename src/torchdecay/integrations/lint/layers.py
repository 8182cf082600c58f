"""The parameters of the layers that a file builds: their names, as far as the file tells them, and dimensions."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.constants import keyword

_MATRICES = {
    "Linear": 2, "Embedding": 2, "Bilinear": 3, "Conv1d": 3, "Conv2d": 4, "Conv3d": 5,
    "ConvTranspose1d": 3, "ConvTranspose2d": 4, "ConvTranspose3d": 5,
}  # fmt: skip
_NORMS = {"LayerNorm", "RMSNorm", "GroupNorm"} | {f"{one}Norm{d}d" for one in ("Batch", "Instance") for d in (1, 2, 3)}
_CONTAINERS = {"Sequential", "ModuleList", "ModuleDict"}


@dataclass(frozen=True)
class Kind:
    """A parameter of which something is known.

    Attributes:
        name: the end of its full name; "" where that is not known.
        dimensions: how many it has; 0 where that is not known.
        part: "norm", "matrix" or "bias".
    """

    name: str
    dimensions: int
    part: Literal["norm", "matrix", "bias"] = "matrix"


@functools.lru_cache(maxsize=8)
def kinds(code: Code) -> tuple[Kind, ...]:
    """The parameters of layers that are kept on self, or named beside classes, in the order of the file."""
    found: dict[Kind, None] = {}
    for (home, name), values in code.attributes.items():
        if home is not None and len(values) == 1 and values[0] is not None:
            found |= dict.fromkeys(_kinds(code, values[0], name))
    for many in code.bindings[code.tree].values():
        for one in many:
            if one.kind == "value" and isinstance(one.value, ast.Call) and _torch_layer(code, one.value):
                found |= dict.fromkeys(_kinds(code, one.value, ""))
    return tuple(found)


@functools.lru_cache(maxsize=8)
def holders(code: Code) -> frozenset[str]:
    """The attributes of self that hold other modules: their names stand in front of the names of parameters."""
    return frozenset(name for (_, name), values in code.attributes.items() if any(_holds(code, one) for one in values))


def _holds(code: Code, value: ast.expr | None) -> bool:
    if not isinstance(value, ast.Call):
        return False
    home = code.definition(value.func)
    own = isinstance(home, ast.ClassDef) and not home.name.endswith("Norm")
    return own or _torch_layer(code, value) in _CONTAINERS


def has_parameters(code: Code, call: ast.Call) -> bool:
    """Whether this makes a layer of torch that has parameters."""
    layer = _torch_layer(code, call)
    return layer in _MATRICES or layer in _NORMS or layer == "Sequential"


def _torch_layer(code: Code, call: ast.Call) -> str:
    home, _, name = code.dotted(call.func).rpartition(".")
    return name if home == "torch.nn" or home.startswith("torch.nn.modules") else ""


def _kinds(code: Code, value: ast.expr, prefix: str) -> Iterator[Kind]:
    if isinstance(value, ast.List | ast.Tuple):
        yield from _each(code, value.elts, prefix)
    if not isinstance(value, ast.Call):
        return
    layer, dot = _torch_layer(code, value), f"{prefix}." if prefix else ""
    if layer == "Sequential":
        yield from _each(code, value.args, prefix)
    elif layer == "ModuleList" and len(value.args) == 1:
        yield from _kinds(code, value.args[0], prefix)
    elif layer == "ModuleDict" and value.args and isinstance(value.args[0], ast.Dict):
        for key, inner in zip(value.args[0].keys, value.args[0].values, strict=True):
            if isinstance(key, ast.Constant):
                yield from _kinds(code, inner, f"{dot}{key.value}")  # type: ignore[str-bytes-safe]
    elif layer in _NORMS and not _is_off(value, "affine", "elementwise_affine"):
        yield Kind(f"{dot}weight", 1, "norm")
    elif layer in _MATRICES:
        yield Kind(f"{dot}weight", _MATRICES[layer])
        if layer != "Embedding" and not _is_off(value, "bias"):
            yield Kind(f"{dot}bias", 1, "bias")
    elif isinstance(home := code.definition(value.func), ast.ClassDef) and home.name.endswith("Norm"):
        # A norm of their own: what it keeps as a parameter scales.
        for (owner, name), values in code.attributes.items():
            one = values[0] if owner is home and len(values) == 1 and "bias" not in name else None
            if isinstance(one, ast.Call) and code.dotted(one.func).endswith("nn.Parameter"):
                yield Kind(f"{dot}{name}", 1, "norm")


def _each(code: Code, values: list[ast.expr], prefix: str) -> Iterator[Kind]:
    if not any(isinstance(one, ast.Starred) for one in values):
        for index, one in enumerate(values):
            yield from _kinds(code, one, f"{prefix}.{index}" if prefix else str(index))


def _is_off(call: ast.Call, *names: str) -> bool:
    said = [keyword(call, name) for name in names]
    return any(isinstance(one, ast.Constant) and one.value is False for one in said)
