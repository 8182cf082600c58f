"""Modes of torch that are active, counters of operators say, hear nothing of what only looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch.utils import _python_dispatch

_C = cast(Any, torch._C)
_NOTHING = nullcontext()


def unheard_by_modes() -> AbstractContextManager[None]:
    """No mode of `__torch_dispatch__` or `__torch_function__` is active inside."""
    return _unheard() if _C._len_torch_function_stack() or _C._len_torch_dispatch_stack() else _NOTHING


@contextmanager
def _unheard() -> Iterator[None]:
    with ExitStack() as stack:
        if _C._len_torch_function_stack():
            stack.enter_context(_C.DisableTorchFunction())
        if _C._len_torch_dispatch_stack():
            stack.enter_context(_python_dispatch._disable_current_modes())
        yield
