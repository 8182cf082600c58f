"""`RunRecord`: what was seen of a run, as a value and as the files of a folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from torchdecay.errors import LoadError
from torchdecay.observe.audit.result import Audit
from torchdecay.observe.forecast.result import Forecast
from torchdecay.observe.monitor.history import History
from torchdecay.plans.plan import Plan
from torchdecay.records import JsonRecord

SUMMARY = "summary.json"
_AGAIN = "Run the script again: torchdecay run SCRIPT."
Verdict = Literal["fine", "found", "unknown"]
T = TypeVar("T")
Part = TypeVar("Part", Plan, Audit, Forecast)


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One optimizer of a run that took a step.

    Attributes:
        number: which, in the order of first steps, from 1.
        optimizer: its class.
        model: the class of the module that owns its parameters; "" without one.
        num_params: how many parameters it has.
        num_elements: how many elements.
        found: how the model was found, in a sentence.
        length: how long the run is, and who says so.
        num_steps: how many steps that is; 0 where nobody says so.
        around: what else takes part in its steps: scheduler, gradient scaler, accumulation.
        applied: the decay that it was given in place of its own; "" for its own.
        replaced: what stood there.
        refuses: why no decoupled decay can be given to it; "" where one can.
        differs: where its plan is not the one that was expected.
        steps: steps taken when this was written.
    """

    number: int
    optimizer: str
    model: str = ""
    num_params: int = 0
    num_elements: int = 0
    found: str = ""
    length: str = ""
    num_steps: int = 0
    around: tuple[str, ...] = ()
    applied: str = ""
    replaced: str = ""
    refuses: str = ""
    differs: tuple[str, ...] = ()
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class RunSummary(JsonRecord, kind="run", again=_AGAIN):
    """The file `summary.json`: what is known of a run beside what each optimizer's files hold.

    Attributes:
        run: an id, by which the files of one run are known.
        command: what was run.
        front: what stood before it.
        created: when it took its first step, ISO 8601.
        written: when this was written.
        ended: whether the process that trained had come to its end.
        versions: of torchdecay, torch and Python.
        process: rank and number of processes that train together.
        optimizers: in the order of their first steps.
        notes: what could not be looked at, and why.
        verdict: "fine"; "found", where findings make of it a failure; "unknown", where one could not be looked at.
        unmet: names that `--optimizer` gave, and no optimizer had.
    """

    run: str = ""
    command: str = ""
    front: str = "torchdecay run"
    created: str = ""
    written: str = ""
    ended: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    process: tuple[int, int] = (0, 1)
    optimizers: tuple[Stepped, ...] = ()
    notes: tuple[str, ...] = ()
    verdict: Verdict = "fine"
    unmet: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What is known of one optimizer; None is what could not be looked at."""

    plan: Plan | None = None
    audit: Audit | None = None
    forecast: Forecast | None = None
    history: History | None = None


@dataclass(frozen=True)
class RunRecord:
    """A run as it was seen from outside; a page of it: `torchdecay.report(record, folder)`.

    Attributes:
        summary: what is known of the run.
        seen: for each of its optimizers the plan at work, what was found, the forecast, the history.
    """

    summary: RunSummary
    seen: tuple[Seen, ...] = ()

    def files(self) -> dict[str, str]:
        """Name → content of each file but the histories, which grow by themselves."""
        made = {
            f"{name}-{one.number}.json": part.to_json(opaque=True)
            for one, seen in zip(self.summary.optimizers, self.seen, strict=True)
            for name, part in (("plan", seen.plan), ("audit", seen.audit), ("forecast", seen.forecast))
            if part is not None
        }
        return {**made, SUMMARY: self.summary.to_json()}

    def save(self, folder: Path) -> None:
        """Write the files, each whole at every moment.

        Raises:
            OSError: the folder can't be written.
        """
        for name, text in self.files().items():
            write_whole(folder / name, text)

    @classmethod
    def load(cls, folder: str | Path) -> RunRecord:
        """The record that a folder holds; what is damaged in it or gone counts as not looked at.

        Raises:
            LoadError: no summary of a run.
        """
        folder = Path(folder)
        try:
            text = (folder / SUMMARY).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LoadError(f"{folder / SUMMARY} can't be read: {error}.", fix=_AGAIN) from error
        summary = RunSummary.from_json(text)
        return cls(summary, tuple(_load(folder, one.number) for one in summary.optimizers))


def write_whole(path: Path, content: str) -> None:
    """Write a file so that whoever opens it finds the old content or the new, and never a part.

    Raises:
        OSError: it can't be written; what stood there is kept.
    """
    # Threads that train beside each other write the same folder.
    staged = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        staged.write_text(content, encoding="utf-8", errors="replace")
        os.replace(staged, path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise


def _load(folder: Path, number: int) -> Seen:
    def part(cls: type[Part], name: str) -> Part | None:
        path = folder / f"{name}-{number}.json"
        return _or_none(lambda: cls.from_json(path.read_text(encoding="utf-8"), callables="describe"))

    history = _or_none(lambda: History.load(folder / f"history-{number}.jsonl"))
    return Seen(part(Plan, "plan"), part(Audit, "audit"), part(Forecast, "forecast"), history)


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, UnicodeDecodeError, LoadError):
        return None
