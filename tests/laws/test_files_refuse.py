"""Whatever was done to a file that the package wrote, it is read and shown, or refused with a sentence."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torchdecay as td
from results_of_each_kind import every_result
from sweeping import task
from torchdecay import encoding
from torchdecay.cli.inputs.results import CLASSES, load_result
from torchdecay.errors import TorchdecayError
from torchdecay.observe.recorded.record import RunSummary

pytestmark = pytest.mark.long

EXAMPLES = [20, pytest.param(1000, marks=pytest.mark.slow)]
Tree = Any
ODD: tuple[Tree, ...] = (
    *(None, True, 0, -1, 1.5, 1e300, -1e300, 5e-324, 10**400, 2**63, math.nan, math.inf),
    *("NaN", "Infinity", "-Infinity", "", "x", "\x00", "\u202e<b>", "x" * 100_000),
    *([], [[]], [0], [None] * 3, {}, {"a": 1}, {"type": "Decay"}, {"type": 5}, {"type": "list"}),
    *({"type": "callable", "value": "os:system"}, {"type": "float", "value": "NaN"}),
    {"type": "Opaque", "description": "x"},
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of every kind."""
    found = every_result()
    path = tmp_path_factory.mktemp("histories") / "history.jsonl"
    found.pop("history").save(path)
    found |= {
        "comparison": td.lab.compare(task(), ["none", td.decoupled(1.0)], seeds=[0, 1, 2]),
        "sweep": td.lab.sweep(task(), "decoupled", [0.1, 1.0], seeds=[0, 1, 2], engine="serial"),
    }
    found["run"] = RunSummary(command="python train.py", versions={"torch": "2.13"}, notes=("nothing",))
    assert found.keys() | {"history"} == CLASSES.keys()
    return {kind: one.to_json() for kind, one in found.items()} | {"history": path.read_text()}


def places(tree: Tree, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to everything below the root."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in inside:
        yield (*above, key)
        yield from places(item, (*above, key))


def at(tree: Tree, path: tuple[Any, ...]) -> Tree:
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def edits(draw: st.DrawFn, tree: Tree) -> Tree:
    """The tree after one to three changes."""
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(tree))
        if not paths:
            return tree
        *above, key = draw(st.sampled_from(paths))
        holder = at(tree, tuple(above))
        value = holder[key]
        match draw(st.sampled_from(["odd", "odd", "gone", "short", "moved", "twice", "other number", "other key"])):
            case "odd":
                holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
            case "gone":
                del holder[key]
            case "short" if isinstance(value, list):
                holder[key] = value[: draw(st.integers(0, len(value)))]
            case "moved":
                holder[key] = copy.deepcopy(at(tree, draw(st.sampled_from(paths))))
            case "twice" if isinstance(holder, list):
                holder.append(copy.deepcopy(value))
            case "other number" if isinstance(value, (int, float)):
                holder[key] = draw(st.sampled_from([-value, value + 1, value * 10**9, -1, 0]))
            case "other key" if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
    return tree


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """A file after changes to its values, and sometimes to its letters."""
    lines = text.splitlines() if text.count('"format"') and "\n{" in text else [text]
    place = draw(st.integers(0, len(lines) - 1))
    lines[place] = json.dumps(draw(edits(json.loads(lines[place]))))
    new = "\n".join(lines)
    match draw(st.integers(0, 19)):
        case 0:
            return new[: draw(st.integers(0, len(new)))]
        case 1:
            cut = draw(st.integers(0, len(new) - 1))
            return new[:cut] + draw(st.sampled_from('[]{}",:0-eN\x00')) + new[cut + 1 :]
    return new


def answers(path: Path, page: Path | None = None) -> None:
    """Read it and say it, or raise an error of the package's own."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", td.errors.TornHistoryWarning)
            found = load_result(path)
        assert str(found) and repr(found)
        if page is not None:
            td.report(found, page)
            td.verdict(found)
    except TorchdecayError as error:
        assert str(error)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_an_edited_file_is_shown_or_refused(kind: str, examples: int, texts: dict[str, str], tmp_path: Path) -> None:
    """Values of another type, numbers beyond all measure, short curves, what is not there; one in ten is drawn too."""
    path = tmp_path / "summary.json"

    @settings(max_examples=examples)
    @given(edited(texts[kind]), st.integers(0, 9))
    def edit(text: str, number: int) -> None:
        path.write_text(text)
        answers(path, None if number else tmp_path / f"page{len(list(tmp_path.iterdir()))}.html")

    edit()


@pytest.mark.parametrize("kind", sorted(CLASSES))
@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_a_tree_of_a_hundred_thousand_brackets_is_refused(kind: str, bracket: str, tmp_path: Path) -> None:
    """In place of a value, and instead of a file."""
    path = tmp_path / "deep.json"
    for text in (bracket * 100_000, f'{{"format": "torchdecay.{kind}", "version": 1, "rows": {bracket * 100_000}'):
        path.write_text(text)
        with pytest.raises(td.LoadError):
            load_result(path)


def test_a_bare_error_is_seen(texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded fault: where what was only described may stand anywhere, printing fails in the middle."""
    fits = encoding._fits
    monkeypatch.setattr(encoding, "_fits", lambda value, hint: isinstance(value, encoding.Opaque) or fits(value, hint))
    tree = json.loads(texts["suggestion"])
    tree["value"] = {"type": "Opaque", "description": "x"}
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(TypeError):
        answers(path)
