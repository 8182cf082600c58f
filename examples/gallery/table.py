"""What lint, audit, verify and the monitor say of each bug of the gallery; with --write, into docs/gallery.md."""

from __future__ import annotations

import ast
import contextlib
import io
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import torchdecay as td
from torchdecay.findings.finding import Finding
from torchdecay.integrations.lint.lint import lint

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "gallery.md"
HEAD = "| bug | lint | audit | verify | monitor |\n|---|---|---|---|---|"
NOTHING = "–"


@dataclass(frozen=True)
class Told:
    """What is said of one script: codes, those of notes in brackets; of verify kinds of faults; of alarms the step."""

    lint: tuple[str, ...]
    audit: tuple[str, ...]
    verify: tuple[str, ...]
    monitor: tuple[str, ...]

    def less(self, other: Told) -> Told:
        """Without the notes that another script gets too."""
        mine, others = vars(self), vars(other)
        return Told(**{key: tuple(one for one in mine[key] if one not in others[key]) for key in mine})

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing but notes."""
        return all(one.startswith("(") for said in vars(self).values() for one in said)


def names() -> list[str]:
    """The bugs."""
    return sorted(path.parent.name for path in HERE.glob("*/bug.py"))


def told(script: Path) -> Told:
    """Run a script as it is, and ask."""
    seen = _Seen()
    with _watched(seen), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(TypeError):
            # A weight_decay that is text fails in the first step.
            exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), seen.script)
        seen.end()
        verified = td.verify(seen.script["optimizer"], model=seen.script["model"])
    alarms = {event.kind: event for event in reversed(seen.alarms)}
    return Told(
        lint=_codes(_linted(script)),
        audit=_codes(seen.audited),
        verify=tuple(sorted({part.fault for one in verified for part in one.parts if part.fault})),
        monitor=tuple(f"{one.code} {one.kind}, step {one.step}" for one in reversed(alarms.values())),
    )


def _linted(script: Path) -> Iterable[Finding]:
    """As the only file of a project: its twin beside it would read what it does not."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(script, folder)
        return lint([folder])


def _codes(findings: Iterable[Finding]) -> tuple[str, ...]:
    found = {one.code: one.severity for one in sorted(findings, key=lambda one: one.severity == "info", reverse=True)}
    said = sorted(found.items(), key=lambda one: (one[1] == "info", one[0]))
    return tuple(code if severity != "info" else f"({code})" for code, severity in said)


class _Seen:
    """A script as it runs: audited before and after its first step, and monitored in each."""

    def __init__(self) -> None:
        self.script: dict[str, Any] = {"__name__": "__main__"}
        self.audited: list[Finding] = []
        self.alarms: tuple[Any, ...] = ()
        self.monitor: td.Monitor | None = None
        self._hook: Any = None
        self._is_audited = False

    def begin(self, loss: torch.Tensor) -> None:
        """In front of the first backward pass."""
        if self.monitor is not None:
            return
        optimizer, model = self.script["optimizer"], self.script["model"]
        self.audited += td.audit(optimizer, model=model, loss=loss)
        self.monitor = td.Monitor(optimizer, model=model, every_steps=1)

        def after(*_: Any) -> None:
            if not self._is_audited:
                self.audited += td.audit(optimizer, model=model)
                self._is_audited = True

        self._hook = optimizer.register_step_post_hook(after)

    def end(self) -> None:
        """No more hooks."""
        if self.monitor is not None:
            self._hook.remove()
            self.monitor.close()
            self.alarms = self.monitor.history.events


@contextlib.contextmanager
def _watched(seen: _Seen) -> Iterator[None]:
    backward: Callable[..., None] = torch.Tensor.backward

    def watched(loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        seen.begin(loss)
        backward(loss, *args, **kwargs)

    torch.Tensor.backward = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]


def row(name: str) -> str:
    """One row of the table."""
    mended = told(HERE / name / "mended.py")
    assert mended.is_quiet, (name, mended)
    found = told(HERE / name / "bug.py").less(mended)
    said = (found.lint, found.audit, found.verify, found.monitor)
    return f"| {about(name)} | " + " | ".join("<br>".join(one) or NOTHING for one in said) + " |"


def about(name: str) -> str:
    """What the bug is, and where it was."""
    story, _, source = (
        ast.get_docstring(ast.parse((HERE / name / "bug.py").read_text(encoding="utf-8"))) or ""
    ).partition("\n\nSource: ")
    place, _, _ = source.partition(",")
    project, _, number = place.partition("#")
    return f"`{name}` {' '.join(story.split())} [{project} #{number}](https://github.com/{project}/issues/{number})"


def counts(rows: list[str]) -> str:
    """The last row: in how many of the bugs each found an error or a warning, and in how many nobody did."""
    cells = [one.strip("| ").split(" | ")[1:] for one in rows]
    found = [[cell != NOTHING and not cell.startswith("(") for cell in row] for row in cells]
    each = (str(sum(column)) for column in zip(*found, strict=True))
    noted = sum(any(cell != NOTHING for cell in row) for row in cells) - sum(map(any, found))
    return f"| **{len(rows)} bugs**: {sum(map(any, found))} found, {noted} noted, the others not | {' | '.join(each)} |"


def main() -> None:
    """Print the table, or write it into its page."""
    rows = [row(name) for name in names()]
    table = "\n".join([HEAD, *rows, counts(rows)])
    if "--write" not in sys.argv:
        print(table)
        return
    before, _, after = PAGE.read_text(encoding="utf-8").partition(HEAD)
    PAGE.write_text(before + table + after[after.index("\n\n") :], encoding="utf-8")


if __name__ == "__main__":
    main()
