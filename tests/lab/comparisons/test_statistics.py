"""The verdict claims what the seeds show and no more."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import pytest

import torchdecay as td
from torchdecay.errors import TaskError
from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.comparisons.statistics import interval, mean, spread
from torchdecay.lab.training.results import TrainingRun


def test_fewer_than_three_seeds_claim_nothing() -> None:
    """Two that agree have an interval without 0 by luck."""
    assert [one.better for one in comparison({"none": (1.0, 1.1), "d": (0.5, 0.6)}).contrasts] == [None]
    assert [one.better for one in comparison({"none": (1.0, 1.1, 1.2), "d": (0.5, 0.6, 0.71)}).contrasts] == [True]


def test_a_score_is_known_to_its_grain_only() -> None:
    """One row of twenty more in each of three seeds is no difference; ten rows are."""
    made = comparison({"none": (0.80, 0.85, 0.90), "d": (0.85, 0.90, 0.95)}, scored=True)
    (one,) = made.contrasts
    assert one.better is None and one.low is not None and one.high is not None and one.low < 0.05 < one.high
    made = comparison({"none": (0.40, 0.45, 0.50), "d": (0.90, 0.95, 1.0)}, scored=True)
    assert [one.better for one in made.contrasts] == [True]


def test_a_loss_that_was_never_below_zero_has_no_interval_there() -> None:
    """Cross-entropy has not; a loss that is somewhere below 0 may be."""
    best = comparison({"none": (0.01, 0.4, 0.02)}).best
    assert best is not None and best.low == 0.0
    best = comparison({"none": (-0.01, 0.4, 0.02)}).best
    assert best is not None and best.low is not None and best.low < -0.1


def test_a_run_that_is_there_twice_is_refused() -> None:
    """It would count as two seeds."""
    made = comparison({"none": (1.0, 1.1, 1.2)})
    with pytest.raises(TaskError, match='"none" with seed 0 is there twice'):
        dataclasses.replace(made, runs=(*made.runs, made.runs[0]))


def run(
    label: str, seed: int, test: float, *, train: float = 0.1, score: float | None = None, **more: Any
) -> TrainingRun:
    train_loss = more.pop("train_loss", (1.0, train))
    flat = (1.0,) * len(train_loss)
    return TrainingRun(
        label=label,
        decay=label,
        seed=seed,
        steps=tuple(range(len(train_loss))),
        train_loss=train_loss,
        test_loss=(*flat[1:], test),
        weight_norm=flat,
        gradient_norm=flat,
        seconds=1.0,
        train_score=None if score is None else (0.0, 1.0),
        test_score=None if score is None else (0.0, score),
        **more,
    )


def comparison(finals: dict[str, Sequence[float]], *, scored: bool = False, **more: Any) -> Comparison:
    runs = [
        run(label, seed, value, score=value if scored else None)
        for label, values in finals.items()
        for seed, value in enumerate(values)
    ]
    return Comparison(
        task="t",
        title="T",
        step_name="step",
        score_name="accuracy" if scored else "",
        labels=tuple(finals),
        runs=tuple(runs),
        seeds=tuple(range(max(map(len, finals.values())))),
        **more,
    )


@pytest.mark.long
def test_the_interval_is_scipys_t_interval() -> None:
    """The one piece of statistics here agrees with scipy's own function."""
    from scipy import stats

    values = [0.1, 0.3, 0.2, 0.45]
    expected = stats.t.interval(0.9, 3, loc=statistics.mean(values), scale=stats.sem(values))
    assert interval(values, 0.9) == pytest.approx(expected, rel=1e-12)
    assert interval([0.1]) == (None, None)
    assert spread([0.1]) is None and math.isnan(spread([0.1, math.nan]) or 0.0)


def test_the_mean_of_a_diverged_run_is_not_finite() -> None:
    """A NaN is shown, not averaged away."""
    assert math.isnan(mean([1.0, math.nan])) and mean([1.0, math.inf]) == math.inf
    assert mean([0.1] * 10) == 0.1


