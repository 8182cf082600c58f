"""Sweeps: what is tried, what is chosen by which rows, and what is said about it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import random
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import torchdecay as td
from sweeping import accuracy, network, sgd, task
from torchdecay.errors import ApplyError, DecayError, LoadError, MissingExtra, PlanError, TaskError
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.sweeps.halving import Halving, rungs_of
from torchdecay.lab.sweeps.meaning import Meaning, meaning_of
from torchdecay.lab.sweeps.points import Point
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.search import Search
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.lab.sweeps.trials import as_form
from torchdecay.lab.tasks.registry import task_named
from torchdecay.lab.tasks.task import Data
from torchdecay.lab.training.contenders import Contender
from torchdecay.lab.training.holdout import with_validation
from torchdecay.lab.training.results import TrainingRun
from torchdecay.reports.sweep.advice import next_command

pytestmark = pytest.mark.long


def run_of(label: str, seed: int, validation: float, test: float = 0.5, steps: int = 10) -> TrainingRun:
    return TrainingRun(
        label=label,
        decay="none" if label == "none" else label,
        seed=seed,
        steps=(0, steps),
        train_loss=(1.0, 0.1),
        test_loss=(1.0, 1 - test),
        test_score=(0.0, test),
        validation_loss=(1.0, 1 - validation),
        validation_score=(0.0, validation),
        weight_norm=(1.0, 1.0),
        gradient_norm=(1.0, 1.0),
        seconds=0.1,
    )


def made(finals: dict[float | None, list[tuple[float, float]]], **changes: Any) -> Sweep:
    """A sweep with these (validation, test) scores, one per seed, for each coefficient."""
    labels = {value: "none" if value is None else f"decoupled({value:g})" for value in finals}
    points = tuple(Point(label=label, decay=label, value=value) for value, label in labels.items())
    runs = tuple(run_of(labels[v], seed, *pair) for v, pairs in finals.items() for seed, pair in enumerate(pairs))
    fields: dict[str, Any] = {
        "task": "digits", "title": "T", "step_name": "step", "form": "decoupled", "points": points, "runs": runs,
        "seeds": tuple(range(max(map(len, finals.values())))), "num_steps": 10, "low": 0.1, "high": 10.0,
        "search": "grid", "engine": "serial", "score_name": "accuracy", "task_words": "digits",
    }  # fmt: skip
    return Sweep(**(fields | changes))


CLEAR = {
    None: [(0.50, 0.52), (0.51, 0.50), (0.49, 0.51)],
    0.1: [(0.60, 0.61), (0.61, 0.60), (0.59, 0.60)],
    1.0: [(0.80, 0.81), (0.82, 0.79), (0.78, 0.80)],
    10.0: [(0.79, 0.99), (0.80, 0.99), (0.79, 0.99)],
}


def test_the_choice_is_made_on_validation_rows_only() -> None:
    """A value that shines on the test rows is not taken for it; the test number is that of the chosen one."""
    best = made(CLEAR).best
    assert best is not None and best.point.value == 1.0 and best.measure == "validation_score"
    assert best.mean == pytest.approx(0.80) and best.test_mean == pytest.approx(0.80)
    # t with 2 degrees of freedom: 4.3027 standard errors of .02/√3.
    assert best.high == pytest.approx(0.80 + 4.302653 * 0.02 / math.sqrt(3), abs=1e-6)
    assert best.against is not None and best.against.better and best.against.mean == pytest.approx(0.29)


def test_one_se_takes_the_largest_value_within_one_standard_error() -> None:
    """.793 lies within .02/√3 of .80, so the stated rule takes 10 for 1; .60 does not."""
    result = made(CLEAR).with_rule("one_se")
    assert result.best is not None and result.best.point.value == 10.0 and result.best.leader == "decoupled(1)"
    assert "the largest within one standard error" in td.verdict(result)
    assert "The best mean itself is that of decoupled(1)" in td.verdict(result)


def test_what_can_not_be_told_from_the_best_is_named() -> None:
    """10 is within the seeds' noise of 1; 0.1 and none are not."""
    best = made(CLEAR).best
    assert best is not None and best.tied == ("decoupled(10)",)
    assert "can't be told from the best: decoupled(10)." in td.verdict(made(CLEAR))


