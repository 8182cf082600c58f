"""`direction`: train, and say which way each group's coefficient should move."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torchdecay.errors import TaskError
from torchdecay.lab.directions.fixed_point import pulls_of
from torchdecay.lab.directions.hypergradient import Hypergradient, Loss, hypergradient
from torchdecay.lab.directions.result import Direction, SeedSlopes
from torchdecay.lab.tasks.task import Rows, Task, model_of
from torchdecay.lab.training.contenders import Contender, ContenderLike, as_contender
from torchdecay.lab.training.groups import members_of
from torchdecay.lab.training.holdout import with_validation
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.running import Running
from torchdecay.lab.training.setup import Setup
from torchdecay.lab.training.train import threads, train
from torchdecay.lab.training.trial import as_seeds
from torchdecay.plans.plan import Plan
from torchdecay.text import nearest

Method = Literal["auto", "implicit", "differences"]
METHODS = ("auto", "implicit", "differences")
FACTOR = 1.5
"""By how much `differences` moves a coefficient, up and down."""


def direction(
    task: Task,
    decay: ContenderLike,
    *,
    seeds: Iterable[int] | int | None = None,
    groups: Mapping[str, Any] | None = None,
    method: Method = "auto",
    damping: float = 0.0,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Direction:
    r"""Train a task with one decay, and say on which parts of the model it should be stronger or weaker.

    $$\text{implicit: } \frac{dV}{d \ln \lambda_g}, \qquad
      \text{differences: } \frac{V(1.5\,\lambda_g) - V(\lambda_g/1.5)}{2 \ln 1.5}$$

    V is the loss on validation rows after training, λ_g the coefficient of group g. "implicit" is `hypergradient` at
    the end of each run, in float64: one run per seed answers for all groups, where training comes to rest in a
    minimum. "differences" holds for every form and optimizer, at two runs per group and seed. "auto" takes implicit
    where the place of rest is known (decay in the gradient or the loss, decoupled decay under SGD), else differences,
    as under AdamW. It differs from `sweep` in that it says where to go from one value, group by group.

    A move is claimed where the 95 % interval over seeds excludes 0 and doubling the coefficient would change the loss
    by more than 0.1 %; by "implicit" only from runs that came to rest and whose linear system was solved.

    Args:
        task: what to train; without validation rows of its own a fifth of its training rows are set aside.
        decay: "decoupled:1", a Decay, a Plan.
        seeds: seeds, or how many; None takes the task's own.
        groups: {name: selector}, the first that picks a parameter has it; None takes the model's top-level modules.
        method: "auto", "implicit" or "differences".
        damping: for implicit: added to the Hessian's diagonal, at least 0.
        tolerance: for implicit: of the linear system's residual; None is 1e-10.
        max_iterations: for implicit: Hessian products, at least 1.

    Raises:
        TaskError: no decay, an unknown method, or "implicit" with a decay whose place of rest is not known.
        DecayError, PlanError, ApplyError: a decay or a group that does not fit the task.

    Example:
        >>> from torchdecay.lab import direction, task_named
        >>> found = direction(task_named("ridge"), "native:9", seeds=3)
        >>> found.method, [group.move for group in found.groups]
        ('implicit', ['weaker'])

    Reference: Optimizing millions of hyperparameters by implicit differentiation, arXiv 1911.02590.
    """
    if method not in METHODS:
        raise TaskError(
            f"there is no method {method!r}.", f"Methods: {', '.join(METHODS)}.", nearest(str(method), METHODS)
        )
    chosen = as_seeds(task.seeds if seeds is None else seeds)
    contender = as_contender(decay)
    task, _ = with_validation(dataclasses.replace(task, num_threads=task.num_threads or 1), chosen[0])
    with torch.random.fork_rng(devices=[]), Setup.make(task, model_of(task, chosen[0]), contender) as made:
        setup = made
    if method == "auto":
        method = "differences"
        with contextlib.suppress(TaskError):
            pulls_of(setup.model, setup.plan, setup.optimizer)
            method = "implicit"
    options = {"damping": damping, "tolerance": tolerance, "max_iterations": max_iterations}
    found = []
    for seed in chosen:
        if method == "implicit":
            found.append(SeedSlopes.of(_implicit(task, contender, seed, setup.plan, groups, options)))
        else:
            found.append(_differences(task, seed, setup, groups))
    return Direction(
        task=task.name, decay=contender.printed, method=method, seeds=chosen, by_seed=tuple(found), damping=damping
    )


def _implicit(
    task: Task,
    contender: Contender,
    seed: int,
    plan: Plan,
    groups: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Hypergradient:
    seen: list[Running] = []
    _finite(train(task, contender, seed=seed, with_line=False, on_point=seen.append))
    trained = seen[0].setup.model.double().eval()
    with torch.random.fork_rng(devices=[]), threads(task.num_threads):
        data = task.data(seed)
        assert data.validation is not None
        losses = [_loss(task, trained, rows) for rows in (data.train, data.validation)]
        return hypergradient(trained, plan, *losses, optimizer=seen[0].setup.optimizer, groups=groups, **options)


def _loss(task: Task, model: nn.Module, rows: Rows) -> Loss:
    x, y = (part.double() if part.is_floating_point() else part for part in rows)

    def loss() -> Tensor:
        return task.loss(model(x), y)

    return loss


def _differences(task: Task, seed: int, setup: Setup, groups: Mapping[str, Any] | None) -> SeedSlopes:
    plan = setup.plan
    decaying = [row.name for row in plan.rows if row.decay is not None and row.decay.times(FACTOR) != row.decay]
    if not decaying:
        raise TaskError(
            "nothing decays, so there is no coefficient to move.", fix='Begin with a small one, "decoupled:1e-4" say.'
        )

    def loss(names: tuple[str, ...], factor: float) -> float:
        rows = tuple(
            dataclasses.replace(row, decay=row.decay.times(factor)) if row.name in names and row.decay else row
            for row in plan.rows
        )
        run = train(task, dataclasses.replace(plan, rows=rows), seed=seed, with_line=False)
        assert run.validation_loss is not None
        _finite(run)
        return run.validation_loss[-1]

    slopes, losses = {}, []
    for group, names in members_of(setup.model, decaying, groups).items():
        more, less = loss(names, FACTOR), loss(names, 1 / FACTOR)
        slopes[group] = (more - less) / (2 * math.log(FACTOR))
        losses += [more, less]
    return SeedSlopes(slopes=tuple(slopes.items()), loss=math.fsum(losses) / len(losses))


def _finite(run: TrainingRun) -> None:
    if not math.isfinite(run.final("train_loss")):
        raise TaskError(f"the run with {run.label}, seed {run.seed}, diverged.", fix="Lower the decay or the lr.")