def test_a_difference_beyond_the_seeds_is_claimed_in_the_right_direction() -> None:
    """Lower loss is better, higher accuracy is better, and worse is called worse."""
    values = {"none": [1.00, 1.10, 1.05], "d": [0.50, 0.61, 0.55]}
    assert "d: test loss 0.553, against 1.050 for none: better" in td.verdict(comparison(values))
    assert "worse, and by more than the seeds explain" in td.verdict(comparison(values, scored=True))
    assert comparison(values).contrasts[0].better is True
    assert comparison(values, scored=True).contrasts[0].better is False


def test_overlapping_seeds_claim_nothing() -> None:
    """A mean that is better by less than the seeds' spread is no difference that they can show."""
    made = comparison({"none": [1.0, 1.3, 0.9], "d": [0.9, 1.35, 0.85]})
    assert made.contrasts[0].better is None
    assert "no difference that 3 seeds can show" in td.verdict(made)
    assert "better" not in td.verdict(made)


def test_differences_are_paired_by_seed() -> None:
    """Seeds that differ much from each other still show a small, steady gain; unpaired they would not."""
    made = comparison({"none": [1.0, 2.0, 3.0, 4.0], "d": [0.9, 1.89, 2.91, 3.9]})
    one = made.contrasts[0]
    assert one.differences == pytest.approx((-0.1, -0.11, -0.09, -0.1))
    assert one.better is True


def test_pairs_are_matched_by_seed_not_by_order() -> None:
    """After Ctrl-C some seeds lack a partner; the others keep theirs."""
    runs = (run("none", 0, 1.0), run("none", 2, 3.0), run("d", 2, 2.5), run("d", 1, 9.0))
    made = Comparison(task="t", title="T", step_name="step", labels=("none", "d"), runs=runs, seeds=(0, 1, 2))
    assert made.contrast("d", "none").differences == (-0.5,)


