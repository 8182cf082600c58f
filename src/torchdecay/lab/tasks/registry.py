"""Tasks by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.catalog import ABOUT
from torchdecay.lab.tasks.custom import custom
from torchdecay.lab.tasks.digits import digits
from torchdecay.lab.tasks.fashion import fashion
from torchdecay.lab.tasks.grokking import grokking
from torchdecay.lab.tasks.mnist1d import mnist1d
from torchdecay.lab.tasks.overfit import overfit
from torchdecay.lab.tasks.ridge import ridge
from torchdecay.lab.tasks.table import table
from torchdecay.lab.tasks.table_file import Kind
from torchdecay.lab.tasks.task import Task
from torchdecay.text import nearest, repr_quoted

BUILT_IN: dict[str, Callable[[], Task]] = {
    make.__name__: make for make in (overfit, digits, mnist1d, grokking, ridge, fashion)
}


def task_named(
    name: str,
    *,
    data: str | Path | None = None,
    target: str | None = None,
    kind: Kind | None = None,
    categorical: Sequence[str] = (),
) -> Task:
    """The task of this name.

    Args:
        name: "overfit", "digits", "mnist1d", "grokking", "ridge", "fashion", "csv", or "module:function" for one of
            your own.
        data: the file, for "csv"; the folder with its files, for "fashion".
        target: the column to predict, for "csv".
        kind: "classification" or "regression", for "csv", where the column does not tell.
        categorical: columns of numbers that are names in truth, for "csv".

    Raises:
        TaskError: no such task, a file that can't be used, or options that do not go with the task.

    Example:
        >>> from torchdecay.lab import task_named
        >>> task_named("overfit").num_steps
        1000
    """
    if name == "csv":
        if data is None or target is None:
            lacking = " and ".join(
                option for option, value in (("--data FILE", data), ("--target COLUMN", target)) if value is None
            )
            raise TaskError(f"the task csv needs {lacking}.", fix="csv --data houses.csv --target price, say.")
        return table(data, target, kind=kind, categorical=categorical)
    if target is not None or kind is not None or categorical:
        raise TaskError(
            f"the task {repr_quoted(name)} takes no target, kind or categorical columns.",
            fix="They belong to the task csv.",
        )
    if data is not None:
        if name == "fashion":
            return fashion(data)
        raise TaskError(
            f"the task {repr_quoted(name)} takes no data.", fix="It belongs to the task csv, and to fashion."
        )
    if ":" in name or name.endswith(".py"):
        return custom(name)
    if name not in BUILT_IN:
        hint = "Is it a file? Then: csv --data FILE --target COLUMN." if name.endswith((".csv", ".tsv")) else ""
        raise TaskError(
            f"there is no task {repr_quoted(name)}.",
            f"Tasks: {', '.join(ABOUT)}.",
            hint or nearest(name, [*BUILT_IN, "csv"]),
        )
    return BUILT_IN[name]()
