"""The part of the SARIF 2.1.0 schema (OASIS) that our logs use, as strict as the whole: no other properties."""

from __future__ import annotations

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


TEXT: dict[str, Any] = {"type": "string"}
LEVEL: dict[str, Any] = {"enum": ["none", "note", "warning", "error"]}
POSITIVE: dict[str, Any] = {"type": "integer", "minimum": 1}
MESSAGE = _object(["text"], text=TEXT, markdown=TEXT, id=TEXT, arguments={"type": "array", "items": TEXT})
ARTIFACT_LOCATION = _object(
    [], uri={"type": "string", "format": "uri-reference"}, uriBaseId=TEXT, index={"type": "integer"}
)
REGION = _object(
    [],
    startLine=POSITIVE,
    startColumn=POSITIVE,
    endLine=POSITIVE,
    endColumn=POSITIVE,
    snippet=_object([], text=TEXT),
)
LOGICAL = _object([], name=TEXT, fullyQualifiedName=TEXT, kind=TEXT, index={"type": "integer"})
LOCATION = _object(
    [],
    id={"type": "integer"},
    message=MESSAGE,
    physicalLocation=_object(["artifactLocation"], artifactLocation=ARTIFACT_LOCATION, region=REGION),
    logicalLocations={"type": "array", "items": LOGICAL, "uniqueItems": True},
)
RULE = _object(
    ["id"],
    id=TEXT,
    name=TEXT,
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=MESSAGE,
    helpUri={"type": "string", "format": "uri"},
    defaultConfiguration=_object([], enabled={"type": "boolean"}, level=LEVEL),
)
RESULT = _object(
    ["message"],
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": -1},
    level=LEVEL,
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
)
DRIVER = _object(
    ["name"],
    name=TEXT,
    version=TEXT,
    semanticVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+"},
    informationUri={"type": "string", "format": "uri"},
    rules={"type": "array", "items": RULE, "uniqueItems": True},
)
RUN = _object(
    ["tool"],
    tool=_object(["driver"], driver=DRIVER),
    results={"type": "array", "items": RESULT},
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
)
SCHEMA = _object(["version", "runs"], version={"const": "2.1.0"}, runs={"type": "array", "items": RUN})
SCHEMA["properties"]["$schema"] = {"type": "string", "format": "uri"}
