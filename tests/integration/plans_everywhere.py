"""A plugin of pytest, for tests of other libraries: every optimizer that they step has a plan, from its first step on.

DECAY says which: "own" is what its groups say, so that no number may change; "ramp" is another decay, which counts its
steps, for runs that are compared with themselves alone.
"""

from __future__ import annotations

import os
from typing import Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import torchdecay as td
from torchdecay.apply.handle import handle_of

RAMP = td.decoupled(0.5, schedule=td.schedules.linear(1.0, 0.0, 40))
attached = 0


def own(group: dict[str, Any]) -> td.Decay | None:
    """What the group says; where that is 0 nothing, so that all of its parameters still have a row."""
    return td.native(float(group["weight_decay"])) if group.get("weight_decay") else None


def attach(optimizer: Any, args: Any, kwargs: Any) -> None:
    """Carry the plan out, under names by group and place."""
    global attached
    if handle_of(optimizer) is not None:
        return
    asked = os.environ["DECAY"]
    model, rules = nn.Module(), []
    for index, group in enumerate(optimizer.param_groups):
        part = nn.ParameterDict({str(place): param for place, param in enumerate(group["params"])})
        model.add_module(f"group{index}", part)
        rules.append(td.rule(f"group{index}.*", own(group) if asked == "own" else RAMP))
    td.attach(optimizer, td.plan(model, None, rules=rules), model=model)
    attached += 1


def pytest_configure(config: Any) -> None:
    """From here on every optimizer is seen."""
    register_optimizer_step_pre_hook(attach)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How often there was one, for who runs this."""
    terminalreporter.write_line(f"plans attached: {attached}")
