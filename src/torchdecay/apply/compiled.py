"""Decay passes through torch.compile: one read and one write of each tensor, whatever the form."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from torchdecay.apply.kernels import Run, Tensors, as_vectors, in_parts
from torchdecay.apply.work import Amount
from torchdecay.errors import NotCompiledWarning, warn_in_step
from torchdecay.text import describe_error

_WORTH_A_CALL = 1 << 16
"""Elements from which a compiled pass on a CPU gains more than its call costs, some 30 microseconds."""


def runner() -> Run:
    """A runner that compiles, or `in_parts` with a warning that gives the reason where nothing can be compiled."""
    try:
        _compiled(_probe_)(torch.zeros(3), torch.zeros((), dtype=torch.float64), (), 1.0)
    except Exception as error:
        # Backends raise whatever their toolchain does; all of it means that this machine can't compile.
        warn_in_step(
            f"compile=True, but nothing can be compiled here: {describe_error(error)}. The passes run "
            "uncompiled, with the same numbers. On a CPU torch.compile needs a C++ compiler: install one, or point CXX "
            "at it.",
            NotCompiledWarning,
            stacklevel=4,
        )
        return in_parts
    return _run_compiled


def _run_compiled(kernel: Callable[..., None], param: Tensor, amount: Amount, parts: Tensors, *setting: Any) -> None:
    if type(param.data) is not Tensor or (param.device.type == "cpu" and param.numel() < _WORTH_A_CALL):
        in_parts(kernel, param, amount, parts, *setting)
        return
    # Numbers in tensors, because a float that changes would be compiled anew; of the weights' own precision, because
    # one that has to be converted is converted for each few weights.
    precision = torch.float32 if param.dtype == torch.float32 else torch.float64
    held = amount if isinstance(amount, Tensor) else torch.tensor(amount, dtype=precision)
    setting = tuple(torch.tensor(one, dtype=precision) if isinstance(one, float) else one for one in setting)
    tensors = [param.detach(), held, *parts]
    # As vectors, because each number of dimensions would be compiled anew, and torch stops after eight.
    flat, held, *rest = as_vectors(tensors, setting) or tensors
    _compiled(kernel)(flat, held, tuple(rest), *setting)


@cache
def _compiled(kernel: Callable[..., None]) -> Callable[..., None]:
    made: Callable[..., None] = torch.compile(kernel, dynamic=True)
    return made


def _probe_(p: Tensor, amount: Tensor, parts: Tensors, setting: float) -> None:
    p.sub_(p * amount)
