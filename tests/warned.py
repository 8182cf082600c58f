"""Warnings that must not come: those that end no step are not seen by a filter that makes errors of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_warning(*but: type[Warning]) -> Iterator[list[warnings.WarningMessage]]:
    """Fail where anything is warned of inside, `but` for some; the list says what was so far."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for one in but:
            warnings.simplefilter("ignore", one)
        yield told
    assert not told, [str(one.message) for one in told]