def test_no_measurable_difference_is_said() -> None:
    """Better on average over three seeds, but not by more than they scatter: the words say so."""
    noisy = {None: [(0.50, 0.5), (0.60, 0.7), (0.40, 0.3)], 1.0: [(0.60, 0.4), (0.45, 0.6), (0.52, 0.62)]}
    verdict = td.verdict(made(noisy))
    assert "no measurable difference (paired difference over 3 seeds" in verdict
    assert "none differs measurably from the best" in verdict


def test_two_seeds_claim_nothing() -> None:
    """However narrow their interval: no difference is denied either, and no value is said to do as well."""
    verdict = td.verdict(made({None: [(0.1, 0.1)] * 2, 0.1: [(0.3, 0.3)] * 2, 1.0: [(0.8, 0.8), (0.81, 0.81)]}))
    assert "two seeds are too few to claim a difference (paired difference over 2 seeds +0.705" in verdict
    assert "Two seeds are too few to claim anything: repeat with --seeds 3 or more" in verdict
    assert not any(said in verdict for said in ("measurabl", "can't be told", "any would do"))


def test_before_all_are_done_what_has_the_same_seeds_is_compared() -> None:
    """A setting with more runs is no better for that."""
    whole = made({None: [(0.5, 0.5), (0.5, 0.5)], 1.0: [(0.8, 0.8), (0.8, 0.8)]})
    early = replace(whole, runs=whole.runs[:3], interrupted=True)
    said = td.verdict(early)
    assert "Best so far: decoupled(1), " in said and "over 1 seed, of 2 settings" in said
    assert "Without a store the next try begins anew." in said
    assert "nothing can be told yet" in td.verdict(replace(whole, runs=whole.runs[:1], interrupted=True))


def test_no_decay_can_win() -> None:
    """Where nothing did better than no decay, no decay is the choice."""
    best = made({None: [(0.9, 0.9)] * 2, 1.0: [(0.5, 0.5)] * 2}).best
    assert best is not None and best.point.is_bare and best.against is None


def test_diverged_stopped_and_unfinished_points_do_not_compete() -> None:
    """NaN in one seed, a run that halving stopped, a missing seed: each would flatter a mean."""
    finals = CLEAR | {20.0: [(0.9, 0.9), (math.nan, 0.9), (0.9, 0.9)], 30.0: [(0.99, 0.9), (0.99, 0.9)]}
    result = made(finals)
    stopped = run_of("decoupled(0.1)", 3, 1.0, steps=4)
    result = dataclasses.replace(result, runs=(*result.runs, stopped))
    assert result.best is not None and result.best.point.value == 1.0
    by_value = {one.point.value: one for one in result.curve}
    assert by_value[20.0].diverged == 1 and by_value[20.0].num_runs == 2
    assert by_value[0.1].stopped == (4,) and by_value[0.1].mean == pytest.approx(0.6)
    assert "Diverged, and out of the choice: decoupled(20)." in td.verdict(result)
    assert "stopped 1 of" in td.verdict(result)


def test_of_equals_the_weakest_is_taken() -> None:
    """No decay where it does as well as the best, else the smallest value: nothing speaks for more."""
    equal = [(0.9, 0.5)] * 3
    best = made({None: equal, 1.0: equal, 10.0: equal}).best
    assert best is not None and best.point.is_bare
    best = made({None: [(0.5, 0.5)] * 3, 1.0: equal, 10.0: equal}).best
    assert best is not None and best.point.value == 1.0 and "decoupled(10)" in best.tied


def test_two_seeds_name_a_value_and_claim_nothing() -> None:
    """However far apart: two seeds that agree by luck have an interval of almost no width."""
    far = {None: [(0.50, 0.50), (0.51, 0.51)], 1.0: [(0.90, 0.90), (0.91, 0.911)]}
    best = made(far).best
    assert best is not None and best.point.value == 1.0
    assert best.against is not None and best.against.better is None
    three = {None: [*far[None], (0.52, 0.52)], 1.0: [*far[1.0], (0.92, 0.921)]}
    best = made(three).best
    assert best is not None and best.against is not None and best.against.better is True


