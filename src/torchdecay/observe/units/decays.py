"""The unit in which a Decay is said."""

from __future__ import annotations

from typing import Any

from torchdecay.errors import UnitError
from torchdecay.observe.units.graph import L1L2
from torchdecay.plans.decay import Decay
from torchdecay.plans.presets import form_of
from torchdecay.plans.regularizers import ElasticNet
from torchdecay.plans.schedules import Constant

_SAME = ("native", "coupled", "decoupled", "independent", "corrected", "per_step", "l1")
_UNITS = {name: name for name in _SAME} | {"penalized": "half_penalty", "elastic_net": "l1_l2"}


def unit_of(decay: Decay) -> tuple[str, Any, float | None]:
    """Unit, value and peak learning rate of a Decay.

    Raises:
        UnitError: a form that decides by itself how hard it pulls, or a schedule.
    """
    form = form_of(decay)
    if form not in _UNITS:
        raise UnitError(
            f"{decay!r} has no unit of its own.",
            "It pulls by more than its coefficient: a gate, a controller, a reference or another regularizer.",
            f"Convert the coefficient that you mean; forms with units are {', '.join(_UNITS)}.",
        )
    if decay.schedule != Constant():
        raise UnitError(
            f"{decay!r} has a schedule, so that it is another number at each step.",
            fix="Convert its coefficient, and give the new decay the schedule.",
        )
    if isinstance(decay.regularizer, ElasticNet):
        net = decay.regularizer
        return "l1_l2", L1L2(decay.coefficient * net.l1, decay.coefficient * net.l2), decay.max_lr
    return _UNITS[form], decay.coefficient, decay.max_lr