def test_several_decays_share_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With four decays against one baseline each interval is wider: level 1 − 0.05/4."""
    finals = {"none": [1.0, 1.2], **{name: [0.9, 1.15] for name in "abcd"}}
    made = comparison(finals)
    assert [one.level for one in made.contrasts] == [pytest.approx(0.9875)] * 4
    assert "all 4 hold together at 95%" in td.verdict(made)


def test_chance_alone_is_rarely_called_a_difference() -> None:
    """Two hundred comparisons of three decays that do nothing: about one in twenty may claim something, not more."""
    import random

    draw = random.Random(0)
    claims = 0
    for _ in range(200):
        finals = {label: [draw.gauss(1.0, 0.1) for _ in range(3)] for label in ("none", "a", "b", "c")}
        claims += any(one.better is not None for one in comparison(finals).contrasts)
    assert claims <= 20


def test_one_seed_is_what_happened_once() -> None:
    """Without a second seed there is no interval, and the verdict says what to do."""
    text = td.verdict(comparison({"none": [2.2], "d": [1.2]}))
    assert "one seed, so this is what happened once, not a measured difference" in text
    assert "--seeds 3" in text
    assert "better" not in text


def test_a_diverged_run_is_left_out_and_counted() -> None:
    """NaN in one seed neither hides the others nor passes unnoticed."""
    made = comparison({"none": [1.0, 1.1, 1.05], "d": [0.5, math.nan, 0.55]})
    assert made.contrasts[0].diverged == 1 and len(made.contrasts[0].differences) == 2
    assert "1 pairs left out: a run diverged" in td.verdict(made)


def test_when_every_run_of_a_decay_diverged_nothing_is_compared() -> None:
    """All NaN: said in words, without an exception."""
    made = comparison({"none": [1.0, 1.1], "d": [math.nan, math.inf]})
    assert "no pair of runs with finite numbers" in td.verdict(made)
    assert made.best is not None and made.best.label == "none"


def test_noise_is_called_noise() -> None:
    """For labels that mean nothing a lower test loss is not called better learning."""
    finals = {"none": [2.2], "d": [1.2]}
    made = comparison(finals, noise=True, chance_loss=math.log(2))
    assert "no model can be expected to get below 0.693 on the test rows" in td.verdict(made)
    assert "less confident mistakes, not something learned" in td.verdict(made)
    assert "noise" in td.verdict(comparison(finals, noise=True))
    assert "noise" not in td.verdict(comparison(finals))


def test_training_above_chance_and_swinging_is_said_only_where_it_is_so() -> None:
    """A training loss that stays above chance means that the decay lets nothing be fitted."""
    swinging = run("d", 0, 1.2, train_loss=(1.4, 0.9, 0.75, 0.81, 0.76, 0.80, 0.75, 0.82))
    calm = run("e", 0, 1.2, train_loss=(1.4, 0.9, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1))
    made = Comparison(
        task="t", title="T", step_name="epoch", labels=("none", "d", "e"),
        runs=(run("none", 0, 2.0), swinging, calm), seeds=(0,), noise=True, chance_loss=0.693,
    )  # fmt: skip
    told = "With d even the training loss stays above 0.693 (at the end 0.820), going up and down from epoch to epoch"
    assert told in td.verdict(made)
    assert "With e" not in td.verdict(made)


def test_equal_curves_are_spoken_of_once() -> None:
    """By hand and built in: one line for both, and a line that says that they are the same."""
    made = comparison({"none": [2.0], "by_hand": [1.2], "native": [1.2003]})
    assert td.verdict(made).count("against 2.000 for none") == 1
    assert "by_hand and native gave the same curves to within 0.001" in td.verdict(made)


def test_the_best_names_those_it_can_not_be_told_from() -> None:
    """A winner by a hair shares its place."""
    made = comparison({"none": [2.0, 2.1, 1.9], "a": [1.0, 1.1, 1.05], "b": [1.02, 1.08, 1.1]})
    best = made.best
    assert best is not None
    assert (best.label, best.tied, best.measure) == ("a", ("b",), "test_loss")
    assert best.low is not None and best.high is not None and best.low < best.value < best.high


def test_validation_rows_decide_where_there_are_some() -> None:
    """The winner on validation rows is the best, not the winner on test rows."""
    runs = (
        run("a", 0, 0.1, validation_loss=(1.0, 0.9)),
        run("b", 0, 0.5, validation_loss=(1.0, 0.2)),
    )
    made = Comparison(task="t", title="T", step_name="step", labels=("a", "b"), runs=runs, seeds=(0,))
    assert made.measure == "validation_loss"
    assert made.best is not None and made.best.label == "b"


def test_choosing_on_test_rows_is_admitted() -> None:
    """With several decays the winner's own test number is a little too good, and the verdict says so."""
    finals = {"none": [2.0, 2.1], "a": [1.0, 1.1], "b": [1.2, 1.3]}
    assert "its own number is a little too good" in td.verdict(comparison(finals))


def test_stopping_early_is_named_where_it_does_as_well() -> None:
    """Decay is not credited with what the baseline had before it overfitted; picked afterwards, and told so."""
    peaked = dataclasses.replace(run("none", 0, 0.9, train_loss=(1.0, 0.5, 0.1)), test_loss=(1.0, 0.4, 0.9))
    decayed = dataclasses.replace(peaked, label="d", decay="d", test_loss=(1.0, 0.8, 0.5))
    made = Comparison(task="t", title="T", step_name="step", labels=("none", "d"), runs=(peaked, decayed), seeds=(0,))
    assert "Stopped at step 1, none would have had test loss 0.400, no worse than the best decay" in td.verdict(made)
    better = dataclasses.replace(made, runs=(peaked, dataclasses.replace(decayed, test_loss=(1.0, 0.8, 0.3))))
    assert "Stopped at" not in td.verdict(better)
    assert "Stopped at" not in td.verdict(dataclasses.replace(made, noise=True))


def test_nothing_finished_is_nothing_to_say() -> None:
    """An interrupted comparison without runs does not raise."""
    made = Comparison(task="t", title="T", step_name="step", labels=("none",), runs=(), seeds=(0,), interrupted=True)
    assert td.verdict(made) == "No run was finished, so there is nothing to say."
    assert made.best is None and made.contrasts == () and made.baseline is None
