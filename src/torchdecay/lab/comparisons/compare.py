"""`compare`: the same task, several decays, several seeds."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from torchdecay.errors import TaskError, TorchdecayError, listed
from torchdecay.lab.tasks.custom import told
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import ByHand, Choice, Contender, as_choices
from torchdecay.lab.training.results import Comparison, Failure, PlannedRow, PlanSummary, TrainingRun
from torchdecay.lab.training.train import Setup, train


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a comparison is.

    Attributes:
        label: the decay that is training.
        seed: its seed.
        step: steps done in this run.
        steps_done: steps done in all runs.
        steps_planned: steps of the whole comparison.
        run_is_done: whether this run has taken its last step.
    """

    label: str
    seed: int
    step: int
    steps_done: int
    steps_planned: int
    run_is_done: bool


def compare(
    task: Task,
    contenders: Mapping[str, Contender] | Sequence[Contender] | None = None,
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
    choices = as_choices(task.decays if contenders is None else contenders)
    chosen_seeds = as_seeds(task.seeds if seeds is None else seeds)
    with torch.random.fork_rng(devices=[]):
        plans = {choice.label: summarize(task, choice, chosen_seeds[0]) for choice in choices}
        facts, notes = describe(task, chosen_seeds[0])
    runs: list[TrainingRun] = []
    failures: list[Failure] = []
    interrupted = False
    planned = [(choice, seed) for seed in chosen_seeds for choice in choices]
    try:
        for index, (choice, seed) in enumerate(planned):

            def tell(step: int, index: int = index, choice: Choice = choice, seed: int = seed) -> None:
                if on_progress is not None:
                    progress = Progress(
                        label=choice.label,
                        seed=seed,
                        step=step,
                        steps_done=index * task.num_steps + step,
                        steps_planned=len(planned) * task.num_steps,
                        run_is_done=step == task.num_steps,
                    )
                    on_progress(progress)

            try:
                runs.append(train(task, choice, seed=seed, on_step=tell))
            except Exception as error:
                failures.append(
                    Failure(
                        label=choice.label,
                        seed=seed,
                        message=str(error) if isinstance(error, TorchdecayError) else told(error),
                    )
                )
    except KeyboardInterrupt:
        interrupted = True
    return Comparison(
        task=task.name,
        title=task.title or task.name,
        step_name=task.step_name,
        score_name=task.score_name if task.score is not None else "",
        labels=tuple(choice.label for choice in choices),
        runs=tuple(runs),
        plans=plans,
        seeds=chosen_seeds,
        facts=facts,
        notes=notes,
        chance_loss=task.chance_loss,
        noise=task.noise,
        failures=tuple(failures),
        interrupted=interrupted,
        versions=versions(task),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def as_seeds(seeds: Iterable[int] | int) -> tuple[int, ...]:
    """Distinct seeds, from seeds or from how many.

    Raises:
        TaskError: none, the same one twice, or something else than whole numbers from 0 to 2⁶³ − 1.
    """
    made = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not made:
        raise TaskError(f"seeds is {seeds!r}, so there is nothing to run.", fix="Ask for at least one.")
    wrong = [s for s in made if isinstance(s, bool) or not isinstance(s, int) or not 0 <= s < 2**63]
    if wrong or len(set(made)) != len(made):
        raise TaskError(
            f"seeds is {list(made)}.",
            "Each must be a whole number from 0 up, and there once.",
            "Write seeds=3 or seeds=[0, 1, 2].",
        )
    return made


def summarize(task: Task, choice: Choice, seed: int) -> PlanSummary:
    """Who decays and how it is carried out, found by setting everything up once without training.

    Raises:
        TaskError, PlanError, ApplyError, DecayError: the decay does not fit this task.
    """
    setup = Setup.make(task, choice, seed)
    if setup.handle is None:
        how = "by hand: after backward, the training loop adds wd·w to each gradient"
    else:
        how = "; ".join(dict.fromkeys(f"{row.route}: {row.why}" for row in setup.handle.lowering.rows if row.decay))
        setup.handle.remove()
    return PlanSummary(
        label=choice.label,
        decay=choice.printed,
        equation="" if choice.decay is None else choice.decay.equation,
        summary=setup.plan.table().summary,
        rows=tuple(
            PlannedRow(
                name=row.name,
                shape=row.shape,
                role=row.role,
                decay="" if row.decay is None else repr(ByHand(row.decay.coefficient) if setup.by_hand else row.decay),
                reason=row.reason,
            )
            for row in setup.plan.rows
        ),
        how=how,
    )


def describe(task: Task, seed: int) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Facts about the task for people, and its notes with what the planning noticed.

    Raises:
        TaskError: the task does not give what it must.
    """
    data = task.data(seed)
    if not isinstance(data, Data):
        raise TaskError(
            f"the task {task.name!r} made data of type {type(data).__name__}.",
            fix="Let data(seed) return torchdecay.lab.Data(train=(x, y), test=(x, y)).",
        )
    setup = Setup.make(task, Choice(label="none", what=None), seed)
    parameters = [p for p in setup.model.parameters() if p.requires_grad]
    group = setup.optimizer.param_groups[0]
    settings = [f"{key} {group[key]:g}" for key in ("lr", "momentum") if group.get(key)]
    facts = {
        **{f"{part} rows": f"{count:,}" for part, count in data.sizes.items()},
        "trainable parameters": f"{sum(p.numel() for p in parameters):,} in {len(parameters)} tensors",
        "optimizer": ", ".join([type(setup.optimizer).__name__, *settings]),
        "batch": "all training rows" if task.batch_size is None else f"{task.batch_size} rows",
        f"{task.step_name}s": f"{task.num_steps:,}",
    }
    if task.chance_loss is not None:
        facts["chance loss"] = f"{task.chance_loss:.3f}"
    unsure = [row.name for row in setup.plan.rows if row.role == "unknown"]
    notes = list(task.notes)
    if unsure:
        notes.append(f"{len(unsure)} parameters of unknown role are spared: {listed(unsure)}.")
    return tuple(facts.items()), tuple(notes)


def versions(task: Task) -> dict[str, str]:
    """What this ran with."""
    return {
        # The package itself stands to the right of this room; it is loaded all the same.
        "torchdecay": str(sys.modules["torchdecay"].__version__),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "platform": platform.platform(),
        "threads": str(task.num_threads or torch.get_num_threads()),
    }
