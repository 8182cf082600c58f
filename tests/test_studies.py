"""What the studies kept, the page made of it, and the rule by which a claim is judged. `make evidence` measures."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "studies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("page", "study"))
KEPT = sorted(path.stem for path in FOLDER.glob("results/*.json"))


@pytest.fixture(autouse=True)
def _studies_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("page", "paired", "study"):
        sys.modules.pop(name, None)


def test_the_page_says_what_was_kept():
    """docs/evidence.md is written from results/*.json (python studies/page.py), all of which have a study."""
    from page import PAGE, page
    from study import names, read

    assert names() == NAMES and set(read()) <= set(NAMES)
    assert PAGE.read_text(encoding="utf-8") == page(read())


@pytest.mark.parametrize("name", KEPT)
def test_what_was_kept_is_of_the_study_as_it_stands(name):
    """Question and setup are those of the file, verdicts those of the numbers; three seeds at least, and a date."""
    from page import claims_of
    from study import asked, read

    record = read()[name]
    assert (record["question"], record["setup"]) == asked(
        ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    )
    assert record["command"] == f"python studies/{name}.py" and record["date"] and record["torch"]
    claims = claims_of(record)
    assert [claim.verdict for claim in claims] == [one["verdict"] for one in record["claims"]]
    assert claims and min(len(claim.values) for claim in claims) >= 3


def test_the_log_tells_of_every_study_and_heads_what_failed():
    """Each study has an entry of its date; where a claim did not hold or is null one is headed Negative or Null."""
    from study import read

    log = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    entries = [entry.partition("\n") for entry in log.split("\n## ")[1:]]
    for name, record in read().items():
        heads = " ".join(head for head, _, text in entries if f"`{name}`" in text and head.startswith(record["date"]))
        for verdict in {claim["verdict"] for claim in record["claims"]}:
            assert {"held": "Held", "did not hold": "Negative", "null": "Null"}[verdict] in heads, (name, verdict)


def test_a_claim_is_judged_by_its_interval():
    """Inside it held, outside it did not, across an edge or without a number nobody can tell; no difference is none."""
    from study import Claim

    def verdict(*values: float, **place: float) -> str:
        return Claim(said="", number="", values=values, **place).verdict

    assert verdict(1.0, 1.1, 0.9, above=0.5) == "held"
    assert verdict(1.0, 1.1, 0.9, below=0.5) == "did not hold"
    assert verdict(1.0, 1.1, 0.9, above=0.5, below=1.05) == "null"
    assert verdict(0.0, 0.0, 0.0, above=0.0) == "null"
    assert verdict(1.0, float("nan"), 0.9, above=0.5) == "null"
    assert verdict(1.0, above=0.5) == "null"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_study_runs(name):
    """From its command to its verdicts, in few steps; where data are missing it says so."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0 or "dataset-fashion-mnist" in done.stderr, done.stderr
