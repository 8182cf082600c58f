"""Write rules into their pages, from where they are declared: those of the lint, and the alarms of the monitor."""

from __future__ import annotations

from typing import Any

from torchdecay.findings.explaining import rules_page
from torchdecay.integrations.lint.result import RULES
from torchdecay.observe.monitor.catalog import ALARMS

PAGES = {"<!-- rules of the lint -->": RULES, "<!-- alarms of the monitor -->": ALARMS}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take part in the build: MkDocs calls this with each page's text."""
    for mark, rules in PAGES.items():
        markdown = markdown.replace(mark, rules_page(rules.values()))
    return markdown
