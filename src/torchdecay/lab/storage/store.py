"""`Store`: every finished run of a sweep in an SQLite file, written at once, through Optuna's storage.

One sweep is one Optuna study, one run one trial: its parameters are coefficient, seed and learning-rate multiplier, its
intermediate values the deciding curve, and the whole run travels as JSON among its attributes. A trial is written in a
single transaction, so a kill at any moment leaves it whole or absent.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchdecay.encoding import decode, encode
from torchdecay.errors import LoadError, TaskError, need
from torchdecay.lab.training.results import Failure, TrainingRun
from torchdecay.lab.training.trial import Trial
from torchdecay.records import loads
from torchdecay.text import listed, repr_quoted

FORMAT = 1
HEADER = b"SQLite format 3\x00"
BUSY_SECONDS = 60
MOST_VALUES = 20
"""Points of the deciding curve that Optuna gets, one row each; the run itself has them all."""


@dataclass(frozen=True)
class Store:
    """A file for the finished runs of comparisons and sweeps, each written at once.

    Args:
        path: the SQLite file, made where there is none; others, also running ones, may be in it.
        resume: whether to go on with the runs of the same comparison or sweep in it; without, they are an error.

    Example:
        >>> Store("sweep.db", resume=True).resume
        True
    """

    path: str | Path
    resume: bool = False

    def open(self, *, identity: Mapping[str, str], measure: str, num_steps: int) -> StoredRuns:
        """Open the file, and find this sweep in it.

        Args:
            identity: what makes runs comparable; "task" and "form" are in it, and become the study's name.
            measure: the curve that decides.
            num_steps: steps of a whole run.

        Raises:
            TaskError: the file can't be used, holds another sweep or version, or holds this one and resume is off.
            MissingExtra: Optuna is not installed.
        """
        path = Path(self.path).expanduser()
        claims_of = _sqlite(path)
        _require_usable(path)
        optuna = need("optuna", "lab")
        name = f"{identity['task']}, {identity['form']}"
        with _told(path), _quiet(optuna), _alone(claims_of(path, "")):
            storage = _storage(optuna, path)
            made = _study(optuna, storage, path, name, dict(identity), self.resume, up=measure.endswith("score"))
            runs = StoredRuns(path, made, claims_of(path, made.study_name), measure=measure, num_steps=num_steps)
        there = runs.finished()
        if there and not self.resume:
            runs.close()
            what = "comparison" if identity["form"] == "comparison" else "sweep"
            raise TaskError(
                f"{path} holds {len(there)} finished runs of this {what} already.",
                "They would be taken over instead of being made again, and you did not ask for that.",
                "Say --resume (Store(path, resume=True)) to go on with them, or name another file.",
            )
        return runs


def as_store(store: str | Path | Store | None) -> Store | None:
    """A store from its path, or as it is."""
    return store if store is None or isinstance(store, Store) else Store(store)


class StoredRuns:
    """The finished runs of one sweep in an open store. Made by `Store.open`."""

    def __init__(self, path: Path, study: Any, claims: Any, *, measure: str, num_steps: int) -> None:
        self.path, self._study, self._claims = path, study, claims
        self._measure, self._num_steps = measure, num_steps
        self._read: dict[str, TrainingRun] = {}
        self._last = -1

    def finished(self) -> dict[str, TrainingRun]:
        """Every finished run by its trial's key; of a run that was stopped and made again later the longer."""
        with _told(self.path):
            for number, key, text in self._new():
                try:
                    run = decode(loads(json.loads(text)), TrainingRun)
                    key = str(json.loads(key))
                except (LoadError, ValueError, TypeError, KeyError, RecursionError) as error:
                    raise _unusable(self.path, f"its run {number} can't be read") from error
                known = self._read.get(key)
                if known is None or (not run.stopped, run.steps[-1]) > (not known.stopped, known.steps[-1]):
                    self._read[key] = run
        return dict(self._read)

    def _new(self) -> Iterator[tuple[int, str, str]]:
        """Number, key and text of each run that was not read before, past Optuna, which would build every trial."""
        from torchdecay.lab.storage.claims import connect

        with connect(self.path) as connection:
            rows = connection.execute(
                "SELECT trials.trial_id, number, name.value_json, run.value_json FROM trials "
                "JOIN trial_user_attributes run ON run.trial_id = trials.trial_id AND run.key = 'run' "
                "JOIN trial_user_attributes name ON name.trial_id = trials.trial_id AND name.key = 'key' "
                "WHERE study_id = ? AND trials.trial_id > ? ORDER BY trials.trial_id",
                (self._study._study_id, self._last),
            )
            for last, number, key, text in rows:
                yield number, key, text
                self._last = last

    def claim(self, key: str) -> bool:
        """Whether this process may do what the key names now: nobody living is at it."""
        with _told(self.path):
            return bool(self._claims.take(key))

    def release(self, key: str) -> None:
        """Let others have it."""
        with _told(self.path):
            self._claims.release(key)

    def record(self, trial: Trial, outcome: TrainingRun | Failure) -> None:
        """Write an outcome, and then give its claim back."""
        optuna = need("optuna", "lab")
        params = {"seed": trial.seed, "lr_scale": trial.lr_scale}
        axes = optuna.distributions
        kinds = {"seed": axes.IntDistribution(0, 2**63 - 1), "lr_scale": axes.FloatDistribution(1e-9, 1e9, log=True)}
        pairs = trial.values or (() if trial.value is None else (("coefficient", trial.value),))
        for name, value in pairs:
            params[name], kinds[name] = value, axes.FloatDistribution(1e-30, 1e30, log=True)
        notes: dict[str, Any] = {"key": trial.key, "decay": trial.contender.printed}
        state: Any = optuna.trial.TrialState.FAIL
        end: float | None = None
        curve: dict[int, float] = {}
        if isinstance(outcome, Failure):
            notes |= {"message": outcome.message, "traceback": outcome.traceback}
        else:
            measured = getattr(outcome, self._measure)
            notes["run"] = json.dumps(encode(outcome, TrainingRun), allow_nan=False)
            stride = max(1, (len(measured) - 1) // MOST_VALUES)
            shown = [*zip(outcome.steps, measured, strict=True)][::stride]
            curve = {step: value for step, value in shown if math.isfinite(value)}
            whole = outcome.reached(self._num_steps)
            state = optuna.trial.TrialState.COMPLETE if whole else optuna.trial.TrialState.PRUNED
            worst = -math.inf if self._measure.endswith("score") else math.inf
            end = measured[-1] if math.isfinite(measured[-1]) else worst
        made = optuna.trial.create_trial(
            state=state, value=end, params=params, distributions=kinds, user_attrs=notes, intermediate_values=curve
        )
        with _told(self.path), _quiet(optuna):
            self._study.add_trial(made)
        self.release(trial.key)

    def close(self) -> None:
        """Give claims back and let go of the file."""
        self._claims.close()
        storage = self._study._storage
        getattr(storage, "_backend", storage).engine.dispose()


def _sqlite(path: Path) -> Any:
    try:
        from torchdecay.lab.storage.claims import Claims
    except ImportError as error:
        raise TaskError(
            f"the store {path} can't be kept: this Python has no SQLite ({error}).",
            fix="Use a Python that was built with it, or leave the store out.",
        ) from error
    return Claims


def _require_usable(path: Path) -> None:
    """Refuse what is no store of ours before anything is written into it."""
    other = path.exists() and not path.is_file()
    if other or not path.parent.is_dir():
        what = (
            "is a folder"
            if path.is_dir()
            else "is no file"
            if other
            else f"lies in the folder {path.parent}, which is not there"
        )
        raise TaskError(f"the store {path} {what}.", fix="Name a file, sweep.db say, in a folder that exists.")
    try:
        head = b""
        if path.exists():
            with path.open("rb") as file:
                head = file.read(len(HEADER))
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from error
    if head and head != HEADER:
        raise TaskError(
            f"{path} is no SQLite file; it was left as it is.", fix="Name another file for the store, sweep.db say."
        )
    with _told(path):
        from torchdecay.lab.storage.claims import connect

        with connect(path) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if names and not names & {"studies", "torchdecay_claims"}:
                raise TaskError(
                    f"{path} is an SQLite file of something else, with the tables {listed(sorted(names))}.",
                    "It was left as it is.",
                    "Name another file for the store, sweep.db say.",
                )
            # Whether it can be written is asked now, not after the first training.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE torchdecay_probe (x)")
            connection.execute("ROLLBACK")


def _storage(optuna: Any, path: Path) -> Any:
    try:
        return optuna.storages.RDBStorage(
            f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}}
        )
    except RuntimeError as error:
        raise TaskError(
            f"{path} was written by another version of Optuna: {error}",
            fix="Name another file, or use the version that wrote it.",
        ) from error


