"""Numbers of a weight's shape that never stand in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Elementwise:
    """Numbers of a parameter's shape that are worked out part by part.

    Attributes:
        of: takes `tensors`, or the same part of each, to a new tensor of that part's shape.
        tensors: of the parameter's shape; or 0-d, for a number that changes from step to step, which a compiled pass
            would otherwise be compiled anew for.
    """

    of: Callable[..., Tensor]
    tensors: tuple[Tensor, ...]

    def whole(self) -> Tensor:
        """All of them at once."""
        return self.of(*self.tensors)


@dataclass(frozen=True)
class Columns:
    """`Elementwise` numbers of several weights by one function.

    Attributes:
        places: which weights they are.
        of: as of `Elementwise`.
        tensors: for each thing that it takes the tensors of all these weights, or the one number of all.
    """

    places: list[int]
    of: Callable[..., Tensor]
    tensors: tuple[list[Tensor] | Tensor, ...]

    def each(self) -> Iterator[tuple[int, Elementwise]]:
        """The places, and what is of each."""
        for index, place in enumerate(self.places):
            yield place, Elementwise(self.of, tuple(t[index] if isinstance(t, list) else t for t in self.tensors))
