"""`Subject`: what is known of what a sweep trains, before the first run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from torchdecay.errors import TaskError
from torchdecay.lab.jobs.command import Command
from torchdecay.lab.jobs.function import Function
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.storage.identity import identity_of
from torchdecay.lab.sweeps.halving import Rungs, rungs_of
from torchdecay.lab.sweeps.meaning import Meaning, meaning_of, said_by
from torchdecay.lab.sweeps.ranges import acting_steps, with_range
from torchdecay.lab.sweeps.search import Candidate, Search
from torchdecay.lab.sweeps.trials import Form, FormLike, TrialMaker, as_form
from torchdecay.lab.tasks.task import Task, data_of, model_of
from torchdecay.lab.training.contenders import Contender
from torchdecay.lab.training.facts import describe, versions
from torchdecay.lab.training.holdout import with_validation
from torchdecay.lab.training.setup import Setup
from torchdecay.lab.training.trunk import forked
from torchdecay.plans.decay import Decay
from torchdecay.plans.forms.l2 import native
from torchdecay.text import step_count

_OWN = "only the command or function itself knows its learning rate and steps"

_UNKNOWN = (
    "Nobody but the command or function knows its learning rate, so whether decay has acted at a rung is not known: "
    "before about 1/(2·lr·λ) steps it has not, and a rung there ranks noise."
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is known of what a sweep trains, before the first run.

    Attributes:
        trained: the task, with validation rows; or the job.
        measure: the curve that decides.
        search: with a range.
        rungs: where halving stops some; of a job at numbers of its metrics, as they come.
        lr: the largest learning rate at lr_scale 1; None where nobody knows it.
        about: fields of the result.
        identity: what makes its runs comparable.
        meaning: what a contender's decay means, at a multiplier of the learning rate.
    """

    trained: Task | Job
    measure: str
    maker: TrialMaker
    search: Search
    rungs: Rungs
    lr: float | None
    about: Mapping[str, Any]
    identity: Callable[[], Mapping[str, str]]
    meaning: Callable[[Contender, float], Meaning]


def subject_of(
    task: Task | Job,
    form: FormLike | None,
    search: Search,
    groups: Mapping[str, Any] | None,
    seeds: tuple[int, ...],
    fork_at: int | None,
) -> Subject:
    """Look at what is to be trained; with `fork_at` train what is shared by all."""
    if isinstance(task, Job):
        if fork_at is not None:
            raise TaskError(
                f"fork_at is {fork_at}, and only a task can be stopped there.",
                fix="Give a command its {checkpoint} with --fork FILE; a function loads what it goes on from.",
            )
        return _of_job(task, form, search, groups)
    found = _of_task(task, "decoupled" if form is None else form, search, groups, seeds)
    return found if fork_at is None else _forked(found, fork_at, seeds)


def _forked(subject: Subject, step: int, seeds: tuple[int, ...]) -> Subject:
    task = subject.trained
    assert isinstance(task, Task)
    if subject.search.kind == "halving":
        raise TaskError("halving would stop runs at steps that forks share.", fix="Search by grid, gp or tpe.")
    task = forked(task, step, seeds, subject.search.lr_scales)
    note = f"All runs of a seed share the training without decay up to step {step:,}: decay acts on the rest only."
    return dataclasses.replace(
        subject,
        trained=task,
        about={**subject.about, "notes": (*subject.about["notes"], note)},
        identity=lambda: {**subject.identity(), "fork at": str(step)},
    )


def _of_task(
    task: Task, form: FormLike, search: Search, groups: Mapping[str, Any] | None, seeds: tuple[int, ...]
) -> Subject:
    made = as_form(form)
    # One thread, as a worker has, so that sums keep their order whatever the engine.
    task, note = with_validation(dataclasses.replace(task, num_threads=task.num_threads or 1), seeds[0])
    with torch.random.fork_rng(devices=[]):
        # One model for all that is found out before and after the runs: to build one may take minutes.
        model, data = model_of(task, 0), data_of(task, 0)
        maker = TrialMaker.make(task, model, made, groups)
        search, scale = with_range(search, maker, task, model), min(search.lr_scales)
        weakest = maker.contender(Candidate((search.ends[0],) * maker.num_values, scale))
        with Setup.make(task, model, weakest, lr_scale=scale) as setup:
            lr = max(float(group["lr"]) for group in setup.optimizer.param_groups) / scale
        about = describe(task, model, data)
        halves = search.kind == "halving"
        rungs = rungs_of(task, acting_steps(search, maker, task, model)) if halves else Rungs(())
    return Subject(
        trained=task,
        measure=f"validation_{'loss' if task.score is None else 'score'}",
        maker=maker,
        search=search,
        rungs=rungs,
        lr=lr,
        about=about | {"notes": (*about["notes"], note)},
        identity=partial(identity_of, task, model, data, form=made.name, groups=groups),
        meaning=lambda contender, scale: meaning_of(task, model, contender, lr_scale=scale),
    )


