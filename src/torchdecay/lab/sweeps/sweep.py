"""`sweep`: one form of decay with many values, and which to use."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from torchdecay.errors import TaskError
from torchdecay.lab.directions.direction import direction as find_direction
from torchdecay.lab.engines.engine import Engine, as_engine
from torchdecay.lab.engines.runs import Progress, Runs
from torchdecay.lab.jobs.command import Command
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.storage.store import Store, as_store
from torchdecay.lab.sweeps.choice import Rule
from torchdecay.lab.sweeps.halving import Halving
from torchdecay.lab.sweeps.meaning import Meaning
from torchdecay.lab.sweeps.points import points_of
from torchdecay.lab.sweeps.racing import check_seeds
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.sameness import apart
from torchdecay.lab.sweeps.search import Candidate, Search, as_search
from torchdecay.lab.sweeps.stages import planned_runs, run_stages
from torchdecay.lab.sweeps.subject import as_trained, subject_of
from torchdecay.lab.sweeps.trials import FormLike, TrialMaker
from torchdecay.lab.tasks.registry import BUILT_IN
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.trial import as_seeds
from torchdecay.text import nearest

_APART = "each group has its own"


def sweep(
    task: Task | Job | Callable[..., Any],
    form: FormLike | None = None,
    values: Iterable[float] | None = None,
    *,
    seeds: Iterable[int] | int | None = None,
    groups: Mapping[str, Any] | None = None,
    search: str | tuple[float, float] | Search = "grid",
    rule: Rule = "best",
    engine: str | Engine = "auto",
    store: str | Path | Store | None = None,
    direction: bool = False,
    maximize: bool | None = None,
    fork_at: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_result: Callable[[Sweep], None] | None = None,
) -> Sweep:
    r"""Train a task with one form of decay and many values, and say which to use and how sure that is.

    $$\hat\lambda = \operatorname{argmax}_\lambda \frac{1}{n} \sum_{s=1}^n V(\lambda, s)$$

    V(λ, s) is the task's score (or its negated loss) on validation rows after training with coefficient λ and seed s;
    n counts the seeds. A task without validation rows gets a fifth of its training rows set aside; the test rows take
    no part in the choice and are reported for the chosen value, against the run without decay, which is always made.
    `compare` in contrast takes decays of any form, trains them one after the other and judges each against none.

    Every run has one thread unless the task says more, so that each engine's numbers are the same. Ctrl-C returns
    what is finished, with `interrupted` set; a run that fails is recorded and the others go on.

    Args:
        task: what to train: `task_named("digits")`, or a `Task` of your own; a function(decay, *, seed, lr_scale,
            report) that trains in any way and returns the metric, and may report(step, metric) on the way; or a
            `Command`.
        form: a preset's name ("decoupled", which None is, "toward:initial"), or a function from a number to a Decay.
        values: coefficients, above 0; None searches a range, the task's own unless `search` says which.
        seeds: seeds, or how many (0, 1, ...); None takes the task's own.
        groups: {name: selector}: a coefficient for each group of parameters, the first that matches has one; only
            those decay that the task's rules let decay.
        search: which coefficients to try: a kind ("grid", "random", "tpe", "halving"), the two ends of a range,
            (0.1, 10), or all that a `Search` says, learning rates too.
        rule: "best": the best mean; "one_se": the largest value within one standard error of it.
        engine: "auto" finds out which way is done first; "serial", "process" (all cores), "stacked" (one model
            with stacked parameters), "ray" (a cluster); or with options, `Engine("process", workers=2)`.
        store: an SQLite file, which Optuna's dashboard opens; every finished run is written at once. To go on with
            what it holds: `Store("sweep.db", resume=True)`.
        direction: whether to say, when the value is chosen, on which of the model's parts (or `groups`) decay should
            be stronger or weaker than that; see `torchdecay.lab.direction` for what it costs.
        maximize: of a function, whether more of what it returns is better; None is False, as for a loss.
        fork_at: the step of a task from which on the values differ: all runs of a seed share one training without
            decay up to there, so that eight values of the last quarter of a run cost about three runs.
        on_progress: called while it runs.
        on_result: called with the results so far, after each run.

    Returns:
        A `Sweep`: print its `verdict`, read `.best` and `.curve`.

    Raises:
        TaskError: a range, search, engine, store or task that can't be used.
        DecayError, PlanError, ApplyError: a form or a group that means nothing, or does not fit the task.

    Example:
        >>> import dataclasses
        >>> from torchdecay.lab import sweep, task_named
        >>> short = dataclasses.replace(task_named("digits"), num_steps=40)
        >>> result = sweep(short, "decoupled", [1, 100], seeds=3, engine="serial")
        >>> [(point.label, len(result.of(point.label))) for point in result.points]
        [('none', 3), ('decoupled(1)', 3), ('decoupled(100)', 3)]
        >>> result.best.point.label in ("none", "decoupled(1)", "decoupled(100)")
        True

    Reference: decay swept by powers of ten, How to set AdamW's weight decay as you scale model and dataset size,
    arXiv 2405.13698.
    """
    started = time.perf_counter()
    search = as_search(search, values)
    rules = get_args(Rule)
    if rule not in rules:
        raise TaskError(f"there is no rule {rule!r}.", f"Rules: {', '.join(rules)}.", nearest(str(rule), rules))
    trained = as_trained(task, maximize)
    seeds = as_seeds(trained.seeds if seeds is None else seeds)
    if isinstance(trained, Command) and not trained.has("seed"):
        seeds = seeds[:1]
    if search.race:
        check_seeds(seeds)
    engine, store = as_engine(engine), as_store(store)
    subject = subject_of(trained, form, search, groups, seeds, fork_at)
    trained, maker, search = subject.trained, subject.maker, subject.search
    if direction and isinstance(trained, Job):
        raise TaskError("a direction needs a task, whose model is known.", fix="Leave direction=True out.")
    if direction and fork_at is not None:
        raise TaskError("a direction is worked out of whole runs, and fork_at is given.", fix="Leave out one of them.")
    low, high = search.ends
    halves, meanings = search.kind == "halving", dict[str, Meaning]()

    def result() -> Sweep:
        contenders = {trial.contender.label: trial.contender for trial in run.trials}
        points = points_of(run.trials)
        for point in points:
            # What a run of a job wrote is there only once it has ended.
            if point.label not in meanings or (isinstance(trained, Job) and meanings[point.label].fraction is None):
                found = None if point.values else subject.meaning(contenders[point.label], point.lr_scale)
                meanings[point.label] = found or Meaning(label=point.label, why=_APART)
        runs, counted, alike = apart(run.runs, seeds) if isinstance(trained, Job) else (run.runs, seeds, "")
        return Sweep(
            form=maker.form.name,
            equation="" if maker.form.place else maker.form(low).equation,
            points=points,
            runs=runs,
            seeds=counted,
            num_steps=trained.num_steps,
            low=low,
            high=high,
            lr=subject.lr,
            groups=tuple((name, str(selector)) for name, selector in (groups or {}).items()),
            search=search.kind,
            race=search.race,
            rungs=subject.rungs.steps,
            why_rungs=subject.rungs.why,
            rule=rule,
            engine=run.engine.name,
            why_engine=run.why_engine,
            meanings=tuple(meanings[point.label] for point in points),
            failures=tuple(one for one in run.failures if one.seed in counted),
            interrupted=run.interrupted,
            alike_seeds=tuple(seed for seed in seeds if seed not in counted),
            store="" if run.store is None else str(run.store.path),
            task_words=trained.name if trained.name in BUILT_IN and isinstance(trained, Task) else "",
            seconds=time.perf_counter() - started,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            **{**subject.about, "notes": (*subject.about["notes"], *([alike] if alike else []))},
        )

    run = Runs(
        task=trained,
        measure=subject.measure,
        engine=engine,
        on_progress=on_progress,
        planned=planned_runs(search, maker, seeds),
        steps_of=_steps_of(trained, subject.rungs.steps if halves else ()),
        takes_stopped=halves,
        on_run=lambda: on_result(result()) if on_result is not None else None,
    )
    with run.under_way(store, {} if store is None else subject.identity()):
        run_stages(search, maker, seeds, run, subject.rungs.steps)
    found = result()
    if direction and isinstance(trained, Task):
        found = dataclasses.replace(found, direction=_direction(found, trained, maker, groups))
    return found


def _steps_of(trained: Task | Job, rungs: tuple[int, ...]) -> Callable[[int], int] | None:
    """About how many steps so many runs take; a run of a job, whose steps nobody knows, counts as one."""
    if isinstance(trained, Job):
        return lambda count: count
    if trained.trunk is not None:
        shared = next(iter(trained.trunk.values()))["step"]
        return lambda count: count * (trained.num_steps - shared)
    return partial(Halving.steps, rungs, trained.num_steps) if rungs else None


def _direction(sweep: Sweep, task: Task, maker: TrialMaker, groups: Mapping[str, Any] | None) -> tuple[str, ...]:
    chosen = sweep.best
    if sweep.interrupted or chosen is None or chosen.point.is_bare:
        return ("No direction: no value was chosen to go on from.",)
    if chosen.point.lr_scale != 1:
        return ("No direction: it is worked out at the task's own learning rate only.",)
    try:
        contender = maker.contender(Candidate(chosen.point.coefficients))
        found = find_direction(task, contender.what, seeds=sweep.seeds, groups=groups)
    except KeyboardInterrupt:
        return ("No direction: stopped early.",)
    return tuple(line.strip() for line in str(found).splitlines())