def _study(
    optuna: Any, storage: Any, path: Path, name: str, identity: dict[str, str], resume: bool, *, up: bool
) -> Any:
    """The study with this identity, made where there is none; the name gets a number where another sweep has it."""
    wanted = {"format": str(FORMAT), **identity}
    others = {}
    for study in storage.get_all_studies():
        attrs = study.user_attrs.get("torchdecay")
        if attrs == wanted:
            return optuna.load_study(study_name=study.study_name, storage=storage)
        others[study.study_name] = attrs
    if resume and others:
        raise TaskError(
            f"{path} holds {listed(others)}, but not this sweep: {_differences(wanted, others)}.",
            "Runs of different sweeps can't be counted together.",
            "Leave --resume (Store(path, resume=True)) out to add a sweep to the file, or name another file.",
        )
    taken = sum(other == name or other.startswith(f"{name} (") for other in others)
    study = optuna.create_study(
        study_name=f"{name} ({taken + 1})" if taken else name,
        storage=storage,
        direction="maximize" if up else "minimize",
    )
    study.set_user_attr("torchdecay", wanted)
    return study


@contextlib.contextmanager
def _alone(claims: Any) -> Iterator[None]:
    """Tables and studies are made by one process at a time: Optuna's own making of them is no single act."""
    try:
        while not claims.take("open"):
            time.sleep(0.05)
        yield
    finally:
        claims.close()


