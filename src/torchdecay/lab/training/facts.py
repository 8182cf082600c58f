"""What a reader of results should know about a task, its plans and the machine."""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import nn

from torchdecay._version import __version__
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import BARE, ByHand, Contender
from torchdecay.lab.training.results import PlannedRow, PlanSummary
from torchdecay.lab.training.setup import Setup
from torchdecay.text import listed


def summarize(task: Task, model: nn.Module, contender: Contender) -> PlanSummary:
    """Who decays and how it is carried out, found by setting a model of the task up without training."""
    with Setup.make(task, model, contender) as setup:
        if setup.handle is None:
            how = "by hand: after backward, the training loop adds wd·w to each gradient"
        else:
            how = "; ".join(dict.fromkeys(f"{row.route}: {row.why}" for row in setup.handle.lowering.rows if row.decay))
        return PlanSummary(
            label=contender.label,
            decay=contender.printed,
            equation="" if contender.decay is None else contender.decay.equation,
            summary=setup.plan.table().summary,
            rows=tuple(
                PlannedRow(
                    name=row.name,
                    shape=row.shape,
                    role=row.role,
                    decay=""
                    if row.decay is None
                    else repr(ByHand(row.decay.coefficient) if setup.by_hand else row.decay),
                    reason=row.reason,
                )
                for row in setup.plan.rows
            ),
            how=how,
        )


def describe(task: Task, model: nn.Module, data: Data) -> dict[str, Any]:
    """What every result says about its task, under the names of the results' own fields."""
    with Setup.make(task, model, BARE) as setup:
        optimizer, rows = setup.optimizer, setup.plan.rows
    parameters = [p for p in model.parameters() if p.requires_grad]
    group = optimizer.param_groups[0]
    settings = [f"{key} {group[key]:g}" for key in ("lr", "momentum") if group.get(key)]
    facts = {
        **{f"{part} rows": f"{count:,}" for part, count in data.sizes.items()},
        "trainable parameters": f"{sum(p.numel() for p in parameters):,} in {len(parameters)} tensors",
        "optimizer": ", ".join([type(optimizer).__name__, *settings]),
        "batch": "all training rows" if task.batch_size is None else f"{task.batch_size} rows",
        f"{task.step_name}s": f"{task.num_steps:,}",
    }
    if task.chance_loss is not None:
        facts["chance loss"] = f"{task.chance_loss:.3f}"
    unsure = [row.name for row in rows if row.role == "unknown"]
    notes = list(task.notes)
    if unsure:
        notes.append(f"{len(unsure)} parameters of unknown role are spared: {listed(unsure)}.")
    return {
        "task": task.name,
        "title": task.title or task.name,
        "step_name": task.step_name,
        "score_name": task.score_name if task.score is not None else "",
        "facts": tuple(facts.items()),
        "notes": tuple(notes),
        "noise": task.noise,
        "versions": versions(task.num_threads),
    }


def versions(num_threads: int | None = None) -> dict[str, str]:
    """What this ran with; None is as many threads as torch has."""
    return {
        # The package itself stands to the right of this room; it is loaded all the same.
        "torchdecay": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "platform": platform.platform(),
        "threads": str(num_threads or torch.get_num_threads()),
    }
