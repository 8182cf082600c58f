"""Alarms as findings: which of them are meant so, and how bad the others are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torchdecay.findings.choosing import Ignore
from torchdecay.findings.finding import Finding
from torchdecay.findings.result import Findings
from torchdecay.findings.rule import Severity
from torchdecay.observe.monitor.catalog import ALARMS
from torchdecay.observe.monitor.series import Event


@dataclass(frozen=True, repr=False)
class AlarmFindings(Findings, kind="alarms"):
    """The alarms of a history as findings, in the order in which they were raised."""

    findings: tuple[Finding, ...]

    rules: ClassVar = ALARMS


@dataclass(frozen=True)
class Meant:
    """What is not told, and other severities.

    Raises:
        PlanError: an unknown code or severity.
    """

    ignore: Ignore = ()
    severity: Mapping[str, Severity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._told(AlarmFindings(()))

    def told(self, event: Event) -> Event | None:
        """An alarm without the groups that are meant so; None where no group is left."""
        for one in self._told(AlarmFindings((event.finding,))):
            group, *more = one.names or ("",)
            said = one.severity if one.severity != event.finding.severity else event.severity
            return replace(event, group=group, more=tuple(more), severity=said)
        return None

    def _told(self, found: AlarmFindings) -> AlarmFindings:
        return found.filter(ignore=self.ignore).with_severity(self.severity)
