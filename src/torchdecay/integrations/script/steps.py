"""The two hooks of torch that see every optimizer's steps; all else is loaded when the first of them is taken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchdecay.integrations.script.session import Session

_environment: Mapping[str, str] = {}
_session: Session | None = None


def hook(module: Any, environment: Mapping[str, str]) -> None:
    """Hook all optimizers.

    Args:
        module: `torch.optim.optimizer`.
        environment: what to do.
    """
    global _environment
    _environment = dict(environment)
    module.register_optimizer_step_pre_hook(_before)
    module.register_optimizer_step_post_hook(_after)


def _before(optimizer: Any, args: Any, kwargs: Any) -> None:
    import torch

    # A compiled step would be traced through here, and break: it is left alone.
    if not torch.compiler.is_compiling():
        (_session if _session is not None and _session.pid == os.getpid() else _begin()).before(optimizer)


def _after(optimizer: Any, args: Any, kwargs: Any) -> None:
    import torch

    if not torch.compiler.is_compiling() and _session is not None and _session.pid == os.getpid():
        _session.after(optimizer)


def _begin() -> Session:
    """A record begins with a process's first step; what a fork brought along is its parent's."""
    global _session
    from torchdecay.integrations.script.session import Session

    _session = Session.begin(_environment)
    return _session


def close(environment: Mapping[str, str]) -> None:
    """At the end of the script's own process: say so where nothing was seen."""
    from torchdecay.integrations.script.unseen import say_unseen

    if _session is None:
        say_unseen(environment)
