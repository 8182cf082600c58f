"""Whatever goes wrong in torchdecay stays in torchdecay: one line on stderr, and the script goes on as it was."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from torchdecay.text import describe_error, printable

T = TypeVar("T")


def say(*lines: str) -> None:
    """Write lines to the standard error that the process was started with, at once; where that is closed, nowhere."""
    text = "".join(f"{line}\n" for line in lines)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.__stderr__.write(text)  # type: ignore[union-attr]
        sys.__stderr__.flush()  # type: ignore[union-attr]


class Guard:
    """Calls what may fail, and keeps note of what did.

    Args:
        speaks: whether this process says so, too; of several that train together one does.

    Attributes:
        notes: what failed, each once.
    """

    def __init__(self, *, speaks: bool) -> None:
        self.speaks = speaks
        self.notes: list[str] = []

    def __call__(self, what: str, call: Callable[[], T]) -> T | None:
        """What `call` returns; None where it failed, which is then noted."""
        try:
            with unheard():
                return call()
        except Exception as error:
            self.note(what, error)
            return None

    def note(self, what: str, error: BaseException) -> None:
        """Note that something failed."""
        with contextlib.suppress(Exception):
            said = " ".join(line.strip() for line in describe_error(error).splitlines())
            self.tell(f"{what}: {printable(said)}", " The script goes on.")

    def tell(self, line: str, more: str = "") -> None:
        """Note what is worth knowing, once; `more` is said and not kept."""
        if line not in self.notes:
            self.notes.append(line)
            if self.speaks:
                say(f"torchdecay: {line}{more}")


_unheard: Counter[int] = Counter()
"""How often each thread is unheard, one within another."""
_heard: list[Callable[[], None]] = []
"""What gives warnings and logs back what they had."""
_changing = threading.Lock()


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Warnings and logs of this thread are nobody's, and warnings that were shown are not shown again because of us.

    Nor do the script's modes of torch hear what is computed.

    `warnings.catch_warnings` would not do: it makes Python forget which warnings it has shown. Threads come and go in
    any order, so the first one changes what warns, and the last one changes it back.
    """
    mine = threading.get_ident()
    with _changing:
        if not _unheard:
            _silence()
        _unheard[mine] += 1
    try:
        if "torch" not in sys.modules:  # a script without torch is not made to wait for it
            yield
            return
        from torchdecay.observe.monitor.modes import unheard_by_modes

        with unheard_by_modes():
            yield
    finally:
        with _changing:
            _unheard[mine] -= 1
            if not _unheard[mine]:
                del _unheard[mine]
            if not _unheard:
                _restore()


def _silence() -> None:
    module: Any = warnings
    warn = module.warn

    def quiet(message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **more: Any) -> None:
        if threading.get_ident() not in _unheard:
            warn(message, category, stacklevel + 1, source, **more)

    _put(module, "warn", quiet)
    if hasattr(module, "_filters_mutated"):
        _put(module, "_filters_mutated", lambda: None)
    if (logger := getattr(sys.modules.get("logging"), "Logger", None)) is not None:
        handle = logger.callHandlers

        def unlogged(self: Any, record: Any) -> None:
            if threading.get_ident() not in _unheard:
                handle(self, record)

        _put(logger, "callHandlers", unlogged)


def _put(where: Any, name: str, value: Any) -> None:
    _heard.append(partial(setattr, where, name, getattr(where, name)))
    setattr(where, name, value)


def _restore() -> None:
    while _heard:
        _heard.pop()()


def _begin_anew() -> None:
    """In a fork no other thread goes on, nor gives back what it had changed."""
    global _changing
    _changing = threading.Lock()
    mine = threading.get_ident()
    for other in [one for one in _unheard if one != mine]:
        del _unheard[other]
    if not _unheard:
        _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def rank() -> tuple[int, int]:
    """Rank and number of the processes that train together: torch.distributed's, else the launcher's."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        return int(os.environ.get("RANK") or 0), int(os.environ.get("WORLD_SIZE") or 1)
    except ValueError:
        return 0, 1