@pytest.mark.long
def test_effects_are_claimed_where_there_is_none_in_a_twentieth_at_most() -> None:
    """540 sweeps whose values do nothing, of more and fewer seeds, values and rows; test_null.py has more."""
    draw = random.Random(0)
    claims = {2: 0, 3: 0, 5: 0}

    def score(base: float, rows: int) -> float:
        share = min(0.98, max(0.02, base + draw.gauss(0, 0.03)))
        return sum(draw.random() < share for _ in range(rows)) / rows if rows else share

    for seeds, count, rows in itertools.product(claims, (3, 8), (20, 200, 0)):
        for _ in range(30):
            bases = [0.8 + draw.gauss(0, 0.03) for _ in range(seeds)]
            values = [None, *(10.0**i for i in range(count))]
            best = made({v: [(score(base, rows), score(base, rows)) for base in bases] for v in values}).best
            claims[seeds] += best is not None and best.against is not None and best.against.better is not None
    assert claims[2] == 0 and all(claims[seeds] / 180 < 0.05 for seeds in (3, 5)), claims


def test_intervals_of_an_accuracy_end_where_it_does() -> None:
    """Three seeds near 1 have a t interval beyond it; no accuracy is."""
    best = made({None: [(0.5, 0.5)] * 3, 1.0: [(1.0, 0.99), (0.7, 0.9), (1.0, 0.98)]}).best
    assert best is not None and best.high == best.test_high == 1.0 and 0.0 <= (best.low or 0.0) < 0.9
    (point,) = [one for one in made({1.0: [(0.0, 0.0), (0.3, 0.1), (0.0, 0.0)]}).curve if not one.point.is_bare]
    assert point.low == 0.0


def test_losses_are_better_when_smaller() -> None:
    """Without a score the validation loss decides, and less is better."""
    result = made(CLEAR, score_name="")
    assert result.best is not None and result.best.point.value == 1.0 and result.best.mean == pytest.approx(0.2)
    assert result.best.against is not None and result.best.against.better


def test_one_seed_claims_nothing() -> None:
    """No interval, no difference, and the advice to repeat."""
    result = made({value: pairs[:1] for value, pairs in CLEAR.items()})
    assert result.best is not None and result.best.low is None
    assert "one seed, so this is what happened once" in td.verdict(result) and "--seeds 3 or more" in td.verdict(result)


def test_nothing_finished_is_said() -> None:
    """An empty sweep has a verdict and no choice."""
    result = made({None: []}, seeds=(0,))
    assert result.best is None and "nothing is chosen" in td.verdict(result) and next_command(result) == ""


@pytest.mark.parametrize(
    ("finals", "command"),
    [
        (CLEAR, "torchdecay compare digits --decay none --decay decoupled:1 --seeds 5"),
        ({**CLEAR, 10.0: [(0.9, 0.9)] * 3}, "torchdecay sweep digits --form decoupled --from 0.1 --to 1000 --seeds 3"),
        ({**CLEAR, 0.1: [(0.9, 0.9)] * 3}, "torchdecay sweep digits --form decoupled --from 0.001 --to 10 --seeds 3"),
        ({**CLEAR, 0.1: [(0.9, 0.51)] * 3}, "torchdecay sweep digits --form decoupled --from 0.1 --to 10 --seeds 5"),
    ],
    ids=["use it", "wider above", "wider below", "nothing below what changes nothing"],
)
def test_the_next_command(finals: Any, command: str) -> None:
    """A clear choice is to be compared, one at an end needs a wider range."""
    assert next_command(made(finals)) == command


def test_what_was_stopped_is_not_chosen() -> None:
    """The best so far is named, among as many as it can be set against; the next step is to finish."""
    stopped = made({**CLEAR, 1.0: CLEAR[1.0][:1]}, interrupted=True, store="s.db")
    stopped = stopped.with_command("torchdecay sweep digits --points 9 --store s.db --engine serial")
    said = td.verdict(stopped)
    assert stopped.best is None and "Chosen" not in said and "Take" not in td.verdict(stopped)
    assert "Nothing is chosen before all are done. Best so far: decoupled(10)" in said and "of 3 settings" in said
    assert next_command(stopped) == f"{stopped.command} --resume"
    bare = dataclasses.replace(stopped, store="", command="torchdecay sweep digits --seeds 3")
    assert next_command(bare) == "torchdecay sweep digits --seeds 3 --store sweep.db"


