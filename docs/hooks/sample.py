"""Put a page of results into the site, made from what a comparison left (figures/sample.json), and the changelog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torchdecay as td
from torchdecay import lab

MARK = "<!-- changelog -->"


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Take part in the build: MkDocs calls this with each page's text."""
    root = Path(config.config_file_path).parent
    return markdown.replace(MARK, (root / "CHANGELOG.md").read_text(encoding="utf-8")) if MARK in markdown else markdown


def on_post_build(config: Any) -> None:
    """Take part in the build: MkDocs calls this when all pages are written."""
    result = lab.Comparison.from_json((Path(config.docs_dir) / "figures" / "sample.json").read_text(encoding="utf-8"))
    td.report(result, Path(config.site_dir) / "sample", overwrite=True)
