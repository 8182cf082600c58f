"""The command line of a script as Python splits it, and how this process becomes that script, behind the door."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torchdecay.errors import TaskError
from torchdecay.integrations.script.folder import folders_of
from torchdecay.integrations.script.guard import say
from torchdecay.integrations.script.options import Options, is_disabled
from torchdecay.text import listing, repr_quoted

_MOST = 4_000
"""Characters of a command that are kept to be shown."""
DOOR = Path(__file__).parent / "door"
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
"""Flags of Python itself that take the next word."""

_CLOSING = {"-I": "isolated", "-E": "ignore_environment", "-S": "no_site"}
"""Flags of Python itself under which nothing is seen, and where it says so."""
_OF_PYTHON = frozenset(["-b", "-B", "-d", "-i", "-O", "-P", "-R", "-s", "-u", "-v", "-W", "-x", "-X"])


@dataclass(frozen=True)
class Split:
    """A command line in two.

    Attributes:
        ours: options of torchdecay's.
        python: words for Python: SCRIPT ARGS, -m MODULE ARGS or -c CODE ARGS.
        command: instead of those, a command of its own and its arguments.
    """

    ours: tuple[str, ...]
    python: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def split(words: Sequence[str], with_value: Collection[str]) -> Split:
    """Split where the script begins: at SCRIPT, `-m MODULE`, `-c CODE`, or `--` before a command.

    Args:
        words: what stands behind `torchdecay run`.
        with_value: our options that take the next word, all spellings.

    Example:
        >>> split(["--every", "10", "-q", "train.py", "--every", "5"], {"--every"})
        Split(ours=('--every', '10', '-q'), python=('train.py', '--every', '5'), command=())
    """
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            return Split(tuple(words[:place]), command=tuple(words[place + 1 :]))
        if word[:2] in ("-m", "-c") or not word.startswith("-") or word == "-":
            return Split(tuple(words[:place]), python=tuple(words[place:]))
        place += 2 if word in with_value else 1
    return Split(tuple(words))


def become(split: Split, options: Options) -> None:
    """Replace this process by the script, or by the command: from here on nothing of this one is left.

    Raises:
        TaskError: no script, one that is not there, or a Python that would not open the door.
    """
    program, words = _program(split)
    environment = dict(os.environ)
    for stream in (sys.stdout, sys.stderr):
        # Of a stream that is closed (2>&-) there is none.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    if not is_disabled(environment):
        options = complete(split, options)
        if (options.fail_on != "never" or options.optimizer) and (child := os.fork()):
            sys.exit(verdict(_wait(child), options))
        environment |= environment_for(options, environment)
    os.execve(program, words, environment)


def complete(split: Split, options: Options) -> Options:
    """The options as the script's process needs them, wherever it goes and whatever it is called.

    Raises:
        TaskError: a Python that would not open the door.
    """
    _require_open(split.command)
    return replace(
        options,
        out=str(Path(options.out).absolute()),
        plan=str(Path(options.plan).absolute()) if options.plan else "",
        apply=str(Path(options.apply).absolute()) if options.apply.endswith(".json") else options.apply,
        command=_shortened(shlex.join(split.python or ("--", *split.command))),
        front=_front(_parents_words()),
        run=secrets.token_hex(8),
    )


def _parents_words() -> list[str]:
    """The command line of the process that started this one; empty where the system does not tell."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _front(words: Sequence[str]) -> str:
    """How to start `torchdecay run` again, by the command line of what started it: a launcher has it among its own.

    Example:
        >>> _front(["/bin/python", "/bin/torchrun", "--nproc-per-node", "2", "-m", "torchdecay", "run", "train.py"])
        'torchrun --nproc-per-node 2 -m torchdecay run'
    """
    pairs = enumerate(itertools.pairwise(words))
    place = next((i for i, (name, verb) in pairs if (Path(name).name, verb) == ("torchdecay", "run")), 0)
    if not place:
        return Options().front
    own = list(words[: place + 2])
    if Path(own[0]).name.startswith("python") and not own[1].startswith("-"):
        # A console script, as people type it.
        del own[0]
    return _shortened(shlex.join([Path(own[0]).name, *own[1:]]))


def _shortened(command: str) -> str:
    """A command line as a variable of the environment, which shares its room with the command line itself."""
    return command if len(command) <= _MOST else command[: _MOST - 4] + " ..."


