"""torchdecay: say, apply, see and tune weight decay in PyTorch.

A plan is a table with one row per parameter: what pulls it, toward where, where the pull enters the step, how hard,
and why. Everything here makes a plan, carries one out, or reads one back.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torchdecay.apply.attach import Handle, attach
from torchdecay.apply.checkpoint import LoadReport, load_optimizer
from torchdecay.apply.lowering import Lowering, lower
from torchdecay.apply.penalty import penalty
from torchdecay.errors import (
    ApplyError,
    DecayError,
    ForgottenPenaltyWarning,
    LoadError,
    MissingExtra,
    NotCompiledWarning,
    OwnershipWarning,
    PlanError,
    TaskError,
    TorchdecayError,
    TornHistoryWarning,
    UnitError,
    UnknownRoleWarning,
)
from torchdecay.plans import forms, policies, schedules
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.diff import PlanDiff
from torchdecay.plans.forms import (
    cautious,
    corrected,
    coupled,
    decoupled,
    elastic_net,
    independent,
    l1,
    native,
    penalized,
    per_step,
    toward,
)
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import param_groups, plan
from torchdecay.plans.policies import STANDARD
from torchdecay.plans.references import spare_rows
from torchdecay.plans.rules import DEFAULT, rule, times
from torchdecay.plans.selectors import exempt, names, ndim, role, scale_invariant
from torchdecay.plans.split import Split, split

if TYPE_CHECKING:
    from torchdecay.observe.audit.audit import audit
    from torchdecay.observe.audit.result import Audit, Finding
    from torchdecay.observe.forecast.forecast import forecast
    from torchdecay.observe.forecast.result import Forecast, GroupForecast
    from torchdecay.observe.inspect import inspect
    from torchdecay.observe.monitor.history import History
    from torchdecay.observe.monitor.monitor import Monitor
    from torchdecay.observe.run import Run
    from torchdecay.observe.units.converting import convert
    from torchdecay.observe.units.rescaled import Rescaled
    from torchdecay.observe.units.rescaling import rescale
    from torchdecay.observe.units.suggesting import suggest
    from torchdecay.observe.units.suggestion import Suggestion
    from torchdecay.observe.verify.verify import verify

__version__ = "0.1.0"

_LATE = {
    "Audit": "torchdecay.observe.audit.result",
    "Finding": "torchdecay.observe.audit.result",
    "History": "torchdecay.observe.monitor.history",
    "Monitor": "torchdecay.observe.monitor.monitor",
    "Forecast": "torchdecay.observe.forecast.result",
    "GroupForecast": "torchdecay.observe.forecast.result",
    "Rescaled": "torchdecay.observe.units.rescaled",
    "Run": "torchdecay.observe.run",
    "Suggestion": "torchdecay.observe.units.suggestion",
    "audit": "torchdecay.observe.audit.audit",
    "convert": "torchdecay.observe.units.converting",
    "forecast": "torchdecay.observe.forecast.forecast",
    "inspect": "torchdecay.observe.inspect",
    "rescale": "torchdecay.observe.units.rescaling",
    "suggest": "torchdecay.observe.units.suggesting",
    "verify": "torchdecay.observe.verify.verify",
    "lab": "torchdecay.lab",
    "reports": "torchdecay.reports",
}
"""Names that are imported when they are used: rooms that load numpy and matplotlib, and what only some scripts need."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'torchdecay' has no attribute {name!r}")
    module = importlib.import_module(_LATE[name])
    found = module if name in ("lab", "reports") else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})


__all__ = [
    "DEFAULT",
    "STANDARD",
    "ApplyError",
    "Audit",
    "Decay",
    "DecayError",
    "Finding",
    "Forecast",
    "ForgottenPenaltyWarning",
    "GroupForecast",
    "Handle",
    "History",
    "LoadError",
    "LoadReport",
    "Lowering",
    "MissingExtra",
    "Monitor",
    "NotCompiledWarning",
    "OwnershipWarning",
    "Plan",
    "PlanDiff",
    "PlanError",
    "Rescaled",
    "Run",
    "Scale",
    "Site",
    "Split",
    "Suggestion",
    "TaskError",
    "TorchdecayError",
    "TornHistoryWarning",
    "UnitError",
    "UnknownRoleWarning",
    "attach",
    "audit",
    "cautious",
    "convert",
    "corrected",
    "coupled",
    "decoupled",
    "elastic_net",
    "exempt",
    "forecast",
    "forms",
    "independent",
    "inspect",
    "l1",
    "load_optimizer",
    "lower",
    "names",
    "native",
    "ndim",
    "param_groups",
    "penalized",
    "penalty",
    "per_step",
    "plan",
    "policies",
    "rescale",
    "role",
    "rule",
    "scale_invariant",
    "schedules",
    "spare_rows",
    "split",
    "suggest",
    "times",
    "toward",
    "verify",
]
