"""`attach`: carry a plan out on an optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.carried import Options
from torchdecay.apply.copies import Remembered, remembered_by
from torchdecay.apply.handle import Handle, handle_of
from torchdecay.apply.routes import Via
from torchdecay.apply.state import OnLoad
from torchdecay.arguments import check_count, check_number, check_word
from torchdecay.errors import ApplyError, DetachedWarning
from torchdecay.optimizers.wrappers import around, scheduler_inside, torch_optimizer
from torchdecay.plans.decay import Decay
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan as make_plan

Resume = Literal["continue", "restart", "error"]


def attach(
    optimizer: Optimizer,
    plan: Plan | Decay | float | Handle,
    *,
    model: nn.Module | None = None,
    via: Via = "auto",
    on_load: OnLoad = "plan",
    bind: Bindings | None = None,
    scheduler: Any = None,
    compile: bool = False,
    resume: Resume = "continue",
    save_references: bool | torch.dtype = False,
    max_lr: float | Sequence[float] | None = None,
    step: int | None = None,
    check_ranks: bool = True,
    stages: Any = None,
) -> Handle:
    """Carry a plan out on an optimizer from its next step on.

    Rows that are the optimizer's own weight_decay are written into its groups and cost nothing; the rest runs in
    hooks around `step`, also with closures, gradient scaling and gradient accumulation. From here on the handle owns
    `weight_decay` in every group: what stood there is reported in `handle.lowering` and put back by
    `handle.remove()`. A step at learning rate 0 changes no weight, and a skipped step does not count.

    Args:
        optimizer: any torch optimizer; LBFGS takes penalties only. Of a wrapper that shares its groups (accelerate's,
            Lightning's, Lookahead, SAM) the one inside, whose step updates the weights.
        plan: a `Plan`; or a Decay or number, planned for `model` with the standard rules; or a handle that was
            pickled, to go on from.
        model: the model, needed when the optimizer's groups have no `param_names`.
        via: "hook" never uses the optimizer's own weight_decay.
        on_load: whose coefficients win when a checkpoint has others: "plan" (this one), "checkpoint", or "equal"
            (differing is an error). Another who or form is an error always.
        bind: tensors for the names that references and masks in the plan go by: {name: {parameter name: tensor}};
            under "initial" where the run began that is resumed, what `handle.state_dict()` gave.
        scheduler: the learning rate scheduler, where the peak is known to it alone (CyclicLR).
        compile: run the passes that are more than one multiplication (cautious, L1, Huber, ...) through
            torch.compile: one read and one write of each tensor. The first step takes seconds; worth it for models
            of tens of millions of weights. Where nothing can be compiled they run as they are, with a warning.
        resume: what to do where the optimizer remembers a plan, because its checkpoint was loaded before, or it is a
            copy of one that had a plan: "continue" its counters, peaks, controllers and references, "restart" without
            them, or take it for an "error".
        save_references: let `optimizer.state_dict()` hold what the plan pulls toward, "initial" weights and averages,
            equal ones once: True, or the dtype to hold them in. Otherwise they are saved by `handle.state_dict()`.
        max_lr: the highest learning rate that the groups reach, or that of each, for decays that are measured by it
            and give none themselves; where it can't be found, as for a warm-up by hand.
        step: how many steps of the run were taken before, for a plan that comes in the middle of it: schedules go by
            the run's own step, also in groups that are added later; what is remembered or loaded knows better. Else
            each group counts from its first step under a plan.
        check_ranks: of several processes, whether to compare the plans of those that train the same parameters, and
            the weights where the plan measures them. Where weights are cut over processes, all of these have to
            attach, and wait for each other: for two minutes, then it is an error.
        stages: of a pipeline whose stages are models and optimizers of their own, the process group over the stages:
            what `stable`, `adaptive` and `by_spectrum` measure of all parameters together they then measure over all
            stages, with one reduction a step. All stages attach, have such a form, and step together. None measures
            the parameters that are here.

    Returns:
        A `Handle`, also a context manager.

    Raises:
        ApplyError: a plan is attached already, the optimizer can't carry a row out, or lr·λ is 1 or more; the
            processes that train these weights have other plans, other weights to begin from, or none attached.
        PlanError: the plan and the model do not fit.
        LoadError: the optimizer remembers another plan, or other references.

    Warns:
        PeakWarning: at a later step, the learning rate is above what such a decay has gone by as the highest.
        DetachedWarning: the optimizer's groups were under a plan, and what it remembered did not come along.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> handle = td.attach(optimizer, td.plan(model, td.decoupled(0.01)), model=model)
        >>> model(torch.ones(2)).sum().backward()
        >>> optimizer.step()
        >>> handle.remove()
    """
    outer, optimizer = around(optimizer), torch_optimizer(optimizer)
    if handle_of(optimizer) is not None:
        raise ApplyError(
            "a plan is attached to this optimizer already.",
            "Two would decay the weights twice.",
            "Use handle.update(plan) to change it, or handle.remove() first.",
        )
    check_word(on_load, "on_load", ("plan", "checkpoint", "equal"), error=ApplyError)
    check_word(resume, "resume", ("continue", "restart", "error"), error=ApplyError)
    if not isinstance(save_references, (bool, torch.dtype)):
        raise ApplyError(f"save_references is {save_references!r}.", fix="Write True, False, or a dtype.")
    if step is not None:
        check_count(step, "step", minimum=0, error=ApplyError)
    peaks = None if max_lr is None else _peaks(max_lr, len(optimizer.param_groups))
    remembered = _remembered(optimizer, resume)
    if isinstance(plan, Handle):
        if plan.left is not None and remembered is None and resume == "continue":
            remembered = {"param_groups": optimizer.param_groups, MARK: plan.left}
        plan = plan.plan
    if not isinstance(plan, Plan):
        if model is None:
            raise ApplyError(f"{plan!r} is not a plan.", fix="Give td.plan(model, ...), or pass model= as well.")
        plan = make_plan(model, plan)
    options = Options(
        via,
        on_load,
        bind or {},
        scheduler_inside(scheduler),
        compile,
        save_references,
        peaks,
        step,
        check_ranks,
        stages,
    )
    return Handle(optimizer, plan, model=model, options=options, remembered=remembered, outer=outer)


def _peaks(max_lr: Any, groups: int) -> float | tuple[float, ...]:
    if not isinstance(max_lr, Sequence) or isinstance(max_lr, str):
        return check_number(max_lr, "max_lr", open_minimum=True, error=ApplyError)
    if len(max_lr) != groups:
        raise ApplyError(
            f"max_lr has {len(max_lr)} numbers, and the optimizer has {groups} groups.",
            fix="Give one number for all groups, or one for each.",
        )
    return tuple(check_number(one, "max_lr", open_minimum=True, error=ApplyError) for one in max_lr)


def _remembered(optimizer: Optimizer, resume: Resume) -> Remembered | None:
    """What to go on from."""
    remembered = remembered_by(optimizer)
    marked = remembered is not None or any(
        str(group.get(MARK)).startswith("attached") for group in optimizer.param_groups
    )
    if marked and resume == "error":
        raise ApplyError(
            "the optimizer was under a plan before: its groups say so.",
            'With resume="error" nothing is gone on from.',
            'Write resume="continue" to go on from there, or resume="restart" to begin anew.',
        )
    if marked and remembered is None and resume == "continue":
        warnings.warn(
            "the optimizer's groups were under a plan before, and its counters, peaks and controllers did not come "
            "along: they begin anew, and so do schedules. Load its optimizer.state_dict(), or write "
            'resume="restart" where that is meant.',
            DetachedWarning,
            stacklevel=3,
        )
    return remembered if resume == "continue" else None
