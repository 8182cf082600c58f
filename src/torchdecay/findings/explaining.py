"""Rules in words: one in full, all as a list."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from torchdecay.errors import PlanError
from torchdecay.findings.rule import SPOKEN, Rule
from torchdecay.text import nearest, repr_quoted


def rule_list(rules: Iterable[Rule]) -> str:
    """A line for each rule."""
    return "\n".join(f"{one.code}  {SPOKEN[one.severity][0]:7}  {one.title}" for one in rules)


def explain(code: str, rules: Mapping[str, Rule]) -> str:
    """A rule in full, with its example and the mended twin.

    Raises:
        PlanError: an unknown code.
    """
    rule = rules.get(code.strip().upper())
    if rule is None:
        hint = nearest(code.strip().upper(), rules)
        raise PlanError(f"no finding has the code {repr_quoted(code)}.", fix=hint or "--list-rules lists them.")
    parts = [f"{rule.code} {SPOKEN[rule.severity][0]}: {rule.title}", f"Why: {rule.why}\nFix: {rule.fix}"]
    if rule.example:
        both = {"Found in": rule.example, "Mended": rule.mended}
        parts += [f"{head}:\n\n{textwrap.indent(code, '    ')}" for head, code in both.items()]
    return "\n\n".join(parts)


def rules_page(rules: Iterable[Rule]) -> str:
    """All rules as Markdown, each with its anchor."""
    parts = []
    for one in rules:
        parts.append(f"### {one.code} {one.title} {{ #{one.code.lower()} }}")
        parts.append(f"**{SPOKEN[one.severity][0].capitalize()}.** {one.why} {one.fix}")
        if one.example:
            parts += [f"```py\n{one.example}\n```", "Mended:", f"```py\n{one.mended}\n```"]
    return "\n\n".join(parts)
