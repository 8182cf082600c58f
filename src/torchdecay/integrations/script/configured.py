"""What the script's own settings say weight_decay is, beside what its optimizers have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.optim import Optimizer

from torchdecay.apply.handle import handle_of
from torchdecay.observe.groups import as_number, decay_of
from torchdecay.text import listing

SETTINGS = ("weight_decay", "wd")
"""Names under which a setting says it."""


class Configured:
    """Settings with a weight_decay, and whether an optimizer has it."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._at_work: dict[float, str] = {}
        self._is_known = True

    def add(self, settings: list[Any], optimizer: Optimizer) -> None:
        """What is there before an optimizer's first step."""
        for one in settings:
            for name in SETTINGS:
                value, kind = as_number(getattr(one, "__dict__", {}).get(name)), type(one)
                # What a class says by itself nobody asked for.
                if value is not None and all(base.__dict__.get(name) != value for base in kind.__mro__):
                    self._said[f"{kind.__name__}.{name}"] = value
        for value in _coefficients(optimizer):
            self._is_known = self._is_known and value is not None
            if value is not None:
                self._at_work.setdefault(value, type(optimizer).__name__)

    def unread(self) -> list[str]:
        """That no optimizer has the value which the script's settings say, where none of them is at work."""
        if not self._is_known or not self._at_work or not self._at_work.keys().isdisjoint(self._said.values()):
            return []
        found = listing([f"{name} has {value:g}" for value, name in self._at_work.items()], most=4)
        return [
            f"{name} of the script is {value:g}, and no optimizer has it at its first step: {found}. It is not "
            "read, or a checkpoint or another line replaces it."
            for name, value in self._said.items()
        ]


def _coefficients(optimizer: Optimizer) -> Iterator[float | None]:
    if (handle := handle_of(optimizer)) is not None:
        yield from (row.decay.coefficient for row in handle.plan.rows if row.decay is not None)
        return
    for group in optimizer.__dict__.get("param_groups", ()):
        yield as_number(decay_of(optimizer, group)[1])
