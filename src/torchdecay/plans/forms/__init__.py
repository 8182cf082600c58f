r"""Every published form of decay as a preset: a function that returns a `Decay`.

Symbols: θ weights, g gradient, u the optimizer's own update (learning rate included), η_t learning rate with peak
η_max, λ coefficient. All take `schedule=` (see `torchdecay.schedules`) and `mask=` (see `torchdecay.spare_rows`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchdecay.arguments import check_number
from torchdecay.errors import DecayError
from torchdecay.plans.decay import Decay
from torchdecay.plans.forms.adaptive import (
    ada_decay,
    adaptive,
    by_spectrum,
    cautious,
    constrained,
    norm_control,
    spectral,
    stable,
)
from torchdecay.plans.forms.l2 import corrected, coupled, decoupled, independent, native, penalized, per_step
from torchdecay.plans.forms.references import projected, toward, toward_average
from torchdecay.plans.forms.thresholds import elastic_net, huber, l1, proximal

PRESETS: dict[str, Callable[..., Decay]] = {
    preset.__name__: preset
    for preset in (
        native,
        coupled,
        decoupled,
        independent,
        per_step,
        corrected,
        cautious,
        l1,
        elastic_net,
        toward,
        penalized,
        proximal,
        huber,
        toward_average,
        projected,
        stable,
        adaptive,
        ada_decay,
        constrained,
        norm_control,
        spectral,
        by_spectrum,
    )
}


def as_decay(value: Any) -> Decay | None:
    """A Decay as it is; a number as `native(number)`; None and 0 as None.

    Raises:
        DecayError: for anything else.
    """
    if value is None or isinstance(value, Decay):
        return value
    if isinstance(value, str):
        raise DecayError(
            f"the decay is the string {value!r}.",
            "In Python a decay is a value or a number; spellings are for the command line.",
            "Write td.decoupled(0.1), a number, or None.",
        )
    number = check_number(value, "weight_decay")
    return native(number) if number else None


__all__ = [
    "PRESETS",
    "ada_decay",
    "adaptive",
    "as_decay",
    "by_spectrum",
    "cautious",
    "constrained",
    "corrected",
    "coupled",
    "decoupled",
    "elastic_net",
    "huber",
    "independent",
    "l1",
    "native",
    "norm_control",
    "penalized",
    "per_step",
    "projected",
    "proximal",
    "spectral",
    "stable",
    "toward",
    "toward_average",
]
