"""The one training loop of the lab."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from torchdecay.lab.tasks.task import Data, Task, data_of, evaluate, measures, model_of
from torchdecay.lab.training.contenders import ContenderLike, as_contender
from torchdecay.lab.training.line_scan import scan
from torchdecay.lab.training.monitoring import Monitoring
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.running import Running
from torchdecay.lab.training.setup import Setup, quiet_plan
from torchdecay.plans.forms.l2 import coupled
from torchdecay.plans.tree import parameters_by_name

OnStep = Callable[[int], None]
OnPoint = Callable[[Running], None]


def train(
    task: Task,
    contender: ContenderLike,
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
    lr_scale: float = 1.0,
    with_line: bool = True,
    monitor: bool = True,
    on_point: OnPoint | None = None,
    resume: Mapping[str, Any] | None = None,
) -> TrainingRun:
    """Train the task once with one decay, and measure.

    The seed decides data, initial weights, row order and dropout: two runs that differ only in their decay start from
    the same weights and see the same rows. Curves are measured before the step of the same number, so point 0 is the
    untrained model. The caller's random state is left as it was.

    Args:
        task: what to train.
        contender: a spelling such as "decoupled:0.1", a number, a Decay, a Plan, `ByHand`, or None.
        seed: for data, weights and order.
        on_step: called with the number of steps done, at every point of the curves.
        lr_scale: multiplies the learning rate of every parameter group, before a scheduler is made.
        with_line: whether to scan the loss along a line through the solution.
        monitor: whether to forecast what decay will do and to record what it does, for the run's
            `planned_and_measured`. It changes no number of the training.
        on_point: called with the training under way after each step that starts at a point of the curves; not after
            the last.
        resume: what `state_dict()` of that training gave in an earlier try with the same task, decay and seed; it goes
            on from there.

    Raises:
        TaskError: data, model or optimizer are not what a task gives.
        PlanError, ApplyError, DecayError: the decay does not fit the task.

    Example:
        >>> import dataclasses
        >>> from torchdecay.lab import task_named, train
        >>> short = dataclasses.replace(task_named("digits"), num_steps=40)
        >>> run = train(short, "decoupled:10")
        >>> run.steps, run.train_loss[-1] < run.train_loss[0]
        ((0, 20, 40), True)
    """
    contender = as_contender(contender)
    with torch.random.fork_rng(devices=[]), threads(task.num_threads):
        data = data_of(task, seed)
        with Setup.make(task, model_of(task, seed), contender, lr_scale=lr_scale) as setup:
            watched = watched_weights(task, setup.model)
            scheduler = None if task.scheduler is None else task.scheduler(setup.optimizer)
            monitoring = Monitoring(task, setup, scheduler, len(data.train[0])) if monitor else None
            running = Running(contender=contender, seed=seed, setup=setup, scheduler=scheduler)
            if resume is not None:
                running.load_state_dict(resume)
            elif task.trunk is not None:
                running.fork(task.trunk[seed, lr_scale])
            try:
                _loop(task, running, data, watched, on_step or (lambda step: None), on_point)
                run = running.run
            finally:
                if monitoring is not None:
                    monitoring.close()
            line = scan(task, setup, data, watched) if with_line else None
    return replace(run, line=line, planned_and_measured=None if monitoring is None else monitoring.result())


def watched_weights(task: Task, model: nn.Module) -> dict[str, Tensor]:
    """The weights that the task's rules let decay, by name: what norms and line scans are about."""
    rows = quiet_plan(model, coupled(1.0), task.rules).rows
    tensors = parameters_by_name(model)
    picked = [row.name for row in rows if row.decay is not None] or [row.name for row in rows]
    return {name: tensors[name] for name in picked}


def _loop(
    task: Task,
    running: Running,
    data: Data,
    watched: dict[str, Tensor],
    on_step: OnStep,
    on_point: OnPoint | None,
) -> None:
    setup, scheduler, record = running.setup, running.scheduler, running.record
    model, optimizer = setup.model, setup.optimizer
    params = [param for param in model.parameters() if param.requires_grad]
    batches = batches_of(data.train, task.batch_size, torch.Generator().manual_seed(running.seed))
    has_penalty = setup.handle is not None and any(group.loss for group in setup.handle.lowering.groups)
    for _ in range(running.step):
        next(batches)
    model.train()
    for step in range(running.step, task.num_steps + 1):
        x, y = next(batches)
        optimizer.zero_grad()
        outputs = model(x)
        loss = task.loss(outputs, y)
        loss.backward()  # type: ignore[no-untyped-call]
        is_point = step % task.eval_every == 0 or step == task.num_steps
        if is_point:
            own = measures(task, outputs.detach(), y)
            values = _measure(task, model, data, own if running.modes_agree else None)
            # A full batch's own loss is the training loss, unless the model differs in eval mode, as dropout does.
            if step == 0 and task.batch_size is None and own[0] == values["train_loss"]:
                running.modes_agree = True
            record.add(
                step,
                **values,
                weight_norm=norm(watched.values()),
                gradient_norm=norm(param.grad for param in params if param.grad is not None),
            )
            on_step(step)
        if step == task.num_steps:
            break
        if setup.handle is not None and has_penalty:
            setup.handle.penalty(model).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for weight, wd in setup.by_hand:
                if weight.grad is not None:
                    weight.grad.add_(weight, alpha=wd)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        running.step = step + 1
        if is_point and on_point is not None:
            on_point(running)


def _measure(
    task: Task, model: nn.Module, data: Data, train: tuple[float, float | None] | None
) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for part, rows in data.parts.items():
        known = train if part == "train" else None
        loss, score = known or evaluate(task, model, rows)
        values |= {f"{part}_loss": loss, f"{part}_score": score}
    return values


def batches_of(
    rows: tuple[Tensor, Tensor], batch_size: int | None, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, rows in a new order each epoch; what does not fill a batch waits for the next epoch."""
    x, y = rows
    if batch_size is None or batch_size >= len(x):
        while True:
            yield x, y
    while True:
        # Drawn on a CPU, so that it is the same order wherever the rows are.
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for start in range(0, len(x) - batch_size + 1, batch_size):
            picked = order[start : start + batch_size]
            yield x.index_select(0, picked), y.index_select(0, picked)


def norm(tensors: Iterable[Tensor]) -> float:
    """‖·‖ over all elements of all tensors, summed in float64."""
    parts = [torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64) for tensor in tensors]
    return float(torch.linalg.vector_norm(torch.stack(parts))) if parts else 0.0


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Train with so many CPU threads, None being as many as now."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
