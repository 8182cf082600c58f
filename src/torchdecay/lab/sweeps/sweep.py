"""`sweep`: one form of decay with many values, and which to take."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from torchdecay.errors import TaskError
from torchdecay.lab.directions.direction import direction as find_direction
from torchdecay.lab.engines.engine import Engine, as_engine
from torchdecay.lab.engines.runs import Progress, Runs
from torchdecay.lab.storage.identity import identity_of
from torchdecay.lab.storage.store import Store, as_store
from torchdecay.lab.sweeps.choice import Rule
from torchdecay.lab.sweeps.halving import Halving
from torchdecay.lab.sweeps.meaning import Meaning, meaning_of
from torchdecay.lab.sweeps.points import points_of
from torchdecay.lab.sweeps.ranges import with_range
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.search import Candidate, Search, as_search
from torchdecay.lab.sweeps.stages import planned_runs, run_stages
from torchdecay.lab.sweeps.trials import FormLike, TrialMaker, as_form
from torchdecay.lab.tasks.registry import BUILT_IN
from torchdecay.lab.tasks.task import Task, data_of, model_of
from torchdecay.lab.training.facts import describe
from torchdecay.lab.training.holdout import with_validation
from torchdecay.lab.training.seeds import as_seeds
from torchdecay.lab.training.setup import Setup
from torchdecay.text import nearest

_APART = "each group has its own"


def sweep(
    task: Task,
    form: FormLike = "decoupled",
    values: Iterable[float] | None = None,
    *,
    seeds: Iterable[int] | int | None = None,
    groups: Mapping[str, Any] | None = None,
    search: str | tuple[float, float] | Search = "grid",
    rule: Rule = "best",
    engine: str | Engine = "auto",
    store: str | Path | Store | None = None,
    direction: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_result: Callable[[Sweep], None] | None = None,
) -> Sweep:
    r"""Train a task with one form of decay and many values, and say which to take and how sure that is.

    $$\hat\lambda = \operatorname{argmax}_\lambda \frac{1}{n} \sum_{s=1}^n V(\lambda, s)$$

    V(λ, s) is the task's score (or its negated loss) on validation rows after training with coefficient λ and seed s;
    n counts the seeds. A task without validation rows gets a fifth of its training rows set aside; the test rows take
    no part in the choice and are reported for the chosen value, against the run without decay, which is always made.
    `compare` in contrast takes decays of any form, trains them one after the other and judges each against none.

    Every run has one thread unless the task says more, so that each engine's numbers are the same. Ctrl-C returns
    what is finished, with `interrupted` set; a run that fails is recorded and the others go on.

    Args:
        task: what to train; `task_named("digits")`, or a `Task` of your own.
        form: a preset's name ("decoupled", "toward:initial"), or a function from a number to a Decay.
        values: coefficients, above 0; None searches a range, the task's own unless `search` says which.
        seeds: seeds, or how many (0, 1, ...); None takes the task's own.
        groups: {name: selector}: a coefficient for each group of parameters, the first that matches has one; only
            those decay that the task's rules let decay.
        search: which coefficients to try: a kind ("grid", "random", "tpe", "halving"), the two ends of a range,
            (0.1, 10), or all that a `Search` says, learning rates too.
        rule: "best": the best mean; "one_se": the largest value within one standard error of it.
        engine: "auto" times the ways and takes the fastest; "serial", "process" (all cores), "stacked" (one model
            with stacked parameters), "ray" (a cluster); or with options, `Engine("process", workers=2)`.
        store: an SQLite file, which Optuna's dashboard opens; every finished run is written at once. To go on with
            what it holds: `Store("sweep.db", resume=True)`.
        direction: whether to say, when the value is chosen, on which of the model's parts (or `groups`) decay should
            be stronger or weaker than that; see `torchdecay.lab.direction` for what it costs.
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
    seeds = as_seeds(task.seeds if seeds is None else seeds)
    made, engine, store = as_form(form), as_engine(engine), as_store(store)
    # One thread, as a worker has, so that sums keep their order whatever the engine.
    task, note = with_validation(dataclasses.replace(task, num_threads=task.num_threads or 1), seeds[0])
    with torch.random.fork_rng(devices=[]):
        # One model for all that is found out before and after the runs: to build one may take minutes.
        model, data = model_of(task, 0), data_of(task, 0)
        maker = TrialMaker.make(task, model, made, groups)
        search, scale = with_range(search, maker, model), min(search.lr_scales)
        low, high = search.ends
        weakest = maker.contender(Candidate((low,) * maker.num_values), scale)
        with Setup.make(task, model, weakest, lr_scale=scale) as setup:
            lr = max(float(group["lr"]) for group in setup.optimizer.param_groups) / scale
        about = describe(task, model, data)
    halves, meanings = search.kind == "halving", dict[str, Meaning]()

    def result() -> Sweep:
        contenders = {trial.contender.label: trial.contender for trial in run.trials}
        points = points_of(run.trials)
        for point in points:
            if point.label not in meanings:
                own = partial(meaning_of, task, model, contenders[point.label], lr_scale=point.lr_scale)
                meanings[point.label] = Meaning(label=point.label, why=_APART) if point.values else own()
        return Sweep(
            form=made.name,
            equation=made(low).equation,
            points=points,
            runs=run.runs,
            seeds=seeds,
            num_steps=task.num_steps,
            low=low,
            high=high,
            lr=lr,
            groups=tuple((name, str(selector)) for name, selector in (groups or {}).items()),
            search=search.kind,
            rule=rule,
            engine=run.engine.name,
            why_engine=run.why_engine,
            meanings=tuple(meanings[point.label] for point in points),
            failures=run.failures,
            interrupted=run.interrupted,
            store="" if run.store is None else str(run.store.path),
            task_words=task.name if task.name in BUILT_IN else "",
            seconds=time.perf_counter() - started,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            **about | {"notes": (*about["notes"], note)},
        )

    run = Runs(
        task=task,
        measure=f"validation_{'loss' if task.score is None else 'score'}",
        engine=engine,
        on_progress=on_progress,
        planned=planned_runs(search, maker, seeds),
        steps_of=partial(Halving.steps, task) if halves else None,
        takes_stopped=halves,
        on_run=lambda: on_result(result()) if on_result is not None else None,
    )
    identity = {} if store is None else identity_of(task, model, data, form=made.name, groups=groups)
    with run.under_way(store, identity):
        run_stages(search, maker, seeds, run)
    found = result()
    return dataclasses.replace(found, direction=_direction(found, maker, groups)) if direction else found


def _direction(sweep: Sweep, maker: TrialMaker, groups: Mapping[str, Any] | None) -> tuple[str, ...]:
    chosen = sweep.best
    if sweep.interrupted or chosen is None or chosen.point.is_bare:
        return ("No direction: no value was chosen to go on from.",)
    candidate = Candidate(
        (chosen.point.value,) if chosen.point.value is not None else tuple(value for _, value in chosen.point.values),
        chosen.point.lr_scale,
    )
    if candidate.lr_scale != 1:
        return ("No direction: it is worked out at the task's own learning rate only.",)
    try:
        with torch.random.fork_rng(devices=[]):
            contender = maker.contender(candidate, candidate.lr_scale)
        found = find_direction(maker.task, contender.what, seeds=sweep.seeds, groups=groups)
    except KeyboardInterrupt:
        return ("No direction: stopped early.",)
    return tuple(line.strip() for line in str(found).splitlines())