def test_the_next_command_keeps_every_option() -> None:
    """Of what was typed only the range changes, and what is in the store is taken over."""
    options = "--search halving --points 16 --steps 90 --engine process --lr-scale 1 --store 's 1.db' --out o --resume"
    typed = f"torchdecay sweep digits --from=0.1 --to 10 --value 3 {options} --json"
    at_end = made({**CLEAR, 10.0: [(0.9, 0.9)] * 3}, store="s 1.db").with_command(typed)
    kept = options.replace(" --resume", "")
    assert next_command(at_end) == f"torchdecay sweep digits {kept} --json --from 0.1 --to 1000 --resume"


@pytest.mark.parametrize(("fraction", "end"), [(1e-4, "1000"), (0.02, "400"), (0.2, "40"), (0.8, "")])
def test_nothing_is_proposed_that_must_fail(fraction: float, end: str) -> None:
    """A wider range ends where a step would take whole weights; where that is at hand, none is proposed."""
    meanings = (Meaning(label="decoupled(10)", fraction=fraction, max_fraction=fraction),)
    at_end = made({**CLEAR, 10.0: [(0.9, 0.9)] * 3}, meanings=meanings)
    assert (f"--to {end} " in next_command(at_end)) if end else ("sweep" not in next_command(at_end))
    assert ("at the upper end" in td.verdict(at_end)) == bool(end)


def test_nothing_is_looked_for_beyond_what_is_no_better() -> None:
    """Best in validation at the upper end, worse than no decay on the test rows: no wider range."""
    worse = made({**CLEAR, 10.0: [(0.9, 0.1), (0.91, 0.11), (0.9, 0.1)]})
    assert worse.best is not None and worse.best.against is not None and worse.best.against.better is False
    assert "a wider range" not in td.verdict(worse) and "--to" not in next_command(worse)


def test_a_tie_chooses_no_decay() -> None:
    """Where no decay does as well as the best, it is the choice."""
    tied = made({None: [(0.9, 0.8)] * 3, 0.1: [(0.8, 0.8)] * 3, 10.0: [(0.9, 0.9)] * 3}).best
    assert tied is not None and tied.point.is_bare


def test_intervals_of_an_accuracy_stay_within_0_and_1() -> None:
    """Whatever three seeds that scatter would have."""
    best = made({None: [(0.2, 0.1)] * 3, 1.0: [(0.99, 0.99), (0.99, 0.2), (0.9, 0.95)]}).best
    assert best is not None and best.point.value == 1.0
    assert best.high == 1.0 and best.test_high == 1.0 and best.test_low == 0.0


def test_unsure_asks_for_more_seeds() -> None:
    """The same command as typed, with more seeds, going on from the store."""
    unsure = {v: [(a, 0.5 + 0.1 * s) for s, (a, _) in enumerate(pairs)] for v, pairs in CLEAR.items()}
    typed = made(unsure, store="s.db").with_command("torchdecay sweep digits --points 9 --seeds 3 --store s.db")
    assert next_command(typed) == "torchdecay sweep digits --points 9 --store s.db --seeds 5 --resume"


def test_a_sweep_tries_the_run_without_decay_and_every_value_with_every_seed() -> None:
    """None first, each with each seed; failures recorded, labels as they print."""
    result = sweep(task(), "decoupled", [0.1, 1, 50], seeds=2, engine="serial")
    assert [point.label for point in result.points] == ["none", "decoupled(0.1)", "decoupled(1)", "decoupled(50)"]
    assert [len(result.of(point.label)) for point in result.points] == [2, 2, 2, 0]
    assert {failure.label for failure in result.failures} == {"decoupled(50)"}
    assert "ApplyError" in result.failures[0].traceback and "2 runs failed (decoupled(50))" in td.verdict(result)
    assert result.lr == 0.1 and result.equation.startswith("θ ← θ")


def test_rows_to_choose_by_are_taken_from_the_training_rows() -> None:
    """A fifth, drawn by the seed, in no other part; a task with its own validation rows keeps them."""
    split, note = with_validation(task(), 0)
    data, whole = split.data(3), task().data(3)
    assert data.sizes == {"train": 32, "test": 20, "validation": 8} and "8 of its 40 training rows" in note
    assert data.validation is not None
    together = torch.cat([data.train[0], data.validation[0]])
    assert torch.equal(together.sort(0).values, whole.train[0].sort(0).values)
    assert torch.equal(data.test[0], whole.test[0])
    assert torch.equal(data.train[0], split.data(3).train[0])
    own = task(data=lambda seed: dataclasses.replace(whole, validation=whole.test))
    assert with_validation(own, 0) == (own, "The choice is made on the task's own 20 validation rows.")
    few = task(data=lambda seed: Data(train=(whole.train[0][:4], whole.train[1][:4]), test=whole.test))
    with pytest.raises(TaskError, match="4 training rows and no validation rows"):
        with_validation(few, 0)


