"""Write the rules of the lint into their page, from where they are declared."""

from __future__ import annotations

from typing import Any

from torchdecay.findings.explaining import rules_page
from torchdecay.integrations.lint.result import RULES

MARK = "<!-- rules of the lint -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take part in the build: MkDocs calls this with each page's text."""
    return markdown.replace(MARK, rules_page(RULES.values()))
