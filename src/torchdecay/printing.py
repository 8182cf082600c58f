"""What results print: reports says it, which stands above them, so it is called by name, from this one table.

These are the only calls from a room to one above it, and tests/test_architecture.py says so.
"""

from __future__ import annotations

import importlib

WORDS = {
    "Comparison": "torchdecay.reports.comparison.sentences:verdict",
    "Direction": "torchdecay.reports.tables:direction_in_words",
    "Ladder": "torchdecay.reports.tables:verdict",
    "Sweep": "torchdecay.reports.sweep.sentences:verdict",
}
"""Class of a result → the function that says it."""


def words_of(result: object) -> str:
    """What `print(result)` shows."""
    known = next(WORDS[cls.__name__] for cls in type(result).__mro__ if cls.__name__ in WORDS)
    module, _, name = known.partition(":")
    said: str = getattr(importlib.import_module(module), name)(result)
    return said
