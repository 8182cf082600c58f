"""`attach`: carry a plan out on an optimizer."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.handle import Handle, handle_of
from torchdecay.apply.routes import Via
from torchdecay.apply.state import OnLoad
from torchdecay.errors import ApplyError
from torchdecay.optimizers.wrappers import torch_optimizer
from torchdecay.plans.decay import Decay
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan as make_plan


def attach(
    optimizer: Optimizer,
    plan: Plan | Decay | float,
    *,
    model: nn.Module | None = None,
    via: Via = "auto",
    on_load: OnLoad = "plan",
    bind: Bindings | None = None,
    scheduler: Any = None,
    compile: bool = False,
) -> Handle:
    """Carry a plan out on an optimizer from its next step on.

    Rows that are the optimizer's own weight_decay are written into its groups and cost nothing; the rest runs in
    hooks around `step`, also with closures, gradient scaling and gradient accumulation. From here on the handle owns
    `weight_decay` in every group: what stood there is reported in `handle.lowering` and put back by
    `handle.remove()`. A step at learning rate 0 changes no weight, and a skipped step does not count.

    Args:
        optimizer: any torch optimizer; LBFGS takes penalties only. Of a wrapper that shares its groups (accelerate's,
            Lightning's, Lookahead, SAM) the one inside, whose step updates the weights.
        plan: a `Plan`; or a Decay or number, planned for `model` with the standard rules.
        model: the model, needed when the optimizer's groups have no `param_names`.
        via: "hook" never uses the optimizer's own weight_decay.
        on_load: whose coefficients win when a checkpoint has others: "plan" (this one), "checkpoint", or "equal"
            (differing is an error). Another who or form is an error always.
        bind: tensors for the names that references and masks in the plan go by: {name: {parameter name: tensor}}.
        scheduler: the learning rate scheduler, where the peak is known to it alone (CyclicLR).
        compile: run the passes that are more than one multiplication (cautious, L1, Huber, ...) through
            torch.compile: one read and one write of each tensor. The first step takes seconds; worth it for models
            of tens of millions of weights. Where nothing can be compiled they run as they are, with a warning.

    Returns:
        A `Handle`, also a context manager.

    Raises:
        ApplyError: a plan is attached already, the optimizer can't carry a row out, or lr·λ is 1 or more.
        PlanError: the plan and the model do not fit.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> handle = td.attach(optimizer, td.plan(model, td.decoupled(0.01)), model=model)
        >>> model(torch.ones(2)).sum().backward()
        >>> optimizer.step()
        >>> handle.remove()
    """
    optimizer = torch_optimizer(optimizer)
    if handle_of(optimizer) is not None:
        raise ApplyError(
            "a plan is attached to this optimizer already.",
            "Two would decay the weights twice.",
            "Use handle.update(plan) to change it, or handle.remove() first.",
        )
    if on_load not in ("plan", "checkpoint", "equal"):
        raise ApplyError(f"on_load is {on_load!r}.", fix='Write "plan", "checkpoint" or "equal".')
    if not isinstance(plan, Plan):
        if model is None:
            raise ApplyError(f"{plan!r} is not a plan.", fix="Give td.plan(model, ...), or pass model= as well.")
        plan = make_plan(model, plan)
    return Handle(
        optimizer, plan, model=model, via=via, on_load=on_load, bind=bind or {}, scheduler=scheduler, compile=compile
    )
