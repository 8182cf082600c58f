"""Results are values: found by name, and the same after JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

import torchdecay as td
from torchdecay.errors import LoadError, TaskError
from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.training.results import Failure, LineScan, PlannedRow, PlanSummary, TrainingRun


@pytest.fixture
def comparison() -> Comparison:
    """Every field in use, with numbers that JSON can't write."""

    def run(label: str, seed: int) -> TrainingRun:
        return TrainingRun(
            label=label,
            decay=label,
            seed=seed,
            steps=(0, 10, 20),
            train_loss=(0.7, 0.1 + 0.2, 1e-300),
            test_loss=(0.7, 0.9, 1.5 + seed),
            weight_norm=(1.0, math.inf, math.nan) if label == "d" else (1.0, 2.0, 3.0),
            gradient_norm=(1.0, 0.5, -math.inf) if label == "d" else (1.0, 0.5, 0.25),
            seconds=1.5,
            train_score=(0.5, 0.75, 1.0),
            test_score=(0.5, 0.5, 0.5 + seed / 10),
            line=LineScan(
                alphas=(0.0, 1.0), train_loss=(0.7, 0.1), test_loss=(0.7, 1.5), squared_norm=4.0,
                penalty=(0.0, 0.2), note="λ·R",
            ),
        )  # fmt: skip

    rows = (PlannedRow(name="w", shape=(3, 2), role="weight", decay="coupled(0.1)", reason="no rule spares it"),)
    plan = PlanSummary(label="d", decay="d", equation="g ← g + λ·θ", summary="1 of 1", rows=rows, how="native")
    return Comparison(
        task="t",
        title="Ünïcode “title”",
        step_name="step",
        score_name="accuracy",
        labels=("none", "d", "e"),
        runs=tuple(run(label, seed) for seed in (0, 1) for label in ("none", "d")),
        plans={"d": plan},
        seeds=(0, 1),
        facts=(("train rows", "40"),),
        notes=("a note",),
        chance_loss=0.693,
        noise=True,
        failures=(Failure(label="e", seed=0, message="RuntimeError: no"),),
        interrupted=True,
        command="torchdecay compare t",
        versions={"torch": "2"},
        created="2030-01-01T00:00:00+00:00",
    )


def same(left: object, right: object) -> bool:
    """Equal, with NaN equal to NaN."""
    return repr(left) == repr(right)


def test_json_round_trips_every_number(comparison: Comparison) -> None:
    """Nothing is rounded, NaN and infinities survive, and the text is standard JSON."""
    text = comparison.to_json()
    assert same(Comparison.from_json(text), comparison)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_optional_parts_round_trip_as_absent(comparison: Comparison) -> None:
    """No score, no line, no chance: still none of them after reading."""
    bare = dataclasses.replace(comparison.runs[0], train_score=None, test_score=None, line=None)
    made = dataclasses.replace(comparison, runs=(bare,), chance_loss=None, score_name="")
    assert same(Comparison.from_json(made.to_json()), made)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "not a comparison file"),
        (lambda text: "[]", "does not say format"),
        (lambda text: text.replace("torchdecay.comparison", "torchdecay.plan"), "does not say format"),
        (lambda text: text.replace('"version": 1', '"version": 99'), "of version 99"),
        (lambda text: text.replace('"train_loss"', '"train_lass"'), "incomplete"),
        (lambda text: text.replace('"seconds": 1.5', '"seconds": "soon"'), "seconds of TrainingRun"),
    ],
)
def test_a_damaged_file_is_one_clear_error(comparison: Comparison, damage: object, said: str) -> None:
    """Truncated, foreign, newer or edited: told, not thrown."""
    with pytest.raises(LoadError, match=said):
        Comparison.from_json(damage(comparison.to_json()))  # type: ignore[operator]


def test_final_values_by_name(comparison: Comparison) -> None:
    """The gap is test minus training loss; spread is over seeds."""
    assert comparison.final("none", "test_loss") == (1.5, 2.5)
    assert comparison.final("none", "gap") == pytest.approx((1.5, 2.5))
    assert comparison.mean_and_spread("none", "test_loss") == (2.0, pytest.approx(math.sqrt(0.5)))


def test_unknown_names_are_errors_with_the_nearest(comparison: Comparison) -> None:
    """A typo in a label or curve says which it may have been."""
    with pytest.raises(TaskError, match='Nearest: "none"'):
        comparison.of("nona")
    with pytest.raises(TaskError, match='Nearest: "test_loss"'):
        comparison.runs[0].final("tset_loss")
    with pytest.raises(TaskError, match="no curve"):
        comparison.runs[0].final("validation_loss")
    with pytest.raises(TaskError, match="no run"):
        comparison.mean_and_spread("e", "test_loss")


def test_the_baseline_is_the_run_without_decay() -> None:
    """Wherever "none" stands in the list, the others are compared with it."""
    run = TrainingRun(
        label="x", decay="none", seed=0, steps=(0,), train_loss=(1.0,), test_loss=(1.0,), weight_norm=(1.0,),
        gradient_norm=(1.0,), seconds=0.0,
    )  # fmt: skip
    runs = (dataclasses.replace(run, label="d", decay="decoupled(1)"), run)
    made = Comparison(task="t", title="T", step_name="step", labels=("d", "x"), runs=runs)
    assert made.baseline == "x"
    assert dataclasses.replace(made, runs=runs[:1]).baseline == "d"


def test_a_data_frame_has_a_line_per_run_and_step(comparison: Comparison) -> None:
    """Four runs of three points, one column per curve that was measured."""
    frame = comparison.to_frame()
    assert len(frame) == 12
    assert list(frame.columns[:4]) == ["label", "decay", "seed", "step"]
    assert "test_score" in frame and "validation_loss" not in frame
    assert frame[(frame.label == "none") & (frame.seed == 1) & (frame.step == 20)].test_loss.item() == 2.5


def test_the_page_is_one_call(comparison: Comparison, tmp_path: Path) -> None:
    """`td.report(comparison, "out.html")` gives the path of the page."""
    pytest.importorskip("matplotlib")
    page = td.report(comparison, tmp_path / "out.html")
    assert page == tmp_path / "out.html" and page.stat().st_size > 1000


def test_results_are_frozen(comparison: Comparison) -> None:
    """Nobody edits a measurement."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        comparison.runs[0].seed = 3  # type: ignore[misc]
