"""docs/audit.md has a section for each finding, under the anchor that people will look for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from torchdecay.observe.audit.catalog import CATALOG

PAGE = (Path(__file__).parents[3] / "docs" / "audit.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (WD\d{3}) (.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
KINDS = {"error": "Error", "warning": "Warning", "info": "Note"}


def test_the_page_has_the_catalog_and_nothing_else() -> None:
    """In its order."""
    assert list(SECTIONS) == list(CATALOG)


@pytest.mark.parametrize("code", CATALOG)
def test_a_section_says_what_the_catalog_says(code: str) -> None:
    """Title, anchor, severity, what, why, how to see it, and the fix, in the catalog's words."""
    entry, section = CATALOG[code], SECTIONS[code]
    assert section.startswith(f"{entry.title} {{ #{code.lower()} }}\n\n**{KINDS[entry.severity]}.** ")
    plain = section.replace("`", "")
    assert f"**Why.** {entry.why}\n" in plain and f"**Fix.** {entry.fix}\n" in plain + "\n"
    assert len(section.split("**See it.** ")[1].split("\n")[0]) > 20
