"""Optimizers whose parameters are not the weights that they train, but a mixture of those with an average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from torchdecay.errors import ApplyError
from torchdecay.plans.decay import Decay, Site


def keeps_average(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether the optimizer trains hidden weights, and moves the parameters between those and their average.

    Schedule-free optimizers do, in every library that has them: they know a training mode, and are called so.
    """
    return "train_mode" in group or any("schedulefree" in cls.__name__.lower() for cls in type(optimizer).__mro__)


def check_averaging(optimizer: Optimizer, group: Mapping[str, Any], decay: Decay) -> None:
    """Refuse a pull on the parameters where the weights behind them would not be pulled.

    Raises:
        ApplyError: naming the decay, the optimizer and what would do.
    """
    if decay.site in (Site.BEFORE, Site.AFTER) and keeps_average(optimizer, group):
        raise ApplyError(
            f"{decay!r} can't run on {type(optimizer).__name__}.",
            "Its parameters are a mixture of hidden weights and their average, so that a pull on them would miss the "
            "hidden weights, and move the average far too much.",
            "Use its own decay, td.native(wd), or td.coupled(wd), which goes through the gradient.",
        )
