"""Let the section that docstrings here call `Example:` be read as code, as Griffe reads `Examples:`."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section in every docstring, in memory."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Take part in the reading of the source: Griffe calls this for every object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