def test_groups_have_a_coefficient_each() -> None:
    """The first group that picks a parameter has it; what the rules spare stays spared."""
    search, groups = Search(0.1, 1, points=4), {"body": "0.*", "head": "*"}
    result = sweep(task(), groups=groups, search=search, seeds=1, engine="serial")
    assert [point.values for point in result.points if not point.is_bare] == [
        (("body", 0.1), ("head", 0.1)), (("body", 0.1), ("head", 1.0)),
        (("body", 1.0), ("head", 0.1)), (("body", 1.0), ("head", 1.0)),
    ]  # fmt: skip
    (same,) = result.of("decoupled: body 1, head 1")
    (plain,) = sweep(task(), "decoupled", [1.0], seeds=1, engine="serial").of("decoupled(1)")
    assert same.train_loss == plain.train_loss != result.of("decoupled: body 0.1, head 1")[0].train_loss
    assert result.groups == (("body", "0.*"), ("head", "*"))


@pytest.mark.parametrize(
    ("groups", "kind", "said"),
    [
        ({}, TaskError, "groups is empty"),
        ({"body": "0.*"}, TaskError, 'in no group: "2.weight"'),
        ({"bias": "*.bias", "rest": "*"}, TaskError, 'the group "bias" has no parameter that decays'),
        ({"typo": "7.*", "rest": "*"}, PlanError, "matches no parameter"),
    ],
)
def test_groups_that_do_not_fit(groups: Any, kind: type[Exception], said: str) -> None:
    """Who is left out, who is empty, who matches nothing: told before training."""
    with pytest.raises(kind, match=said):
        sweep(task(), groups=groups, engine="serial")


def test_a_map_over_learning_rates() -> None:
    """Each coefficient at each learning rate, and no decay at each as well; lr x 1 is the plain sweep."""
    result = sweep(task(), "decoupled", [0.1, 1], search=Search(lr_scales=(0.5, 1)), seeds=1, engine="serial")
    labels = ["none", "decoupled(0.1)", "decoupled(1)"]
    assert {point.label for point in result.points} == {*labels, *(f"{label} at lr x 0.5" for label in labels)}
    half = sweep(
        task(optimizer=lambda groups: torch.optim.SGD(groups, lr=0.05)), "decoupled", [1], seeds=1, engine="serial"
    )
    assert result.of("decoupled(1) at lr x 0.5")[0].train_loss == half.of("decoupled(1)")[0].train_loss


def test_halving_stops_the_worse_at_rungs_and_keeps_the_baseline() -> None:
    """Nine values: three go on at a ninth, one at a third of the steps; all seeds of a value together."""
    long = task(num_steps=36, eval_every=4)
    assert rungs_of(long).steps == (4, 12)
    result = sweep(long, search=Search(1e-3, 5, kind="halving", points=9), seeds=2, engine="serial")
    ends = sorted(run.steps[-1] for run in result.runs if run.seed == 0)
    assert ends == [4] * 6 + [12] * 2 + [36] * 2
    assert ends == sorted(run.steps[-1] for run in result.runs if run.seed == 1)
    assert len(result.of("none")) == 2
    assert Halving.steps((4, 12), 36, 9) == 9 * 4 + 3 * 8 + 1 * 24


def test_halving_waits_until_decay_has_acted() -> None:
    """Before 1/(2·lr·λ) steps a rung ranks noise: it comes later, and the verdict says so with the number."""
    long = task(num_steps=36, eval_every=4)
    acting = ([1, 2, 300], [7, 500], [9, 11, 20], [30])
    assert [rungs_of(long, some).steps for some in acting] == [(4, 12), (8, 12), (12,), (32,)]
    result = sweep(long, search=Search(0.2, 0.8, kind="halving", points=4), seeds=1, engine="serial")
    assert result.rungs == (12,) and "9.92 at their middle" in result.why_rungs
    assert result.why_rungs in td.verdict(result)


