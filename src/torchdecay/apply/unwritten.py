"""Weights that nobody had written to when a plan measured them: memory as `to_empty` leaves it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from torchdecay.apply.work import Target
from torchdecay.errors import ApplyError
from torchdecay.sharding import is_dtensor, local
from torchdecay.text import listed


class Unwritten:
    """Refuses the first step where sharded weights got their values after they were measured.

    Nothing tells memory that is no value yet from one: but that it was never written to, and then was. A tensor that
    its owner made of values, and then gives others, looks the same; so only what is sharded is looked at, as that is
    where weights are made on meta.
    """

    def __init__(self, ones: Iterable[Target]) -> None:
        self._ones = {one.name: one.param for one in ones if is_dtensor(one.param) and _version(one.param) == 0}
        self._stood = dict.fromkeys(self._ones, 0)
        self._written: set[str] = set()

    def check(self, *, moves: bool) -> None:
        """Before a step, of which it is known whether it moves weights: one that does not may come before a load.

        Raises:
            ApplyError: weights were written to since they were measured.
        """
        self._written |= {name for name, param in self._ones.items() if _version(param) != self._stood[name]}
        if moves and self._written:
            raise ApplyError(
                f"{listed(sorted(self._written))} had no values, or others, when the plan measured them.",
                "They were written to since; norms and references would be those of what was in memory before.",
                "Initialize or load the weights, then call td.attach.",
            )

    def follow(self) -> None:
        """After a step that moved no weights, and yet wrote to them."""
        self._stood = {name: _version(param) for name, param in self._ones.items()}


def _version(param: Tensor) -> int:
    # What is done to a DTensor counts on it, what is done to its part on that.
    return sum(1 if one.is_inference() else one._version for one in (param, local(param)))
