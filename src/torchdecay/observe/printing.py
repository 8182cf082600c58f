"""Tables as text, and numbers that JSON can hold."""

from __future__ import annotations

import io
import math
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


def finite(value: Any) -> Any:
    """The same with NaN and infinities as text, because JSON has none."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