def test_halving_that_would_rank_noise_is_refused() -> None:
    """No value acts within the run, or not before the last point at which a run can be stopped."""
    long = task(num_steps=36, eval_every=4)
    with pytest.raises(TaskError, match=r"1/\(2·lr·λ\) = 50 steps at the strongest value, and the run has 36"):
        sweep(long, search=Search(0.001, 0.1, kind="halving", points=3), seeds=1, engine="serial")
    with pytest.raises(TaskError, match="would rank noise"):
        rungs_of(long, [34.0])


def test_random_and_tpe_give_as_many_points_as_asked_for() -> None:
    """Each drawn value is trained with each seed, beside the run without decay."""
    for search in ("random", "tpe"):
        result = sweep(task(), search=Search(kind=search, points=5), seeds=1, engine="serial")
        assert len(result.points) == 6 and len(result.runs) == 6


def test_what_a_value_means_in_steps() -> None:
    """Half-life and shrink from c·λ of the group, with its schedule; where there is no fraction, why not."""
    short = task(num_steps=10)
    one = meaning_of(short, short.model(), Contender(label="d", what=td.decoupled(1.0)))
    assert one.fraction == pytest.approx(0.1) and one.half_life == pytest.approx(math.log(0.5) / math.log(0.9))
    assert one.total_shrink == pytest.approx(1 - 0.9**10) and one.share_of_run == pytest.approx(one.half_life / 10)
    result = sweep(short, lambda value: td.forms.huber(value), [0.1], seeds=1, engine="serial")
    assert "does not remove a fixed fraction" in result.meanings[1].why
    assert result.form == "function <lambda>" and next_command(result) == ""

    def cut(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 5))

    scheduled = sweep(task(num_steps=10, scheduler=cut), "decoupled", [1.0], seeds=1, engine="serial").meanings[1]
    assert scheduled.total_shrink == pytest.approx(1 - 0.9**5)


def test_progress_tells_runs_steps_and_the_best() -> None:
    """A bar can show how far it is and what leads; done never exceeds planned, and ends there."""
    told: list[Any] = []
    sweep(task(score=accuracy), search=Search(0.01, 1, points=4), seeds=2, engine="serial", on_progress=told.append)
    assert all(one.runs_done <= one.runs_planned == 10 and one.steps_done <= one.steps_planned for one in told)
    assert told[-1].runs_done == 10 and told[-1].steps_done == told[-1].steps_planned == 180
    assert sum(one.run_is_done for one in told) == 10
    assert told[-1].best and 0 <= told[-1].best_value <= 1 and told[-1].measure == "validation_score"


def test_json_both_ways_and_a_frame() -> None:
    """A saved sweep is the sweep; a frame has one line per run."""
    result = sweep(task(), "decoupled", [0.1, 50], seeds=1, engine="serial", search=Search(lr_scales=(1, 2)))
    assert Sweep.from_json(result.to_json()) == result
    frame = result.to_frame()
    assert len(frame) == len(result.runs) and set(frame["coefficient"]) == {0.0, 0.1}
    assert frame["half_life"][0] == math.inf and "validation_loss" in frame
    for text, said in (("{", "not a sweep file"), ('{"format": "x"}', "does not say"), (
        '{"format": "torchdecay.sweep", "version": 7}', "version 7"), (
        '{"format": "torchdecay.sweep", "version": 1}', "incomplete"),
    ):  # fmt: skip
        with pytest.raises(LoadError, match=said):
            Sweep.from_json(text)


