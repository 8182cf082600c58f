"""What the lint reports, as a value, and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torchdecay.findings.finding import Finding
from torchdecay.findings.result import Findings
from torchdecay.findings.rule import Rule
from torchdecay.integrations.lint.rule import CHECKS, PROJECT
from torchdecay.integrations.lint.rules import (
    branches,
    coupling,
    coverage,
    groups,
    keys,
    lists,
    literals,
    order,
    own_optimizers,
    penalties,
)
from torchdecay.text import counted

# Importing the modules is what fills CHECKS.
_MODULES = (branches, coupling, coverage, groups, keys, lists, literals, order, own_optimizers, penalties)
RULES: Mapping[str, Rule] = {one.code: one for one in sorted([*PROJECT, *(check.rule for check in CHECKS)])}
"""For each code of the lint its rule."""


@dataclass(frozen=True, repr=False)
class Lint(Findings, kind="lint"):
    """What was found in source code, file by file; prints as text.

    Attributes:
        findings: what was found.
        num_files: how many files were read.
    """

    findings: tuple[Finding, ...]
    num_files: int

    rules: ClassVar = RULES

    def __str__(self) -> str:
        return f"{super().__str__()}, in {counted(self.num_files, 'file')}"
