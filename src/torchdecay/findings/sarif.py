"""Findings as a SARIF 2.1.0 log (OASIS), which code scanning and editors read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from torchdecay._version import __version__
from torchdecay.findings.baseline import fingerprints
from torchdecay.findings.finding import Finding, Place
from torchdecay.findings.rule import SPOKEN, Rule

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def log(findings: Sequence[Finding], rules: Mapping[str, Rule]) -> str:
    """One run with all rules and results."""
    order = {code: index for index, code in enumerate(rules)}
    results = [
        {
            "ruleId": one.code,
            "ruleIndex": order[one.code],
            "level": SPOKEN[one.severity][0],
            "message": {"text": " ".join((f"{one.what}.", one.why, one.fix))},
            "locations": [_location(one)],
            "partialFingerprints": {"torchdecay/v1": mark},
        }
        for mark, one in zip(fingerprints(findings), findings, strict=True)
    ]
    driver = {"name": "torchdecay", "semanticVersion": __version__, "rules": [*map(_rule, rules.values())]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": SPOKEN[rule.severity][0]},
    }


def _location(finding: Finding) -> dict[str, Any]:
    if finding.place is not None:
        return {"physicalLocation": _physical(finding.place)}
    names = finding.names or (finding.where,)
    kind = "member" if finding.names else "object"
    return {
        "message": {"text": finding.where},
        "logicalLocations": [{"fullyQualifiedName": name, "kind": kind} for name in names],
    }


def _physical(place: Place) -> dict[str, Any]:
    artifact: dict[str, Any] = {"uri": quote(place.path)}
    if not place.path.startswith("/"):
        artifact["uriBaseId"] = "%SRCROOT%"
    if place.cell:
        # Lines of a cell are no lines of the file.
        return {"artifactLocation": artifact}
    region = {
        "startLine": place.line,
        "startColumn": place.column,
        "endLine": place.end_line,
        "endColumn": place.end_column,
        "snippet": {"text": place.text},
    }
    return {"artifactLocation": artifact, "region": region}