def _differences(wanted: Mapping[str, str], others: Mapping[str, Any]) -> str:
    """What differs from the nearest sweep in the file."""
    ours = {name: attrs for name, attrs in others.items() if isinstance(attrs, dict)}
    if not ours:
        return "those are not torchdecay's"
    differ = {
        name: [key for key in dict.fromkeys([*wanted, *attrs]) if wanted.get(key) != attrs.get(key)]
        for name, attrs in ours.items()
    }
    nearest = min(differ, key=lambda name: len(differ[name]))
    told = [f"{key} {ours[nearest].get(key)} there, {wanted.get(key)} here" for key in differ[nearest]]
    return f"{repr_quoted(nearest)} has {'; '.join(told)}"


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of SQLite and of the layers above it as one message."""
    try:
        yield
    except TaskError:
        raise
    except Exception as error:
        root: BaseException = error
        while root.__cause__ is not None or root.__context__ is not None:
            root = root.__cause__ or root.__context__ or root
        kinds = {type(one).__module__.split(".")[0] for one in (error, root)}
        if not kinds & {"sqlite3", "sqlalchemy"}:
            raise
        raise _unusable(path, str(root)) from error


_DAMAGED = ("malformed", "not a database", "corrupt", "can't be read")


def _unusable(path: Path, why: str) -> TaskError:
    said, again = why.lower(), "then go on with --resume (Store(path, resume=True))."
    if any(word in said for word in _DAMAGED):
        return TaskError(
            f"the store {path} is damaged: {why}.",
            "Which of its runs can still be read is not known. It was left as it is.",
            f'Name another file. sqlite3 {path} ".recover" | sqlite3 recovered.db may save what this one held.',
        )
    if "locked" in said or "busy" in said:
        return TaskError(
            f"the store {path} is locked: another process has been writing to it for {BUSY_SECONDS} s.",
            "Runs that are in it already are safe.",
            f"Wait until that process is done, or end it; {again}",
        )
    if "readonly" in said or "read-only" in said or "unable to open" in said or "permission" in said:
        return TaskError(
            f"the store {path} can't be written: {why}.",
            "You may not write to the file or to its folder. Runs that are in it already are safe.",
            "Name a file in a folder that you may write to, or copy it there; " + again,
        )
    return TaskError(
        f"the store {path} can't be written: {why}.",
        "Runs that are in it already are safe.",
        f"Make room on the disk; {again}",
    )


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
