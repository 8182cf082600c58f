"""What is read from an optimizer at its first step: whose parameters it has, the plan at work, what is found."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch.optim import Optimizer

from torchdecay.findings.settings import AUDIT, MONITOR, Shape, read_settings
from torchdecay.integrations.script.applying import load, refusal
from torchdecay.integrations.script.finding import Surroundings, around_it, model_of, others_of, run_of
from torchdecay.integrations.script.guard import Guard
from torchdecay.integrations.script.met import Met, alive
from torchdecay.integrations.script.options import Options
from torchdecay.observe.audit.audit import audit
from torchdecay.observe.forecast.forecast import forecast
from torchdecay.observe.groups import as_number
from torchdecay.observe.monitor.layout import By
from torchdecay.observe.monitor.monitor import Monitor
from torchdecay.observe.recorded.planned import differences, plan_at_work
from torchdecay.observe.recorded.record import Seen
from torchdecay.observe.run import Run
from torchdecay.plans.plan import Plan
from torchdecay.text import counted


def find(met: Met, optimizer: Optimizer, around: Surroundings, options: Options) -> None:
    """Its model, what takes part in its steps, and how long it trains."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    met.about = replace(met.about, num_params=len(params), num_elements=sum(param.numel() for param in params))
    model = model_of(optimizer, around.modules)
    took = f"looked for in {around.seconds:.2f} s"
    if model is None:
        found = f"without a module: none that the garbage collector knows owns its parameters, {took}"
    else:
        held = {id(param) for param in model.parameters()}
        strangers = sum(id(param) not in held for param in params)
        found = took + (f"; {counted(strangers, 'parameter')} in no part of it" if strangers else "")
        met.model = weakref.ref(model)
        met.alone = not others_of(optimizer, model, around.optimizers)
    met.about = replace(met.about, found=found, model="" if model is None else type(model).__name__)
    met.about = replace(met.about, around=tuple(around_it(optimizer, around)))
    met.run, known, length = run_of(optimizer, around, options.steps)
    met.about = replace(met.about, length=length, num_steps=known)
    met.before_last = known - 1


def watch(met: Met, optimizer: Optimizer, folder: Path | None, options: Options, guard: Guard) -> None:
    """Monitor it from this step on."""
    name = met.about.optimizer
    ignore, severity = _meant("monitor", MONITOR, guard)
    monitor = Monitor(
        optimizer,
        every_steps=options.every,
        path=None if folder is None else folder / f"history-{met.about.number}.jsonl",
        by=cast(By, options.by),
        model=alive(met.model),
        on_error=lambda what, error: guard.note(f"the monitor of {name}: {what} failed", error),
        ignore=ignore,
        severity=severity,
    )
    met.monitor, met.history = weakref.ref(monitor), monitor.recorded


def look(met: Met, optimizer: Optimizer, options: Options, guard: Guard) -> None:
    """Its plan, audit and forecast, right after the first step, when gradients are there whoever made them."""
    name, model, run = met.about.optimizer, alive(met.model), met.run
    met.rates = _rates(optimizer)
    plan = guard(f"the plan of {name} could not be read", lambda: plan_at_work(optimizer, model))
    ignore, severity = _meant("audit", AUDIT, guard)
    found = guard(
        f"the audit of {name} failed",
        lambda: audit(optimizer, model=model, ignore=ignore, severity=severity).filter(
            # What another optimizer of the model has is in no group of this one.
            ignore=() if met.alone else ("WD104",)
        ),
    )
    ahead = guard(f"no forecast for {name}", lambda: None if run is None else forecast(optimizer, run=run, model=model))
    met.seen = Seen(plan, found, ahead)
    if options.plan and plan is not None:
        guard("--plan could not be read", lambda: _compare(met, plan, options))
    if not met.about.applied:
        refuses = guard(f"what {name} could be given is not known", lambda: refusal(optimizer, model))
        met.about = replace(met.about, refuses=refuses or "")


def look_back(met: Met) -> None:
    """At the end of a run whose length nobody knew, which is known by then: its forecast is of that many steps."""
    if met.about.num_steps or not met.steps or met.seen.forecast is None:
        return
    optimizer, length = met.optimizer(), f"{counted(met.steps, 'step')}, as it turned out"
    if optimizer is None or _rates(optimizer) != met.rates:
        ahead = f"{counted(met.seen.forecast.num_steps, 'step')} at the learning rate of the first"
        met.about = replace(met.about, length=f"{length}, and forecast over {ahead}")
        return
    met.seen = replace(met.seen, forecast=forecast(optimizer, run=Run(steps=met.steps), model=alive(met.model)))
    met.about = replace(met.about, length=length, num_steps=met.steps)


def _rates(optimizer: Optimizer) -> list[float | None]:
    return [as_number(group.get("lr")) for group in optimizer.param_groups]


def _compare(met: Met, found: Plan, options: Options) -> None:
    expected = load(options.plan, "describe")
    met.about = replace(met.about, differs=differences(expected, found, alone=met.alone))


def _meant(section: str, keys: Mapping[str, Shape], guard: Guard) -> tuple[Any, Any]:
    """What pyproject.toml leaves out, and the severities it gives."""
    said = guard("pyproject.toml was not followed", lambda: read_settings(section, keys)[1]) or {}
    return said.get("ignore", ()), said.get("severity", {})
