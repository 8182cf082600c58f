"""One answer per class, kept: a model has many modules of few classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar, cast

T = TypeVar("T")


def per_class(function: Callable[[type], T]) -> Callable[[type], T]:
    """Ask `function` once for each class; the oldest answers go, as parametrizations make a class per module."""
    return cast("Callable[[type], T]", lru_cache(maxsize=4096)(function))
