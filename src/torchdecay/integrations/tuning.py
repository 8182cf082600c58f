"""Optuna and Ray: a decay from a trial, in the range in which it acts within the run; and what it did, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torchdecay.errors import ApplyError, UnitError
from torchdecay.observe.lr_curve import lr_curve
from torchdecay.observe.monitor.history import History
from torchdecay.observe.run import Run
from torchdecay.plans.decay import Decay
from torchdecay.plans.forms.l2 import decoupled

LEAST_SHRINK, MOST_TIMES, MOST_FRACTION = 0.01, 100, 0.5
"""Taken of a weight in the whole run at least, forgettings of it at most, and of it in one step at most."""


def decay_range(run: Run) -> tuple[float, float]:
    r"""The coefficients of decoupled decay between which a run tells them apart.

    With Σ lr over the run, from 0.01/Σ lr, which takes 1 % of a weight in all, to 100/Σ lr, which forgets it 100 times;
    and at most half of a weight in one step.

    Args:
        run: its steps and its learning rate.

    Raises:
        UnitError: a run without a learning rate, or under a schedule that nobody can know.

    Example:
        >>> import torchdecay as td
        >>> from torchdecay.integrations.tuning import decay_range
        >>> [f"{end:.3g}" for end in decay_range(td.Run(steps=1_000, lr=1e-3))]
        ['0.01', '100']
    """
    curves = lr_curve(run, [{}])
    if curves is None:
        raise UnitError("the learning rate of this run follows a metric.", fix="Give td.Run another lr_schedule.")
    total = sum(curves[0]) / len(curves[0]) * run.num_steps
    return LEAST_SHRINK / total, min(MOST_TIMES / total, MOST_FRACTION / max(curves[0]))


def suggest_decay(
    trial: Any, run: Run, *, form: Callable[[float], Decay] = decoupled, name: str = "weight_decay"
) -> Decay:
    """The decay of a trial, on a logarithmic scale within `decay_range`.

    Args:
        trial: a trial of Optuna; or the config of a trial of Ray, whose search space has
            `tune.loguniform(*decay_range(run))` under the name.
        run: what the trial trains.
        form: what makes a Decay of the number; one whose coefficient is multiplied by the learning rate.
        name: of the parameter in the study.

    Raises:
        ApplyError: neither a trial nor a config that has the name.

    Example:
        >>> import optuna, torchdecay as td
        >>> from torchdecay.integrations.tuning import suggest_decay
        >>> trial = optuna.trial.FixedTrial({"weight_decay": 0.5})
        >>> suggest_decay(trial, td.Run(steps=1_000, lr=1e-3), form=td.cautious)
        cautious(0.5)
    """
    if isinstance(trial, Mapping) and name in trial:
        return form(float(trial[name]))
    if not hasattr(trial, "suggest_float"):
        raise ApplyError(
            f"{type(trial).__name__} is no trial of Optuna, and no config with {name!r}.",
            fix=f"With Ray, put {name!r}: tune.loguniform(*decay_range(run)) into the search space.",
        )
    low, high = decay_range(run)
    return form(trial.suggest_float(name, low, high, log=True))


def decay_metrics(history: History) -> dict[str, float]:
    """What decay did in a trial, to be reported beside its objective: shrink, planned and realized, and alarms.

    Args:
        history: of a `torchdecay.Monitor`.

    Returns:
        Numbers for `ray.tune.report(...)`, or for `trial.set_user_attr` one by one.

    Example:
        >>> import torch, torchdecay as td
        >>> from torchdecay.integrations.tuning import decay_metrics
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
        >>> with td.Monitor(optimizer) as monitor:
        ...     model(torch.randn(8, 4)).sum().backward()
        ...     optimizer.step()
        >>> list(decay_metrics(monitor.history))
        ['decay/weight/planned', 'decay/weight/realized', 'decay/alarms']
    """
    made: dict[str, float] = {}
    for group in history.groups:
        if not any(history.curve(group, "planned_shrink")[1]):
            continue
        shrink = history.shrink(group)
        for kind, values in (("planned", shrink.planned), ("realized", shrink.realized)):
            made |= {f"decay/{group}/{kind}": values[-1]} if values and values[-1] is not None else {}
    return made | {"decay/alarms": float(len(history.events))}
