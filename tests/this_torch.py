"""What torch has that is installed: the oldest one that is claimed lacks some of what is tested."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from torch import optim


class _Absent(optim.Optimizer):
    """Stands in a table of classes for one that this torch lacks, and skips the test that makes one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pytest.skip(f"this torch has no {type(self).__name__}")


Muon: type[optim.Optimizer] = getattr(optim, "Muon", None) or type("Muon", (_Absent,), {})

needs_adams_switch = pytest.mark.skipif(
    "decoupled_weight_decay" not in inspect.signature(optim.Adam).parameters,
    reason="the Adam of this torch has no decoupled_weight_decay",
)
