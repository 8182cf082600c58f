"""Whatever goes wrong in torchdecay stays in torchdecay: one line on stderr, and the script goes on as it was."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Warnings of this thread are nobody's, and those that were shown once are not shown again because of us.

    Nor do the script's modes of torch hear what is computed.

    `warnings.catch_warnings` would not do: it makes Python forget which warnings it has shown.
    """
    module: Any = warnings
    mine, warn, mutated = threading.get_ident(), module.warn, getattr(module, "_filters_mutated", None)

    def quiet(message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **more: Any) -> None:
        if threading.get_ident() != mine:
            warn(message, category, stacklevel + 1, source, **more)

    module.warn = quiet
    if mutated is not None:
        module._filters_mutated = lambda: None
    try:
        if "torch" not in sys.modules:  # a script without torch is not made to wait for it
            yield
            return
        from torchdecay.observe.monitor.modes import unheard_by_modes

        with unheard_by_modes():
            yield
    finally:
        module.warn = warn
        if mutated is not None:
            module._filters_mutated = mutated


def rank() -> tuple[int, int]:
    """Rank and number of the processes that train together: torch.distributed's, else the launcher's."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        return int(os.environ.get("RANK") or 0), int(os.environ.get("WORLD_SIZE") or 1)
    except ValueError:
        return 0, 1
