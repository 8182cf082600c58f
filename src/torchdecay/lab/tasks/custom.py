"""`module:function`: something of the user's own, imported because they asked for it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.task import Task
from torchdecay.text import describe_error, nearest, repr_quoted


def load(target: str) -> Any:
    """What `module:name` names, found as Python would find it from the current folder.

    Raises:
        TaskError: it does not import, or the module has no such name.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise TaskError(
            f"{repr_quoted(target)} is not of the form module:name.", fix='Write "my_project.tasks:my_task", say.'
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
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
    except Exception as error:
        raise TaskError(f"{module_name} raises while it is imported: {describe_error(error, where=True)}.") from error
    for part in name.split("."):
        if not hasattr(found, part):
            known = [known for known in vars(found) if not known.startswith("_")]
            raise TaskError(f"{module_name} has no {repr_quoted(name)}.", fix=nearest(part, known))
        found = getattr(found, part)
    return found


def call(found: Any, target: str) -> Any:
    """The value of a function without arguments; its own errors become a message with the line that raised.

    Raises:
        TaskError: it raises, or wants arguments.
    """
    try:
        return found()
    except Exception as error:
        raise TaskError(
            f"{target} raises: {describe_error(error, where=True)}.",
            fix="It is called without arguments; try it in Python first.",
        ) from error


def custom(target: str) -> Task:
    """The Task that `module:function` returns, or that `module:name` is.

    Raises:
        TaskError: it does not import, raises, or is no Task.
    """
    found = load(target)
    made = found if isinstance(found, Task) else call(found, target) if callable(found) else found
    if not isinstance(made, Task):
        raise TaskError(
            f"{target} gives a {type(made).__name__}, not a Task.",
            fix="Return torchdecay.lab.Task(name=..., data=..., model=..., loss=..., num_steps=...).",
        )
    return made
