"""The two hooks of torch that see every optimizer's steps; all else is loaded when the first of them is taken."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchdecay.integrations.script.session import Session

_environment: Mapping[str, str] = {}
_session: Session | None = None
_has_failed = False
_beginning = threading.RLock()


def hook(module: Any, environment: Mapping[str, str]) -> None:
    """Hook all optimizers.

    Args:
        module: `torch.optim.optimizer`.
        environment: what to do.
    """
    global _environment
    _environment = dict(environment)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)
    module.register_optimizer_step_pre_hook(_before)
    module.register_optimizer_step_post_hook(_after)


def _before(optimizer: Any, args: Any, kwargs: Any) -> None:
    session = _session
    if session is None:
        session = None if _is_traced() or _has_failed else _begin()
    if session is not None:
        session.before(optimizer)


def _after(optimizer: Any, args: Any, kwargs: Any) -> None:
    if _session is not None:
        _session.after(optimizer)


def _is_traced() -> bool:
    """Whether the step is being compiled: it is left alone."""
    import torch

    return torch.compiler.is_compiling()


def _forget() -> None:
    """What a fork brought along is its parent's."""
    global _session, _beginning
    _session, _beginning = None, threading.RLock()


def _begin() -> Session | None:
    """A record begins with a process's first step, also where several threads take one at once."""
    global _session, _has_failed
    from torchdecay.integrations.script.guard import say, unheard

    with _beginning:
        if _session is not None or _has_failed:
            return _session
        try:
            with unheard():
                from torchdecay.integrations.script.session import Session

                _session = Session.begin(_environment)
        except Exception as error:
            _has_failed = True
            say(f"torchdecay: not at work: {type(error).__name__}: {error}")
    return _session


def close(environment: Mapping[str, str]) -> None:
    """At the end of the script's own process: say so where nothing was seen."""
    from torchdecay.integrations.script.unseen import say_unseen

    if _session is None:
        say_unseen(environment)
