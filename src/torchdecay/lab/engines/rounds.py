"""Successive halving for engines that train one run at a time: round by round, from the start each time.

A run that goes on is trained again from step 0. With thirds kept at thirds of the steps that costs about a third more
than pausing it would, and in return nothing but finished runs is ever held: a dead worker costs one run, and what went
on is to the bit what it would have been alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Assignment, Trial

RunAll = Callable[[Assignment, int], None]
"""Runs every trial to the task's end; the number says how many steps an earlier round has counted already."""


def deciding(task: Task, run: TrainingRun) -> float:
    """The last point of the measure that decides, with the sign that makes more better."""
    kind = "loss" if task.score is None else "score"
    curve = getattr(run, f"validation_{kind}")
    value = float((getattr(run, f"test_{kind}") if curve is None else curve)[-1])
    return -value if task.score is None else value


def in_rounds(run_all: RunAll, assignment: Assignment) -> None:
    """Run trials, all to the end, or in rounds where `keep` says who goes on."""
    keep, on_run, counted = assignment.keep, assignment.on_run, 0
    for rung in () if keep is None else keep.rungs:
        reached: dict[Trial, TrainingRun] = {}

        def collect(trial: Trial, outcome: TrainingRun | Failure, reached: dict[Trial, TrainingRun] = reached) -> None:
            if isinstance(outcome, Failure):
                on_run(trial, outcome)
            else:
                reached[trial] = outcome

        assert keep is not None
        task = assignment.training
        run_all(replace(assignment, task=replace(task, num_steps=rung), on_run=collect), counted)
        going = keep.choose(rung, {trial: deciding(task, run) for trial, run in reached.items()})
        for trial, run in reached.items():
            if trial not in going:
                on_run(trial, run)
        # Those that go on are ours already.
        left = [trial for trial in assignment.trials if trial in going]
        assignment, counted = replace(assignment, trials=left, claim=lambda trial: True), rung
    run_all(assignment, counted)