def test_a_sweep_becomes_a_comparison() -> None:
    """Tables and charts of comparisons serve sweeps as well; a point that is not there is answered."""
    result = made(CLEAR)
    chosen = result.comparison("none", "decoupled(1)")
    assert chosen.final("decoupled(1)", "validation_score") == (0.80, 0.82, 0.78)
    with pytest.raises(TaskError, match='Nearest: "decoupled'):
        result.of("decoupled(2)")


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"form": "decupled"}, DecayError, 'Nearest: "decoupled"'),
        ({"form": "toward"}, DecayError, "can't be swept by itself"),
        ({"form": lambda value: value}, DecayError, "not a Decay"),
        ({"values": []}, TaskError, "values is"),
        ({"values": [0.1, 0.1]}, TaskError, "there once"),
        ({"values": [-1.0]}, DecayError, "values"),
        ({"search": (10.0, 1.0)}, TaskError, "reversed"),
        ({"rule": "beste"}, TaskError, "Rules: best, one_se"),
        ({"search": "bayes"}, TaskError, "there is no search"),
        ({"engine": "stackd"}, TaskError, 'Nearest: "stacked"'),
        ({"seeds": 0}, TaskError, "seeds is 0"),
        ({"search": (50.0, 100.0)}, ApplyError, "50"),
    ],
)  # fmt: skip
def test_wrong_use_is_told_before_anything_is_trained(wrong: dict[str, Any], kind: type[Exception], said: str) -> None:
    """Each with what is wrong and what to write."""

    def never(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise AssertionError("trained")

    with pytest.raises(kind, match=said):
        sweep(task(loss=never), **({"engine": "serial"} | wrong))


HALVES = {"body": "0.*", "rest": "*"}


def counted(folder: str) -> torch.nn.Module:
    """The network; leaves a file for each time that it is built, in whatever process."""
    Path(folder, uuid.uuid4().hex).touch()
    return network()


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("engine", "groups", "during"),
    [("serial", HALVES, 10), (Engine("process", workers=1), None, 10), ("stacked", HALVES, 2)],
    ids=["serial", "process", "stacked"],
)
def test_a_large_model_is_built_once_and_then_once_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any, groups: Any, during: int
) -> None:
    """One model serves all that is found out before the first training and after the last; building may take minutes.

    Each run builds its own and no more; as one stack those of a seed share one.
    """
    folder, before = tmp_path / "built", []
    folder.mkdir()
    run = Engine.run

    def counting(*args: Any, **options: Any) -> None:
        before.append(len(list(folder.iterdir())))
        run(*args, **options)

    monkeypatch.setattr(Engine, "run", counting)
    counts = task(model=functools.partial(counted, str(folder)))
    search = Search(0.1, 0.4, points=4)
    result = sweep(counts, groups=groups, search=search, seeds=2, engine=engine, store=tmp_path / "s.db")
    assert before[0] == 1 and len(result.runs) == 10 and len(result.meanings) == 5
    assert len(list(folder.iterdir())) == 1 + during


def test_forms_by_name_and_by_function() -> None:
    """What follows a colon is kept; a preset passed as it is has its name."""
    assert as_form("toward:initial")(0.5) == td.toward("initial", 0.5)
    assert as_form("huber:delta=0.1")(2.0) == td.forms.huber(2.0, delta=0.1)
    assert as_form(td.decoupled).name == "decoupled"
    assert as_form(lambda value: td.elastic_net(l1=value, l2=0.1))(0.2) == td.elastic_net(l1=0.2, l2=0.1)


def test_the_callers_random_state_and_threads_are_left_alone() -> None:
    """A sweep in a notebook does not change what the next cell draws."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sweep(task(model=network, optimizer=sgd), "decoupled", [0.1], seeds=1, engine="serial")
    assert torch.equal(torch.rand(3), expected)


def test_lazy_libraries_are_asked_for_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Optuna a plain grid without a store still runs; TPE says what to install."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert len(sweep(task(), "decoupled", [0.1], seeds=1, engine="serial").runs) == 2
    with pytest.raises(MissingExtra, match=r"torchdecay\[lab\]"):
        sweep(task(), search="tpe", seeds=1, engine="serial")


def test_a_sweep_can_say_which_way_to_move_from_its_choice() -> None:
    """The words of `direction` end the verdict and survive JSON; without a chosen decay it says why there are none."""
    found = sweep(task_named("ridge"), "native", [9.0], seeds=2, engine="serial", direction=True)
    again = Sweep.from_json(found.to_json())
    assert again.direction == found.direction
    assert td.verdict(found).endswith("\n".join(found.direction))
    if found.best is not None and not found.best.point.is_bare:
        assert "doubling changes the validation loss" in found.direction[-1]
    bare = sweep(task(num_steps=2), "decoupled", [1e-9], seeds=1, engine="serial", direction=True)
    assert bare.best is not None and bare.best.point.is_bare is ("no value was chosen" in bare.direction[0])
