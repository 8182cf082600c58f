"""What torch has that is installed: the oldest one that is claimed lacks some of what is tested."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from torch import optim

from torchdecay.optimizers.cards import torch_class, torch_names


class _Absent(optim.Optimizer):
    """Stands in a table of classes for one that this torch lacks, and skips the test that makes one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pytest.skip(f"this torch has no {type(self).__name__}")


Muon: type[optim.Optimizer] = getattr(optim, "Muon", None) or type("Muon", (_Absent,), {})

NO_SWITCH = "the Adam of this torch has no decoupled_weight_decay"
HAS_SWITCH = "decoupled_weight_decay" in inspect.signature(optim.Adam).parameters
needs_adams_switch = pytest.mark.skipif(not HAS_SWITCH, reason=NO_SWITCH)

_LACKING = {
    "argument 'decoupled_weight_decay'": NO_SWITCH,
    "output 0 of LerpBackward0": "the Adam of this torch can't be differentiated through",
    "no attribute 'record_event'": "the fully_shard of this torch needs an accelerator",
    "'next_functions' is invalid": "this torch does not show the nodes of functions that are written in Python",
}


def lacking(error: Exception) -> str | None:
    """Why a test failed that needs what came after the oldest torch that is claimed; None on a newer one."""
    return None if HAS_SWITCH else next((why for part, why in _LACKING.items() if part in str(error)), None)


def torch_classes() -> list[str]:
    """The classes with a card that this torch has."""
    return [name for name in torch_names() if torch_class(name) is not None]
