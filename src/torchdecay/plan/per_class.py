"""A cache of one answer per class that lets classes go: parametrizations make a class for each module."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


def per_class(function: Callable[[type], T]) -> Callable[[type], T]:
    """Ask `function` once for each class that lives; the answer must not refer to the class."""
    known: WeakKeyDictionary[type, T] = WeakKeyDictionary()

    @functools.wraps(function)
    def answer(kind: type) -> T:
        try:
            return known[kind]
        except KeyError:
            return known.setdefault(kind, function(kind))

    return answer
