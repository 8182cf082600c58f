"""Whatever a file of results says, `torchdecay report` shows a page or a message: files edited, cut and broken."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import torchdecay as td
from calling import torchdecay
from reports import samples, sweep_samples
from reports.test_history import make_history
from reports.test_verbs import RESULTS
from torchdecay.errors import TaskError
from torchdecay.records import JsonRecord

pytestmark = pytest.mark.long

ODD: tuple[Any, ...] = (
    None, 0, -1, 5, 10**18, 1.5, 1e308, -1e308, 1e-320, "", "x", "NaN", "Infinity", "-Infinity", "<b>", "\u202e",
    "a" * 500, True, [], {}, [1], [[]], {"a": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """One small file of each kind that is kept in one, as the values of its lines."""
    results = {name: make() for name, (make, _) in RESULTS.items()}
    path = tmp_path_factory.mktemp("files") / "run.jsonl"
    make_history(lost_at=5).save(path)
    made: dict[str, list[Any]] = {"history": [json.loads(line) for line in path.read_text().splitlines()]}
    for name, result in results.items():
        if isinstance(result, JsonRecord):
            made[name] = [json.loads(result.to_json())]
    assert len(made) >= 11
    return made


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a tree, but for what says which kind of file it is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key not in ("format", "version"):
            yield (*path, key)
            yield from places(item, (*path, key))


def edited(lines: list[Any], draw: random.Random) -> str:
    """The file with one to three places removed, exchanged, cut or doubled."""
    lines = copy.deepcopy(lines)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        *way, last = draw.choice([*places(lines)])
        at: Any = lines
        for key in way:
            at = at[key]
        old = at[last]
        change = draw.randrange(5)
        if change == 0 and way:
            del at[last]
        elif change == 1 and isinstance(old, list):
            at[last] = old[: draw.randrange(len(old) + 1)]
        elif change == 2 and isinstance(old, list):
            at[last] = old + old[: draw.randrange(len(old) + 1)]
        elif change == 3 and isinstance(old, int | float) and not isinstance(old, bool):
            at[last] = draw.choice((0, -old, old + 1, old * 10**9))
        else:
            at[last] = draw.choice(ODD)
    return "\n".join(map(json.dumps, lines)) + "\n"


def show(files: dict[str, list[Any]], seed: int, folder: Path) -> None:
    """Report one edited file; anything that is neither a page nor a message raises."""
    draw = random.Random(seed)
    path = folder / "what"
    path.write_text(edited(files[draw.choice(sorted(files))], draw))
    from click.testing import CliRunner

    from torchdecay.cli import main

    result = CliRunner().invoke(main, ["report", str(path), "--out", str(folder / "page.html"), "--overwrite"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"seed {seed}: {path.read_text()[:2000]}") from result.exception
    assert result.exit_code in (0, 2) and (result.exit_code or result.stdout.startswith("Page: "))


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_an_edited_file_is_a_page_or_a_message(
    files: dict[str, list[Any]], start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every kind; the pictures beside the page are left out, for they show what the page shows."""
    monkeypatch.setattr("torchdecay.reports.document._figures", lambda page: {})
    for seed in range(start, start + 20):
        show(files, seed, tmp_path)


@pytest.mark.slow
def test_ten_thousand_edited_files(
    files: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The long form."""
    monkeypatch.setattr("torchdecay.reports.document._figures", lambda page: {})
    for seed in range(1000, 11_000):
        show(files, seed, tmp_path)


def test_curves_that_do_not_fit_their_steps_are_refused(tmp_path: Path) -> None:
    """By which run and which curve; so are runs of no point, scans and courses that mean nothing."""
    made = samples.comparison()
    run = made.runs[0]
    path = tmp_path / "results.json"
    data = json.loads(made.to_json())
    data["runs"][0]["test_loss"].pop()
    path.write_text(json.dumps(data))
    said = torchdecay("report", str(path), code=2).stderr
    assert "test_loss of the run has 10 entries, and steps has 11" in said
    assert run.line is not None
    with pytest.raises(TaskError, match="train_loss of the line scan has 1 entries"):
        replace(run.line, train_loss=(1.0,))
    with pytest.raises(TaskError, match="curves of another length"):
        replace(samples.course("d"), planned=(1.0,))
    with pytest.raises(TaskError, match="no point of the sweep"):
        swept = sweep_samples.sweep((0.1, 1.0))
        replace(swept, points=swept.points[:1])


def test_numbers_near_the_greatest_are_drawn_as_if_infinite(tmp_path: Path) -> None:
    """Their axis would have more ticks than can be counted."""
    made = samples.comparison(("none",), seeds=1)
    huge = replace(made.runs[0], test_loss=(-1e308, 1e308, *made.runs[0].test_loss[2:]))
    assert td.report(replace(made, runs=(huge,)), tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"format": "torchdecay.plan", "version": 1, "rows": ' + "[" * 100_000,
     '{"format": "torchdecay.history", "version": 1, "every_steps": 1, "created": "", "versions": {}}\n'
     + "[" * 100_000],
)  # fmt: skip
def test_brackets_without_end_are_a_message(text: str, tmp_path: Path) -> None:
    """They are deeper than Python counts."""
    path = tmp_path / "deep.json"
    path.write_text(text + "\n")
    assert torchdecay("report", str(path), code=2).stderr
