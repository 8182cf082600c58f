"""torchdecay: say, apply, see and tune weight decay in PyTorch.

A plan is a table with one row per parameter: what pulls it, toward where, where the pull enters the step, how hard,
and why. Everything here makes a plan, carries one out, or reads one back.

Nothing is loaded before it is used, torch neither: `__init__.pyi` says where each name lives.
"""

from torchdecay.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__spec__)
