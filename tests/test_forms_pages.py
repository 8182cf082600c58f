"""Each form has its page and its picture, and the pictures show what the package really does."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import torchdecay as td
from torchdecay.plans.presets import PRESETS
from torchdecay.reports.drawing.palette import DARK, LIGHT

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
PAGES, PICTURES = ROOT / "docs" / "forms", ROOT / "docs" / "assets" / "forms"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_figures", ROOT / "docs" / "figures" / "forms.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their own module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


figures = load()


def shown(name: str) -> dict[str, Any]:
    """The numbers that a picture was drawn from."""
    found: dict[str, Any] = json.loads((PICTURES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def differences(name: str, data: dict[str, Any]) -> list[str]:
    """Compute the paths from the first start and the pull at a few points again, and say what is not as shown."""
    case = figures.CASES[name]
    wrong = []
    for run in case.runs:
        # Half of the last digit noted, and what another machine may round otherwise.
        again = figures.path(case, run, case.starts[0])
        if data["paths"][run.label][0] != [pytest.approx(place, abs=2e-4) for place in again]:
            wrong.append(f"path of {run.label}")
    for x, y, *pull in data["pull"][7::35]:
        if pull != pytest.approx(figures.pull(case, case.run, (x, y)), rel=2e-3, abs=1e-9):
            wrong.append(f"pull at ({x}, {y})")
    return wrong


@pytest.mark.parametrize("name", PRESETS)
def test_every_form_has_a_page_with_equation_picture_and_reference(name: str) -> None:
    """Nobody has to guess what a preset does: the page is there, and in the table."""
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert "\\[" in page and "```python" in page and "| reference |" in page
    assert figures.CASES[name].says in page
    for arxiv in re.findall(r"arXiv (\d{4}\.\d{5})", PRESETS[name].make.__doc__ or ""):
        assert arxiv in page
    for ending, scheme in (("", "light"), ("-dark", "dark")):
        assert re.search(rf"!\[[^\]]{{80,}}\]\(\.\./assets/forms/{name}{ending}\.svg#only-{scheme}\)", page)
    assert f"| [{name}]({name}.md) |" in (PAGES / "index.md").read_text(encoding="utf-8")


def test_there_is_no_page_or_picture_of_a_form_that_is_gone() -> None:
    """A preset that is renamed takes its page along."""
    assert {path.stem for path in PAGES.glob("*.md")} == {*PRESETS, "index"}
    assert {path.stem.removesuffix("-dark") for path in PICTURES.iterdir()} == set(PRESETS) == set(figures.CASES)


@pytest.mark.parametrize("name", PRESETS)
def test_a_path_computed_again_is_the_one_in_the_picture(name: str) -> None:
    """What the pictures show is what the package does today."""
    assert differences(name, shown(name)) == []


def test_a_seeded_other_number_is_seen() -> None:
    """The comparison notices one place of one path, and one arrow."""
    data = shown("decoupled")
    path, arrow = copy.deepcopy(data), copy.deepcopy(data)
    path["paths"]["decoupled(0.3)"][0][5][0] += 0.001
    arrow["pull"][7][2] *= 1.01
    assert differences("decoupled", path) == ["path of decoupled(0.3)"]
    assert len(differences("decoupled", arrow)) == 1


@pytest.mark.parametrize("name", PRESETS)
def test_the_pictures_are_drawn_from_their_numbers_and_small(name: str) -> None:
    """Light and dark picture, and the words for whoever sees neither, come from the same numbers."""
    data, case = shown(name), figures.CASES[name]
    for ending, colors in (("", LIGHT), ("-dark", DARK)):
        svg = (PICTURES / f"{name}{ending}.svg").read_text(encoding="utf-8")
        assert svg == figures.draw(data, case, colors, name)
        assert len(svg.encode()) < 40_000
    assert figures.alt(data, case).replace('"', "'") in (PAGES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PRESETS)
def test_the_form_does_something_in_its_picture(name: str) -> None:
    """No picture shows three equal paths, or a plane without an arrow."""
    data = shown(name)
    none, form, other = data["paths"].values()
    assert form != none and form != other
    assert any(dx or dy for _, _, dx, dy in data["pull"])


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("decoupled", td.independent(0.02, max_lr=0.1), td.decoupled(0.2)),
        ("corrected", td.independent(0.02), td.decoupled(0.2)),
        ("decoupled", td.per_step(0.02), td.decoupled(0.2)),
        ("decoupled", td.coupled(0.2), td.decoupled(0.2)),
        ("decoupled", td.penalized(0.2), td.coupled(0.2)),
        ("ada_decay", td.forms.ada_decay(0.3, alpha=0), td.coupled(0.3)),
        ("l1", td.elastic_net(l1=0.5, l2=0.0), td.l1(0.5)),
        ("decoupled", td.forms.toward_average(0.5, beta=1), td.toward("initial", 0.5)),
        ("by_spectrum", td.forms.by_spectrum(0.3, low=1, high=1), td.decoupled(0.3)),
        ("projected", td.forms.stable(0.1), td.decoupled(1.0)),
    ],
)
def test_a_neighbor_is_reproduced_as_the_pages_say(name: str, one: td.Decay, other: td.Decay) -> None:
    """Who follows a page from one form to its neighbor gets the same path, to the four digits noted."""
    case = figures.CASES[name]
    paths = [figures.path(case, figures.Run("", decay), case.starts[0]) for decay in (one, other)]
    assert paths[0] == [pytest.approx(place, abs=1.1e-4) for place in paths[1]]
    assert paths[0] != figures.path(case, figures.Run("", None), case.starts[0])
