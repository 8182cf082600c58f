"""`engine="stacked"`: all runs at once as one model with stacked weights; for tasks that can be (see `fitted`)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from torchdecay.errors import RAISED, TaskError
from torchdecay.lab.engines.stacked.fit import fitted
from torchdecay.lab.engines.stacked.lanes import order_of
from torchdecay.lab.engines.stacked.loop import StackedRun
from torchdecay.lab.engines.stacked.members import NotStackable, StackedMember
from torchdecay.lab.engines.stacked.memory import SHARE, MemoryEstimate, estimate
from torchdecay.lab.engines.stacked.prepare import Prepared
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.train import threads
from torchdecay.lab.training.trial import Assignment, Keep


def run(
    assignment: Assignment, *, compile: bool | None = None, num_threads: int | None = None, memory: int | None = None
) -> None:
    """Train the trials as one model.

    Each member sees the rows, starts from the weights and decays as it would alone, so its losses are those of
    `serial` but for the order in which numbers are added: 1e-10 apart after a thousand steps of `digits` in float64.
    In float32 training is chaotic, and final numbers agree as two machines' would. Dropout draws for each member
    anew, from another stream than a run alone: alike in distribution only.

    Args:
        assignment: what to run; `claim` is asked for each trial before the first starts.
        compile: whether to compile the training step; None does where what is left to do will pay for it.
        num_threads: CPU threads; None leaves torch's, whatever the task wants for a run alone.
        memory: bytes that may be taken; None asks the system. What does not fit at once runs in turns.

    Raises:
        TaskError: the trials can't be stacked, or do not fit into memory.
    """
    task, keep = assignment.training, assignment.keep
    with torch.random.fork_rng(devices=[]), threads(num_threads):
        try:
            prepared = fitted(task, [trial for trial in assignment.trials if assignment.claim(trial)])
        except NotStackable as reason:
            raise TaskError(
                f"the task {task.name!r} can't be trained as one stacked model: {reason}.",
                fix='Use the engine "process", or "auto", which does by itself.',
            ) from reason
        for trial, failure in prepared.failures.items():
            assignment.on_run(trial, failure)
        if not prepared.members:
            return
        turns = _turns(task, prepared, estimate(task, prepared, available=memory), halving=keep is not None)
        under_way: list[StackedRun] = []
        try:
            for members in turns:
                under_way.append(StackedRun(assignment, prepared, members, compile=compile))
                if keep is None:
                    _advance(under_way[0], task.num_steps, finish=True)
                    under_way.clear()
            if keep is not None:
                _halve(task, under_way, keep)
        except KeyboardInterrupt:
            for one in under_way:
                one.give_up()
            raise


def _turns(task: Task, prepared: Prepared, size: MemoryEstimate, *, halving: bool) -> list[list[StackedMember]]:
    """Members in turns that fit into memory, neighbors alike."""
    members = prepared.members
    seeds = list(prepared.models)
    ordered = [members[i] for i in order_of(members, [seeds.index(one.trial.seed) for one in members])]
    fits = len(ordered) * size.kept + size.passing <= SHARE * size.available if halving else size.most > 0
    if not fits:
        wanted = len(ordered) if halving else 1
        raise TaskError(
            f"the task {task.name!r} needs {size.total(wanted) / 2**20:,.1f} MB for "
            f"{f'{wanted} runs side by side' if halving else 'a single run'}, and of {size.available / 2**20:,.1f} MB "
            f"that are free {SHARE:.0%} may be taken.",
            fix='Use the engine "process", or fewer values or seeds.',
        )
    count = -(-len(ordered) // max(1, size.most))
    bounds = [len(ordered) * i // count for i in range(count + 1)]
    return [ordered[a:b] for a, b in itertools.pairwise(bounds)]


def _advance(one: StackedRun, until: int, *, finish: bool = False) -> None:
    try:
        one.advance(until)
        if finish:
            one.finish()
    except RAISED as error:
        one.fail(error)


def _halve(task: Task, runs: Sequence[StackedRun], keep: Keep) -> None:
    for rung in keep.rungs:
        for one in runs:
            _advance(one, rung)
        measured = {trial: value for one in runs for trial, value in (one.deciding() if one.members else {}).items()}
        going = keep.choose(rung, measured)
        for one in runs:
            one.stop(frozenset(measured) - going)
    for one in runs:
        _advance(one, task.num_steps, finish=True)
