r"""Every published form of decay as a preset: a function that returns a `Decay`.

Symbols: θ weights, g gradient, u the optimizer's own update (learning rate included), η_t learning rate with peak
η_max, λ coefficient. All take `schedule=` (see `torchdecay.schedules`), most `mask=` (see `torchdecay.spare_rows`).

Read in this order: adaptive, l2, norms, references, thresholds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchdecay.plans.forms.adaptive import *
from torchdecay.plans.forms.l2 import *
from torchdecay.plans.forms.norms import *
from torchdecay.plans.forms.references import *
from torchdecay.plans.forms.thresholds import *
from torchdecay.plans.presets import PRESETS

__all__ = list(PRESETS)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A form that was declared elsewhere."""
        if name in PRESETS:
            return PRESETS[name].make
        raise AttributeError(f"module {__name__!r} has no form {name!r}")

    def __dir__() -> list[str]:
        return list(PRESETS)