def environment_for(options: Options, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that open the door in this process, once it is the script's, and in its children's."""
    behind = environment.get("PYTHONPATH", "")
    path = os.pathsep.join((str(DOOR), behind)) if behind else str(DOOR)
    # What an outer run said is gone where this one says nothing.
    said = dict.fromkeys(Options().names, "") | replace(options, pid=os.getpid()).to_environment()
    return {**said, "PYTHONPATH": path}


def verdict(code: int, options: Options) -> int:
    """The exit code under `--fail-on` and `--optimizer`: the script's own where that is not 0.

    1 where something was found; 2 where something could not be looked at, or no optimizer has a name that was given.
    """
    if code or os.environ.get("RANK", "0") not in ("", "0"):
        return code
    summaries = [summary for _, summary in folders_of(Path(options.out), options.run)]
    unmet = [set(summary.get("unmet", ())) for summary in summaries]
    if options.optimizer and (nobody := set.intersection(*unmet) if unmet else {options.optimizer}):
        seen = dict.fromkeys(one["optimizer"] for summary in summaries for one in summary["optimizers"])
        say(f"torchdecay: no optimizer is {' or '.join(sorted(nobody))}; seen: {listing(list(seen)) or 'none'}.")
        return 2
    said = [summary.get("verdict") for summary in summaries]
    if "found" in said:
        return 1
    if options.fail_on == "never" or (said and "unknown" not in said):
        return 0
    say(f"torchdecay: --fail-on {options.fail_on}: nothing could be looked at.")
    return 2


def _wait(child: int) -> int:
    """The exit code of the script's process, to which signals are handed on; one that a signal ends ends this too."""
    # Of Ctrl-C the child hears by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, lambda number, frame: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def flags_of_python(words: Sequence[str]) -> list[str]:
    """The flags that Python itself was started with.

    Example:
        >>> flags_of_python(["python", "-W", "error", "-u", "-m", "torchdecay", "run", "x.py"])
        ['-W', 'error', '-u']
    """
    place = 1
    while place < len(words) and words[place].startswith("-") and words[place][:2] not in ("-m", "-c"):
        place += 2 if words[place] in _WITH_VALUE else 1
    return list(words[1:place])


def _program(split: Split) -> tuple[str, list[str]]:
    if split.command:
        program = shutil.which(split.command[0])
        if program is None:
            raise TaskError(
                f"there is no command {repr_quoted(split.command[0])}.",
                "What stands behind -- is a command, such as torchrun, whose Python processes are looked into.",
                "Leave -- out before a script.",
            )
        return program, list(split.command)
    words = split.python
    if not words or (words[0] in ("-m", "-c") and len(words) < 2):
        raise TaskError(
            "there is no script.", fix="Write torchdecay run train.py, or -m package.module, -c CODE, or -- COMMAND."
        )
    if not words[0].startswith("-") and not os.path.exists(words[0]):
        raise TaskError(
            f"there is no script {repr_quoted(words[0])}.",
            f"It was looked for from {os.getcwd()}.",
            "Options of torchdecay's stand before the script, the script's own behind it.",
        )
    return sys.executable, [sys.executable, *flags_of_python(sys.orig_argv), *words]


def refuse_flag_of_python(flag: str) -> None:
    """Say where a flag of Python's own goes, if it may be there at all; what is none is let by.

    Raises:
        TaskError: it is one.
    """
    if flag in _CLOSING:
        raise _closed(f"the script's Python would get {flag}")
    if flag in _OF_PYTHON:
        raise TaskError(
            f"{flag} is a flag of Python's, and no option of torchdecay run.",
            "What Python was started with itself the script's Python gets too.",
            f"Write python {flag}{' VALUE' if flag in _WITH_VALUE else ''} -m torchdecay run SCRIPT.",
        )


def _require_open(command: Sequence[str]) -> None:
    is_python = bool(command) and Path(command[0]).name.startswith("python")
    letters = [word for word in (flags_of_python(command) if is_python else ()) if re.fullmatch("-[A-VYZa-z]+", word)]
    for flag, name in _CLOSING.items():
        if getattr(sys.flags, name):
            raise _closed(f"Python was started with {flag}")
        if any(flag[1] in word for word in letters):
            raise _closed(f"the command is a Python with {flag}")


def _closed(what: str) -> TaskError:
    return TaskError(
        f"{what}, which closes the door that torchdecay run comes in by.",
        "It is a sitecustomize on PYTHONPATH, so that the script itself runs as it is.",
        f"Leave {what[-2:]} out.",
    )
