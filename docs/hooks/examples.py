"""Let the section that docstrings here call `Example:` be read as code, as Griffe reads `Examples:`.

Griffe reads sources; what forms share is said of each when it is declared, so theirs is taken from the function.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

from torchdecay.plans.presets import PRESETS


class Examples(griffe.Extension):
    """Renames the section in every docstring, in memory."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Take part in the reading of the source: Griffe calls this for every object."""
        if obj.docstring:
            if obj.path.startswith("torchdecay.plans.forms.") and obj.name in PRESETS:
                obj.docstring.value = PRESETS[obj.name].make.__doc__ or ""
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
