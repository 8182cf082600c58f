"""The gallery of real bugs: what its page says is what is found, and nothing is found in a mended twin."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
SAMPLE = ("everything", "never_applied", "stacked", "text", "twice", "wrong_rate")
"""One for each that finds something, one that nobody finds, and one that fails in its first step."""


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery_table", ROOT / "examples" / "gallery" / "table.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


table = _loaded()
ROWS = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` .*$", PAGE, re.MULTILINE)}


def test_the_page_has_every_bug_and_counts_them() -> None:
    assert list(ROWS) == table.names() and len(ROWS) >= 25
    assert table.counts(list(ROWS.values())) in PAGE


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.slow] * (one not in SAMPLE)) for one in table.names()]
)
def test_a_row_says_what_is_found_and_its_twin_is_clean(name: str) -> None:
    assert table.row(name) == ROWS[name]


def test_a_bug_in_a_twin_is_seen(tmp_path: Path) -> None:
    """The check of the twins can fail."""
    twin = tmp_path / "mended.py"
    twin.write_text((ROOT / "examples" / "gallery" / "everything" / "bug.py").read_text(encoding="utf-8"))
    assert not table.told(twin).is_quiet