def _of_job(job: Job, form: FormLike | None, search: Search, groups: Mapping[str, Any] | None) -> Subject:
    notes = []
    if groups:
        raise TaskError("groups need a task, whose model is known.", fix="Sweep one coefficient for all.")
    if isinstance(job, Command):
        if tuple(search.lr_scales) != (1.0,):
            raise TaskError(
                "a command has no place for a multiplier of its learning rate.",
                fix="Leave lr_scales out, or sweep a function, which is given lr_scale.",
            )
        if job.has("value") and form is not None:
            raise TaskError(
                f"the form {form!r} would be given to nobody: {{value}} is in the command, whose decay is its own.",
                fix="Leave out the one or the other.",
            )
        if callable(form):
            raise TaskError("a command can't be given a function.", fix='Name a form, "toward:initial" say.')
        if not job.has("seed"):
            notes.append("No {seed} is in the command, so there is one seed, and no difference is claimed.")
    if search.low is None or search.high is None:
        raise TaskError(
            "no range of values is given.",
            f"That of a task comes from its time scale; {_OWN}.",
            "Name both ends of a range, 0.01 and 10 say, or each value.",
        )
    if isinstance(job, Command) and job.has("value"):
        # What {value} goes to is most often the optimizer's own weight_decay.
        made = Form(job.place, native, place=job.place)
    else:
        made = as_form("decoupled" if form is None else form)
    if isinstance(job, Command):
        job = dataclasses.replace(job, form=made.name)
    about = {
        "task": job.name,
        "title": job.name,
        "step_name": job.step_name,
        "score_name": job.metric_name if job.maximize else "",
        "metric": job.metric_name,
        "facts": tuple(job.facts.items()),
        "notes": tuple(notes),
        "versions": versions(),
    }
    return Subject(
        trained=job,
        measure=job.measure,
        maker=TrialMaker(form=made, members={}),
        search=search,
        rungs=Rungs((), _why_rungs(job, search) if search.kind == "halving" else ""),
        lr=None,
        about=about,
        identity=lambda: {"task": job.name, "form": made.name, **job.identity},
        meaning=lambda contender, scale: _meaning_of_job(job, contender),
    )


def _why_rungs(job: Job, search: Search) -> str:
    """What is known of whether decay has acted at a rung of a job."""
    if isinstance(job, Command) and job.lr is not None:
        weakest, strongest = (step_count(1 / (2 * job.lr * value)) for value in search.ends)
        return (
            f"At the learning rate {job.lr:g} decay has acted after about 1/(2·lr·λ) = "
            f"{step_count(1 / (2 * job.lr * search.middle))} steps at the middle value, {strongest} at the strongest "
            f"and {weakest} at the weakest: a rung before that ranks noise; name later ones, rungs=(2, 6) say."
        )
    if isinstance(job, Command) and not job.has("value") and not job.rungs:
        return (
            "A rung waits until decay has acted at the middle value, which takes about 1/(2·lr·λ) steps by the record "
            "of torchdecay run: before that it would rank noise."
        )
    return _UNKNOWN


def _meaning_of_job(job: Job, contender: Contender) -> Meaning:
    if isinstance(contender.what, Decay) and isinstance(job, Command):
        one = job.applied.get(job.spelled(contender.what.coefficient))
        if one is not None:
            return said_by(one.forecast, contender.label, one.num_steps)
    return Meaning(label=contender.label, why="" if contender.what is None else _OWN)


def as_trained(task: Any, maximize: bool | None) -> Task | Job:
    """A task, a job, or a function as one."""
    if isinstance(task, (Task, Job)):
        if maximize is not None:
            raise TaskError(f"maximize is given, and {task.name} says by itself what is better.", fix="Leave it out.")
        return task
    if callable(task):
        return Function(task, maximize=bool(maximize))
    raise TaskError(
        f"what is to be swept is of type {type(task).__name__}.",
        fix='Give a Task, task_named("digits") say, a function that trains, or lab.Command([...], metric=...).',
    )
