"""`compare`: the same task, several decays, several seeds."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.engines.runs import Progress, Runs
from torchdecay.lab.tasks.task import Task, data_of, model_of
from torchdecay.lab.training.contenders import ContenderLike, as_contenders
from torchdecay.lab.training.facts import describe, summarize
from torchdecay.lab.training.seeds import as_seeds
from torchdecay.lab.training.trial import Trial


def compare(
    task: Task,
    contenders: Mapping[str, ContenderLike] | Sequence[ContenderLike] | None = None,
    *,
    seeds: Iterable[int] | int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
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
        on_progress: called at every point of the curves.

    Returns:
        A `Comparison`: print its `verdict`, read `.runs`, write the page with `.report("out.html")`.

    Raises:
        TaskError: no decay, the same one twice, no seed, or a task that does not give what it must.
        PlanError, ApplyError, DecayError: a decay that means nothing or does not fit this task.

    Example:
        >>> import dataclasses
        >>> import torchdecay as td
        >>> from torchdecay.lab import compare, task_named
        >>> short = dataclasses.replace(task_named("digits"), num_steps=40)
        >>> result = compare(short, [None, td.decoupled(10)], seeds=2)
        >>> [(run.label, run.seed) for run in result.runs]
        [('none', 0), ('decoupled(10)', 0), ('none', 1), ('decoupled(10)', 1)]
    """
    contenders = as_contenders(task.decays if contenders is None else contenders)
    chosen_seeds = as_seeds(task.seeds if seeds is None else seeds)
    with torch.random.fork_rng(devices=[]):
        model = model_of(task, chosen_seeds[0])
        plans = {contender.label: summarize(task, model, contender) for contender in contenders}
        data = data_of(task, chosen_seeds[0])
        about = describe(task, model, data)
        del model  # a large one is not to stand beside those that train
    kind = "loss" if task.score is None else "score"
    runs = Runs(
        task=task,
        measure=f"{'test' if data.validation is None else 'validation'}_{kind}",
        engine=Engine("serial"),
        on_progress=on_progress,
    )
    with runs.under_way(None, dict):
        runs.stage([Trial(contender=one, seed=seed, watched=True) for seed in chosen_seeds for one in contenders])
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
