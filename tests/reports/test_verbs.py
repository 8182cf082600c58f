"""`td.report`, `td.figure` and `td.verdict` take whatever result there is, and say plainly what they do not take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import torchdecay as td
from reports import samples, sweep_samples
from reports.test_history import make_history
from reports.test_page import headings, read
from torchdecay.errors import TaskError
from torchdecay.lab import worked_example
from torchdecay.lab.directions.hypergradient import Hypergradient, Slope
from torchdecay.lab.directions.result import Direction, SeedSlopes
from torchdecay.printing import WORDS, words_of

RUN = td.Run(steps=1000, lr=1e-3)
MODEL = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
OPTIMIZER = torch.optim.AdamW(MODEL.parameters(), lr=1e-3, weight_decay=0.1)
SLOPES = SeedSlopes(slopes=(("head", -0.5), ("body", 0.2)), loss=1.0)

RESULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "comparison": (lambda: samples.comparison(("none", "decoupled:1"), seeds=2), "decoupled:1: test accuracy"),
    "sweep": (lambda: sweep_samples.sweep((0.1, 1.0), seeds=2), "Chosen: decoupled(1), by the best mean"),
    "history": (lambda: make_history(lost_at=5), "1 alarm in 12 recorded steps"),
    "forecast": (lambda: td.forecast(OPTIMIZER, run=RUN), "decay by itself takes 9.52 % of each weight in 1,000 steps"),
    "audit": (lambda: td.audit(OPTIMIZER, model=MODEL, run=RUN), "errors, "),
    "plan": (lambda: td.plan(MODEL, td.decoupled(0.1)), "1 of 4 parameters decay: 12 of 21 elements (57.14 %)"),
    "inspection": (lambda: td.inspect(OPTIMIZER), "1 groups, 4 parameters"),
    "verification": (lambda: td.verify(OPTIMIZER, model=MODEL), "1 of 1 groups do what they should"),
    "suggestion": (lambda: td.suggest(MODEL, run=td.Run(epochs=10, batch_size=10, num_samples=1000, lr=1e-3)),
                   "to sweep from"),
    "rescaled": (lambda: td.rescale(0.1, before=RUN, after=td.Run(steps=1000, lr=2e-3)), "becomes decoupled(0.05)"),
    "direction": (lambda: Direction(task="toy", decay="native(0.1)", method="differences", seeds=(0,),
                                    by_seed=(SLOPES,)), "decay should be stronger on head, weaker on body"),
    "hypergradient": (lambda: Hypergradient(slopes=(Slope(group="head", names=("w",), slope=-0.5),), loss=1.0,
                                            residual=1e-9, iterations=7, converged=True, curvature=0.1, unrest=0.01,
                                            damping=0.0), "the linear system converged"),
}  # fmt: skip
DRAWN = ("comparison", "sweep", "history", "forecast")
RESULTS["example"] = (worked_example, "One step of SGD with learning rate 0.1")


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_has_a_page_that_begins_with_its_verdict(name: str, tmp_path: Path) -> None:
    """One heading, what the result says, nothing fetched: also for results that are no more than a table."""
    make, said = RESULTS[name]
    result = make()
    assert said in td.verdict(result)
    page = td.report(result, tmp_path / "page.html")
    reader = read(page)
    assert headings(reader)[0] == 1
    if name not in DRAWN:
        assert said in " ".join(" ".join(reader.words).split())
        assert "table" in [tag for tag, _ in reader.tags]
        assert {path.suffix for path in tmp_path.iterdir()} <= {".html", ".json"}


@pytest.mark.parametrize("name", RESULTS)
def test_a_picture_is_a_value_or_a_file_or_an_error_that_names_what_is_drawn(name: str, tmp_path: Path) -> None:
    """A notebook shows the value; a result that is never drawn says which are."""
    result = RESULTS[name][0]()
    if name in DRAWN:
        picture = td.figure(result)
        assert picture._repr_svg_().startswith("<?xml") and picture.alt
        assert td.figure(result, tmp_path / "a.svg").read_text(encoding="utf-8").count("<title>") == 1
        return
    with pytest.raises(TaskError, match=r"has no picture.\n.*Comparison, Sweep, History, Forecast"):
        td.figure(result, tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("thing", [3, "results.json", MODEL])
def test_what_is_no_result_is_told_what_is_one(thing: object, tmp_path: Path) -> None:
    """A class of the user's own that is called Plan is none either."""

    class Plan:
        pass

    for one in (thing, Plan()):
        for call in (td.verdict, td.figure, lambda given: td.report(given, tmp_path)):
            with pytest.raises(TaskError, match=r"nothing is known to say about an? \w+.\n.*Comparison, Sweep"):
                call(one)


def test_printing_says_the_words_that_reports_has() -> None:
    """The one table of names leads to functions; what prints is the verdict."""
    for name in ("comparison", "sweep"):
        result = RESULTS[name][0]()
        assert str(result) == td.verdict(result) == words_of(result)
    direction = RESULTS["direction"][0]()
    assert str(direction).splitlines()[0] == td.verdict(direction)
    said = {type(RESULTS[name][0]()).__name__ for name in ("comparison", "sweep", "direction")}
    assert {*said, "Ladder"} == set(WORDS)
