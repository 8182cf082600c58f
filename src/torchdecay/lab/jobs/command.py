"""`Command`: a command that trains, and prints or writes the metric."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from torchdecay.arguments import check_number
from torchdecay.errors import TaskError
from torchdecay.lab.jobs.child import Child
from torchdecay.lab.jobs.current import Current
from torchdecay.lab.jobs.job import Job, Report, RunFailed, Setting, Slot, Stopped
from torchdecay.lab.jobs.metrics import Metric, Printed
from torchdecay.lab.jobs.opening import Opening
from torchdecay.lab.jobs.record import RECORD, SUMMARY, Applied, applied_in
from torchdecay.text import describe_error, nearest, repr_quoted, shown, spelled

Take = Literal["last", "best"]
PLACES = ("value", "seed", "out", "checkpoint")
OUTPUT = "output.txt"
_LOOK_SECONDS, _GRACE, _MOST_WORDS = 1.0, 5.0, 40


@dataclass(frozen=True)
class Command(Job):
    r"""A command that trains: each run is one process of it, started without a shell, in the present folder.

    In its words `{value}` becomes the coefficient, 0 in the run without decay; `{seed}` the seed; `{out}` a folder of
    the run's own; `{checkpoint}` the path of `checkpoint`. Without `{value}` it runs under `torchdecay run --apply`,
    which gives each optimizer the form that is swept in place of its own decay. Without `{seed}` all runs of a value
    would be the same, so there is one.

    Args:
        words: the command and its arguments.
        metric: where the metric is read: a pattern over the output, or `Printed`, `Filed` or `Tagged`.
        take: "last": the last value that a run tells; "best": its best.
        folder: where the folders of runs are made, `runs/VALUE-seed-SEED` below it.
        checkpoint: the file or folder that every run goes on from.
        time_limit: seconds that a run may take.
        form: what `--apply` gets before the value; a sweep fills it in.
        lr: the learning rate of a command with `{value}`, by which halving says when decay has acted.

    Raises:
        TaskError: on Windows; no such command, a word in braces that means nothing, a pattern that finds no number.

    Example:
        >>> Command(["python", "train.py", "--wd", "{value}"], metric=r"loss (\S+)").name
        'train'
    """

    words: Sequence[str]
    metric: Metric | str
    take: Take = "last"
    folder: Path = Path("torchdecay-sweep")
    checkpoint: Path | None = None
    time_limit: float | None = None
    form: str = "decoupled"
    lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("words", tuple(self.words)), ("folder", Path(self.folder).absolute())):
            object.__setattr__(self, name, value)
        if self.checkpoint is not None:
            object.__setattr__(self, "checkpoint", Path(self.checkpoint).absolute())
        if isinstance(self.metric, str):
            object.__setattr__(self, "metric", Printed(self.metric))
        if self.take not in get_args(Take):
            raise TaskError(f"take is {self.take!r}.", fix="Write last or best.")
        if self.time_limit is not None:
            check_number(self.time_limit, "the time limit", open_minimum=True, error=TaskError)
        self._check_words()
        if self.lr is not None:
            check_number(self.lr, "the learning rate", open_minimum=True, error=TaskError)
            if not self.has("value"):
                raise TaskError(
                    "a learning rate is given, and {value} is not in the command.",
                    "It runs under torchdecay run --apply then, whose record says the learning rate.",
                    "Leave the learning rate out.",
                )
        if not self.has("seed"):
            object.__setattr__(self, "seeds", self.seeds[:1])

    def _check_words(self) -> None:
        if not hasattr(os, "fork"):
            raise TaskError(
                "commands can't be swept on Windows.",
                "No process of a command may outlive its sweep, and that needs the process groups of Unix.",
                "Sweep a function, lab.sweep(train), or run it in WSL.",
            )
        if not self.words or not self.words[0]:
            raise TaskError("there is no command.", fix="Write it behind --: -- python train.py --wd {value}.")
        if shutil.which(self.words[0]) is None:
            raise TaskError(
                f"there is no command {repr_quoted(self.words[0])}.",
                "It is started without a shell: aliases, ~ and variables mean nothing.",
                f"Write python {self.words[0]} for a script." if self.words[0].endswith(".py") else "",
            )
        for word in self.words:
            for name in re.findall(r"\{(\w+)\}", word):
                if name not in PLACES and (hint := nearest(name, PLACES)):
                    raise TaskError(
                        f"{{{name}}} in {repr_quoted(word)} means nothing.",
                        f"There are {', '.join(f'{{{place}}}' for place in PLACES)}.",
                        hint,
                    )
        if (self.checkpoint is None) == self.has("checkpoint"):
            what = "{checkpoint} is in the command, and no file is named" if self.checkpoint is None else (
                f"no {{checkpoint}} is in the command, so nothing would read {self.checkpoint}"
            )  # fmt: skip
            raise TaskError(f"{what}.", fix="Give both: --fork FILE and, in the command, {checkpoint}.")
        if self.checkpoint is not None and not Path(self.checkpoint).exists():
            raise TaskError(f"there is no checkpoint {self.checkpoint}.", fix="Name the file that runs go on from.")

    def into(self, folder: Path) -> Command:
        """The same with the folders of its runs elsewhere."""
        return replace(self, folder=folder)

    @property
    def runs(self) -> Path:
        """Where the folders of its runs are."""
        return self.folder / "runs"

    def has(self, place: str) -> bool:
        """Whether `{place}` is in some word."""
        return any(f"{{{place}}}" in word for word in self.words)

    @property
    def place(self) -> str:
        """The words that take the value, where they are short: "--wd {value}", "--wd={value}"; else "{value}"."""
        place = next((i for i, word in enumerate(self.words) if "{value}" in word), None)
        if place is None:
            return ""
        option = self.words[place - 1] if place else ""
        is_option = self.words[place] == "{value}" and re.fullmatch(r"--?\w[\w.-]*", option)
        words = f"{option} {{value}}" if is_option else self.words[place]
        return words if len(words) <= _MOST_WORDS and words.isprintable() else "{value}"

    @property
    def name(self) -> str:
        """The script's name without its suffix; else the command's."""
        script = next((word for word in self.words[1:] if word.endswith((".py", ".sh"))), self.words[0])
        return re.sub(r"[^\w-]+", "-", Path(script).stem, flags=re.ASCII).strip("-") or "command"

    @property
    def reading(self) -> Metric:
        """Where the metric is read."""
        assert not isinstance(self.metric, str)
        return self.metric

    @property
    def metric_name(self) -> str:
        """What the metric is called."""
        return self.reading.name

    @property
    def printed(self) -> str:
        """The command as it is typed."""
        return shlex.join(self.words)

    @property
    def facts(self) -> Mapping[str, str]:
        """The command, and how its metric is read."""
        better = "more" if self.maximize else "less"
        return {
            "command": self.printed,
            **({} if self.has("value") else {"decay": f"by torchdecay run --apply {self.form}:VALUE"}),
            "metric": f"{self.reading.spec}, the {self.take} of a run; {better} is better",
            **({"goes on from": str(self.checkpoint)} if self.checkpoint is not None else {}),
            **({"time limit": f"{self.time_limit:g} s a run"} if self.time_limit is not None else {}),
            "runs": str(self.runs),
        }

    @property
    def identity(self) -> Mapping[str, str]:
        """The command, where it runs, and its metric. What its files hold is its own affair."""
        return {
            "command": self.printed,
            "folder": os.getcwd(),
            "metric": f"{self.reading.spec}, {self.take}",
            "checkpoint": "" if self.checkpoint is None else f"{self.checkpoint} {_stamp(Path(self.checkpoint))}",
        }

    def run(self, setting: Setting, report: Report, slot: Slot) -> float:
        """Start the command, and follow it to its end.

        Raises:
            RunFailed: it ended with an error, took too long, or told no metric.
            Stopped: handed on from `report`.
        """
        out = self._made_folder(setting)
        reader = self.reading.reader(out)
        told: list[float] = []

        def take(values: list[float]) -> None:
            for value in values:
                told.append(value)
                report(len(told), self._taken(told))

        opening = None if self.checkpoint is None else Opening(Path(self.checkpoint))
        child = Child(self._filled(setting, out), self._environment(setting, out, slot), out / OUTPUT, _GRACE)
        began = looked = time.monotonic()
        try:
            for lines in child.lines():
                now = time.monotonic()
                if lines or now - looked >= _LOOK_SECONDS:
                    take(reader.read(lines))
                    looked = now
                if slot.halt.is_set():
                    raise Stopped
                if self.time_limit is not None and now - began > self.time_limit:
                    child.stop()
                    raise RunFailed(f"it took longer than the limit of {self.time_limit:g} s, and was ended", child.end)
        except BaseException:
            child.stop()
            raise
        finally:
            child.close()
            was_opened = None if opening is None else opening.was_seen
            if opening is not None:
                opening.close()
        if child.code:
            last = child.end.rpartition("\n")[2]
            said = f": {shown(last)}" if last else ""
            signal = f" (signal {child.code - 128})" if child.code >= 128 else ""
            raise RunFailed(f"it ended with exit code {child.code}{signal}{said}", child.end)
        take(reader.read([]))
        if not told:
            raise RunFailed(f"it told no metric: {reader.why_none()}", child.end)
        self._check_applied(out, child)
        if was_opened is False:
            raise RunFailed(
                f"it did not open {self.checkpoint}, so it began anew: let the script load {{checkpoint}}",
                child.end,
            )
        return self._taken(told)

    def _taken(self, told: list[float]) -> float:
        if self.take == "last":
            return told[-1]
        sound = [value for value in told if value == value] or told
        return max(sound) if self.maximize else min(sound)

    def _made_folder(self, setting: Setting) -> Path:
        """A new folder for this try of this run; what an earlier try left stays beside it."""
        value = "none" if setting.decay is None else spelled(setting.value)
        name = f"{value}-seed-{setting.seed}" if self.has("seed") else value
        for number in itertools.count(1):
            path = self.runs / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise TaskError(
                    f"the folder of a run can't be made: {describe_error(error)}.", fix="Name another with --out."
                ) from error
            return path
        raise AssertionError("there is always another number")

    def _filled(self, setting: Setting, out: Path) -> list[str]:
        values = (spelled(setting.value), str(setting.seed), str(out), str(self.checkpoint))
        known = dict(zip(PLACES, values, strict=True))
        words = []
        for word in self.words:
            for name, value in known.items():
                word = word.replace(f"{{{name}}}", value)
            words.append(word)
        if self.has("value"):
            return words
        decay = "none" if setting.decay is None else self.spelled(setting.value)
        ours = [sys.executable, "-m", "torchdecay", "run", "--quiet", "--apply", decay, "--out", str(out / RECORD)]
        return [*ours, "--", *words]

    def spelled(self, value: float) -> str:
        """What `--apply` gets for a value."""
        return f"{self.form}{',' if ':' in self.form else ':'}{spelled(value)}"

    @property
    def applied(self) -> Mapping[str, Applied]:
        """What `torchdecay run` wrote of the runs that came to their end."""
        return {} if self.has("value") else applied_in(self.runs)

    def _environment(self, setting: Setting, out: Path, slot: Slot) -> dict[str, str]:
        here = Current(value=setting.value, seed=setting.seed, folder=out, checkpoint=self.checkpoint)
        made = {**os.environ, "PYTHONUNBUFFERED": "1", **here.to_environment()}
        if slot.devices is not None:
            made["CUDA_VISIBLE_DEVICES"] = slot.devices
        if slot.num_threads is not None:
            made.setdefault("OMP_NUM_THREADS", str(slot.num_threads))
        return made

    def _check_applied(self, out: Path, child: Child) -> None:
        """A run under `--apply` in which no optimizer took a step had no decay from us."""
        if not self.has("value") and not (out / RECORD / SUMMARY).exists():
            raise RunFailed(
                "no optimizer of torch took a step in it, so it was given no decay: write {value} where the command "
                "takes its own",
                child.end,
            )


def _stamp(path: Path) -> str:
    """What tells one checkpoint from another: its content where that is a file, else when it was written."""
    if path.is_dir():
        return str(path.stat().st_mtime_ns)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:12]
