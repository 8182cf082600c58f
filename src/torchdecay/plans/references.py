"""Toward where, and with which entries left out: references and masks as values."""

from __future__ import annotations

import hashlib
import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torchdecay.arguments import check_count, check_number, store
from torchdecay.encoding import Opaque, value_type
from torchdecay.errors import DecayError
from torchdecay.text import spelled

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


class Reference:
    """Where the pull leads. Parameters that a reference lacks are pulled toward 0, and the lowering says so."""


@value_type
@dataclass(frozen=True)
class Initial(Reference):
    """The weights as they were when the plan was attached; saved with the optimizer's state by `Handle`."""

    def __repr__(self) -> str:
        return '"initial"'


@value_type
@dataclass(frozen=True)
class Filled(Reference):
    """One number everywhere: 1 for the gains of norms that are applied as they are."""

    number: float

    def __post_init__(self) -> None:
        store(self, number=check_number(self.number, "the reference", minimum=-math.inf))

    def __repr__(self) -> str:
        return spelled(self.number)


@value_type
@dataclass(frozen=True)
class Average(Reference):
    """The weights' own exponential moving average: ref ← beta·ref + (1 − beta)·θ after each step, from the start."""

    beta: float

    def __post_init__(self) -> None:
        store(self, beta=check_number(self.beta, "average beta", maximum=1.0))

    def __repr__(self) -> str:
        return f"average({spelled(self.beta)})"


@value_type
@dataclass(frozen=True)
class File(Reference):
    """A file of named tensors (safetensors, or torch's read with weights_only=True), checked by its hash."""

    path: str
    sha256: str = ""

    def __repr__(self) -> str:
        return repr(self.path)


@value_type
@dataclass(frozen=True)
class Bound(Reference):
    """A name that `attach(..., bind={name: {parameter name: tensor}})` fills in."""

    name: str

    def __repr__(self) -> str:
        return repr(self.name)


@dataclass(frozen=True)
class Tensors(Reference):
    """Tensors held in memory, by parameter name; cannot be written to a plan file."""

    tensors: Mapping[str, Tensor] = field(hash=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tensors) and self.tensors is other.tensors

    def __hash__(self) -> int:
        return id(self.tensors)

    def __repr__(self) -> str:
        return f"<{len(self.tensors)} tensors>"


def as_reference(value: Any) -> Reference:
    """A Reference from what people write: "initial", a number, a file's path, a name to bind, or tensors by name."""
    if isinstance(value, (Reference, Opaque)):
        return cast(Reference, value)
    if not isinstance(value, bool) and isinstance(value, Real):
        return Filled(cast(float, value))
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value.endswith(SUFFIXES)):
        path = Path(value)
        if not path.is_file():
            raise DecayError(
                f'the reference file "{path}" {"is a folder" if path.is_dir() else "does not exist"}.',
                fix='Give the path of a safetensors or torch file of tensors, "initial", or a name to bind.',
            )
        return File(str(path), file_sha256(path))
    if value == "initial":
        return Initial()
    if isinstance(value, str) and value:
        return Bound(value)
    if isinstance(value, Mapping) and value:
        from torch import Tensor

        if all(isinstance(one, Tensor) for one in value.values()):
            return Tensors(value)
    raise DecayError(
        f"the reference is {reprlib.repr(value)}, of type {type(value).__name__}.",
        "A pull needs to know where it leads.",
        'Give "initial", a number, the path of a file of tensors, a state dict, or a name to bind at attach.',
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Mask:
    """Which entries of a tensor take part, or how much (M ⊙ in the equations)."""


@value_type
@dataclass(frozen=True)
class SpareRows(Mask):
    """Every row takes part but these: an embedding's padding row, say. Rows count along the first dimension."""

    rows: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise DecayError("spare_rows got no row.", fix="Write td.spare_rows(0).")
        store(self, rows=tuple(check_count(row, "spare_rows row", minimum=0) for row in self.rows))

    def __repr__(self) -> str:
        return f"spare_rows({', '.join(map(str, self.rows))})"


@value_type
@dataclass(frozen=True)
class BoundMask(Mask):
    """A name that `attach(..., bind={name: {parameter name: tensor}})` fills in.

    Of a tensor of bools True takes part; one of numbers, at least 0, says what each element's pull is multiplied by.
    """

    name: str

    def __repr__(self) -> str:
        return repr(self.name)


def spare_rows(*rows: int) -> SpareRows:
    """A mask that leaves the given rows of each tensor alone, bit for bit: padding rows, say.

    Args:
        rows: indices along the first dimension, at least 0. A row beyond a tensor's size is an error at attach.

    Example:
        >>> import torchdecay as td
        >>> td.decoupled(0.1, mask=td.spare_rows(0))
        decoupled(0.1, mask=spare_rows(0))
    """
    return SpareRows(rows)


def as_mask(value: Any) -> Mask | None:
    """A Mask from what people write: None, `spare_rows(...)`, or a name to bind at attach."""
    if value is None or isinstance(value, (Mask, Opaque)):
        return cast("Mask | None", value)
    if isinstance(value, str) and value:
        return BoundMask(value)
    raise DecayError(
        f"the mask is {reprlib.repr(value)}, of type {type(value).__name__}.",
        fix='Give td.spare_rows(0, ...), or a name such as "keep" and attach(..., bind={"keep": tensors}).',
    )
