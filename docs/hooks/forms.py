"""Give every form of decay that is declared its place in the navigation and in the API pages."""

from __future__ import annotations

from typing import Any

import torchdecay
from torchdecay.plans.presets import PRESETS

SECTIONS = {
    "l2": "Plain L2",
    "thresholds": "Thresholds",
    "references": "References",
    "norms": "Norms",
    "adaptive": "Adaptive",
}
"""The file that declares forms → what the navigation calls them."""
MARK = "<!-- rarer forms -->"


def sections() -> dict[str, list[str]]:
    """The forms of each section, in the order of their declaration."""
    found: dict[str, list[str]] = {title: [] for title in SECTIONS.values()}
    for name, one in PRESETS.items():
        found[SECTIONS[one.make.__module__.rpartition(".")[2]]].append(name)
    return found


def with_forms(page: str) -> str:
    """The text of a page with the forms that stand behind `td.forms` only where it has the mark."""
    rarer = (name for names in sections().values() for name in names if name not in torchdecay.__all__)
    return page.replace(MARK, "\n\n".join(f"::: torchdecay.forms.{name}" for name in rarer))


def on_config(config: Any) -> Any:
    """Take part in the build: MkDocs calls this before it reads the pages."""
    entries = next(part["Forms of decay"] for part in config.nav if "Forms of decay" in part)
    entries += [{title: [{name: f"forms/{name}.md"} for name in names]} for title, names in sections().items()]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take part in the build: MkDocs calls this with each page's text."""
    return with_forms(markdown)
