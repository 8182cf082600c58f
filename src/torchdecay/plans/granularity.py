"""Over what of a tensor a norm is taken: the whole, or each of its slices on its own."""

from __future__ import annotations

from typing import Literal, get_args

from torchdecay.arguments import check_word

Per = Literal["tensor", "row", "column", "expert"]
"""Slices that have a norm each: the tensor itself; rows or columns of its matrices; what lies along its first
dimension, the experts of a stack."""
WORDS: tuple[Per, ...] = get_args(Per)


def check_per(per: Per | None, name: str) -> None:
    """Refuse what is no granularity; None is `natural`."""
    if per is not None:
        check_word(per, f"{name} per", WORDS)


def natural(num_dims: int) -> Per:
    """Each expert where a tensor has three dimensions, a stack of matrices; else the tensor."""
    return "expert" if num_dims == 3 else "tensor"


def dims_of(per: Per | None, num_dims: int) -> tuple[int, ...] | None:
    """The dimensions that each norm is taken over; None is all of them.

    A tensor of three dimensions is a stack of matrices; of more a convolution's kernel, a matrix of (first dimension,
    rest), whose columns go with its second dimension.
    """
    per = per or natural(num_dims)
    if per == "tensor":
        return None
    if per == "expert" or (per == "row" and num_dims != 3):
        return tuple(range(1, num_dims))
    if num_dims == 3:
        return (2,) if per == "row" else (1,)
    return (0, *range(2, num_dims))
