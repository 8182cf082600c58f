"""Trying it: tasks, one training loop, comparisons."""

from torchdecay.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__spec__)
