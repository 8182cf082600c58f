"""`compare`: the same task, several decays, several seeds."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.engines.runs import Progress, Runs
from torchdecay.lab.storage.identity import identity_of
from torchdecay.lab.storage.store import Store, as_store
from torchdecay.lab.tasks.task import Task, data_of, model_of
from torchdecay.lab.training.contenders import ContenderLike, as_contenders
from torchdecay.lab.training.facts import describe, summarize
from torchdecay.lab.training.trial import Trial, as_seeds


def compare(
    task: Task,
    contenders: Mapping[str, ContenderLike] | Sequence[ContenderLike] | None = None,
    *,
    seeds: Iterable[int] | int | None = None,
    store: str | Path | Store | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_result: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Train a task with several decays, the same seeds for each, and say what differs.

    Every decay is tried on the task's model and optimizer before the first run, so a decay that does not fit costs no
    training. The runs of one seed come together, so that what is finished can be paired even when it is stopped early:
    Ctrl-C returns the finished runs, with `interrupted` set. A run that fails midway is recorded under `failures`, and
    the others go on.

    Args:
        task: what to train; `task_named("digits")`, or a `Task` of your own.
        contenders: decays to compare: spellings ("decoupled:0.1"), numbers, Decays, Plans, `ByHand` or None; a mapping
            gives them labels. None takes the task's own.
        seeds: seeds, or how many (0, 1, ...). None takes the task's own.
        store: an SQLite file in which every finished run is written at once. To go on with what it holds:
            `Store("runs.db", resume=True)`.
        on_progress: called at every point of the curves.
        on_result: called with the results so far, after each run.

    Returns:
        A `Comparison`: print it, read `.runs`, write the page with `td.report(result, "out.html")`.

    Raises:
        TaskError: no decay, the same one twice, no seed, or a task that does not give what it must.
        PlanError, ApplyError, DecayError: a decay that means nothing or does not fit this task.

    Example:
        >>> import dataclasses
        >>> import torchdecay as td
        >>> from torchdecay.lab import compare, task_named
        >>> short = dataclasses.replace(task_named("digits"), num_steps=40)
        >>> result = compare(short, [None, td.decoupled(10)], seeds=3)
        >>> [(run.label, run.seed) for run in result.runs]
        [('none', 0), ('decoupled(10)', 0), ('none', 1), ('decoupled(10)', 1), ('none', 2), ('decoupled(10)', 2)]
    """
    contenders = as_contenders(task.decays if contenders is None else contenders)
    chosen_seeds = as_seeds(task.seeds if seeds is None else seeds)
    with torch.random.fork_rng(devices=[]):
        model = model_of(task, chosen_seeds[0])
        plans = {contender.label: summarize(task, model, contender) for contender in contenders}
        data = data_of(task, chosen_seeds[0])
        about = describe(task, model, data)
        identity = identity_of(task, model, data, form="comparison") if store is not None else {}
        del model  # a large one is not to stand beside those that train

    def result() -> Comparison:
        return Comparison(
            labels=tuple(contender.label for contender in contenders),
            runs=runs.runs,
            plans=plans,
            seeds=chosen_seeds,
            chance_loss=task.chance_loss,
            failures=runs.failures,
            interrupted=runs.interrupted,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            **about,
        )

    runs = Runs(
        task=task,
        measure=f"{'test' if data.validation is None else 'validation'}_{'loss' if task.score is None else 'score'}",
        engine=Engine("serial"),
        on_progress=on_progress,
        on_run=lambda: on_result(result()) if on_result is not None else None,
    )
    with runs.under_way(as_store(store), identity):
        runs.stage([Trial(contender=one, seed=seed, watched=True) for seed in chosen_seeds for one in contenders])
    return result()
