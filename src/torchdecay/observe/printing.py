"""Tables as text."""

from __future__ import annotations

import io
import sys
from typing import Any


def as_text(table: Any, *, width: int | None, color: bool) -> str:
    """Whatever rich can print, `width` columns wide; None takes the terminal's width, or 120."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=width or (None if sys.stdout.isatty() else 120),
        force_terminal=color,
        color_system="standard" if color else None,
    )
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")
