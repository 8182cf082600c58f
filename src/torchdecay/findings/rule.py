"""A rule: what can be found, under a stable code."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

Severity = Literal["error", "warning", "info"]

SPOKEN: dict[Severity, tuple[str, str]] = {
    "error": ("error", "error"),
    "warning": ("warning", "warning"),
    "info": ("note", "notice"),
}
"""What people and SARIF call severities, and what GitHub does, worst first."""


class Rule(NamedTuple):
    """An entry of a catalog.

    Attributes:
        code: stable: WD1xx selection, WD2xx wiring, WD3xx magnitude, WD4xx interplay, WD5xx source.
        severity: "error" is hardly ever what was meant, "warning" probably not, "info" worth knowing.
        title: a few words.
        why: why it matters.
        fix: what to do about it.
        example: code in which it is found, for rules about source.
        mended: the same code without it.
    """

    code: str
    severity: Severity
    title: str
    why: str
    fix: str
    example: str = ""
    mended: str = ""


def read_rules(text: str) -> dict[str, Rule]:
    """Rules by code, from paragraphs of three lines: `CODE severity title`, why, fix."""
    rules = []
    for entry in text.strip().split("\n\n"):
        head, why, fix = entry.splitlines()
        code, severity, title = head.split(maxsplit=2)
        rules.append(Rule(code, cast(Severity, severity), title, why, fix))
    return {rule.code: rule for rule in rules}
