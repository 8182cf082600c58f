"""`module:function`: something of the user's own, imported because they asked for it."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.task import Task
from torchdecay.text import an, describe_error, listing, nearest, repr_quoted

WANTED = {
    "task": "my_project.tasks:my_task",
    "model": "my_project:make_model",
    "optimizer": "my_project:make_optimizer",
}
"""What a name may be asked for, and one as an example."""


def load(target: str, wanted: str = "task") -> Any:
    """What `module:name`, or `path/to/module.py:name`, names, found as Python would find it from the current folder.

    What is `wanted` stands in messages.
    """
    module_name, name = module_of(target), target.partition(":")[2]
    if not module_name or not name:
        raise _unnamed(target, module_name, wanted)
    here = os.getcwd()
    for folder in (str(path.parent), here) if _is_elsewhere(path := Path(target.partition(":")[0])) else (here,):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        missing = getattr(error, "name", None)
        if missing is not None and (module_name == missing or module_name.startswith(f"{missing}.")):
            files = [str(path.with_suffix("")).replace(os.sep, ".") for path in Path().glob("*.py")]
            raise TaskError(
                f"there is no module {repr_quoted(missing)}.",
                f"Looked in {here} and in the installed packages.",
                nearest(missing, files) or "Call from the folder that holds it.",
            ) from error
        raise TaskError(f"{module_name} can't be imported: {describe_error(error, where=True)}.") from error
    except SystemExit as error:
        raise _exits(target, error, wanted) from error
    except Exception as error:
        raise TaskError(f"{module_name} raises while it is imported: {describe_error(error, where=True)}.") from error
    for part in name.split("."):
        if not hasattr(found, part):
            known = [known for known in vars(found) if not known.startswith("_")]
            raise TaskError(f"{module_name} has no {repr_quoted(name)}.", fix=nearest(part, known))
        found = getattr(found, part)
    return found


def module_of(target: str) -> str:
    """The module in what was typed, by its name or its file's path."""
    typed = target.partition(":")[0]
    if (path := Path(typed)).is_absolute():
        typed = path.name if _is_elsewhere(path) else str(path.relative_to(Path.cwd()))
    return typed.removeprefix("./").removesuffix(".py").replace("/", ".").replace(os.sep, ".")


def _is_elsewhere(path: Path) -> bool:
    return path.is_absolute() and not path.is_relative_to(Path.cwd())


def _unnamed(target: str, module: str, wanted: str) -> TaskError:
    """The error for a module without a name in it: what the file has is offered."""
    path = Path(target.partition(":")[0])
    fix = f"Write {WANTED[wanted]}, say."
    if path.suffix == ".py" and path.is_file():
        names = []
        with contextlib.suppress(SyntaxError, ValueError, OSError):
            top = ast.parse(path.read_bytes()).body
            names = [one.name for one in top if isinstance(one, ast.FunctionDef) and not _arguments(one)]
            made = [one for one in top if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call)]
            names += [to.id for one in made for to in one.targets if isinstance(to, ast.Name)]
        fix = f"Name the {wanted} in it, or a function without arguments that makes it"
        fix += f": {listing([f'{module}:{name}' for name in names], most=4)}." if names else f", as {module}:NAME."
    if wanted == "optimizer":
        fix += " Or put print(td.audit(optimizer, model=model)) into the script, before its loop."
    return TaskError(f"{repr_quoted(target)} names no {wanted}: it is not of the form module:name.", fix=fix)


def _exits(target: str, error: SystemExit, wanted: str) -> TaskError:
    beside = "; or put print(td.audit(optimizer, model=model)) before the loop" if wanted == "optimizer" else ""
    return TaskError(
        f"{target} exits: SystemExit({error.code!r}).",
        "A script that reads its own command line does that when it is imported.",
        f"Let a function without arguments make the {wanted}, and put what runs under "
        f'if __name__ == "__main__"{beside}.',
    )


def _arguments(function: ast.FunctionDef) -> int:
    """How many arguments it can't be called without."""
    own = function.args
    return len(own.posonlyargs) + len(own.args) - len(own.defaults) + own.kw_defaults.count(None)


def call(found: Any, target: str, wanted: str = "task") -> Any:
    """The value of a function without arguments; its own errors become a message with the line that raised."""
    try:
        return found()
    except SystemExit as error:
        raise _exits(target, error, wanted) from error
    except Exception as error:
        raise TaskError(
            f"{target} raises: {describe_error(error, where=True)}.",
            fix="It is called without arguments; try it in Python first.",
        ) from error


def custom(target: str) -> Task:
    """The Task that `module:function` returns, or that `module:name` is."""
    found = load(target)
    made = found if isinstance(found, Task) else call(found, target) if callable(found) else found
    if not isinstance(made, Task):
        raise TaskError(
            f"{target} gives {an(type(made).__name__)}, not a Task.",
            fix="Return torchdecay.lab.Task(name=..., data=..., model=..., loss=..., num_steps=...).",
        )
    return made
