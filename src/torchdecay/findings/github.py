"""Findings as GitHub workflow commands, which become annotations."""

from __future__ import annotations

from torchdecay.findings.finding import Finding
from torchdecay.findings.rule import SPOKEN
from torchdecay.text import listed


def command(one: Finding, title: str) -> str:
    """One workflow command; only what stands in a file gets a line there."""
    place, said = "", filter(None, (f"{one.where}: {one.what}.", listed(one.names), one.why, one.fix))
    if one.place is not None:
        where: dict[str, object] = {"file": one.place.path}
        if not one.place.cell:
            where |= {"line": one.place.line, "endLine": one.place.end_line, "col": one.place.column}
        place = "".join(f"{key}={_escape(str(value), more=',:')}," for key, value in where.items())
    head = _escape(f"{one.code} {title}", more=",:")
    return f"::{SPOKEN[one.severity][1]} {place}title={head}::{_escape(' '.join(said))}"


def _escape(text: str, *, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
