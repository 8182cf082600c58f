"""How a rule of the lint is written down: its words, and a function that yields hits."""

from __future__ import annotations

import ast
import functools
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torchdecay.findings.rule import Rule, Severity
from torchdecay.integrations.lint.code import Code


class Edit(NamedTuple):
    """A certain mend: this text in the place of a node."""

    node: ast.AST
    text: str


class Hit(NamedTuple):
    """What a rule found.

    Attributes:
        node: where.
        what: with names and values.
        severity: where it is not the rule's own.
        edits: what `--fix` writes.
    """

    node: ast.AST
    what: str
    severity: Severity | None = None
    edits: tuple[Edit, ...] = ()


Finder = Callable[[Code], Iterable[Hit]]


@dataclass(frozen=True)
class Check:
    """A rule and the function that looks for it."""

    rule: Rule
    hits: Finder


CHECKS: list[Check] = []


def rule(
    code: str, severity: Severity, title: str, *, why: str, fix: str, example: str, mends: Mapping[str, str]
) -> Callable[[Finder], Finder]:
    """Decorator: this function looks for `code`, which is in the example, and not once `mends` is replaced in it."""
    example = textwrap.dedent(example).strip()
    mended = functools.reduce(lambda text, mend: text.replace(*mend), mends.items(), example)
    told = Rule(code, severity, title, why, fix, example, mended.strip())

    def register(hits: Finder) -> Finder:
        CHECKS.append(Check(told, hits))
        return hits

    return register


UNREADABLE = Rule(
    "WD500",
    "error",
    "file that can't be looked into",
    "What is in it was not read, so nothing is known of it.",
    "Mend it, or leave it out with --exclude.",
)
PROJECT: list[Rule] = [UNREADABLE]
"""Rules that no function over one file looks for."""
