"""Reading a user's CSV file: what its columns hold, and what is wrong with it."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torchdecay.errors import TaskError, need
from torchdecay.text import listed, nearest, repr_quoted

Kind = Literal["classification", "regression"]

FEWEST_ROWS = 20
MOST_CLASSES = 20
MOSTLY_NUMBERS = 0.8
"""A column in which at least this share of the entries are numbers was meant to be numeric."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file that can be trained on.

    Attributes:
        path: the file.
        frame: a pandas DataFrame of the inputs: numeric columns as floats, categorical ones as text or missing.
        target: the targets, without missing ones: floats, or class names.
        kind: what they are.
        numeric, categorical: names of the input columns that are used.
        notes: what was left out and why, in sentences.
    """

    path: Path
    frame: Any
    target: Any
    kind: Kind
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, sorted; empty for a regression."""
        return tuple(sorted(set(self.target))) if self.kind == "classification" else ()

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """The values of each categorical column, sorted."""
        return {name: tuple(sorted(set(self.frame[name].dropna()))) for name in self.categorical}


def read_table(path: str | Path, target: str, *, kind: Kind | None = None, categorical: Sequence[str] = ()) -> Table:
    """Read a CSV file and decide what each column is.

    A column of numbers is numeric, any other categorical. The target decides the task: text, booleans and at most
    twenty distinct whole numbers are classes, other numbers a regression.

    Args:
        path: the file; comma, semicolon, tab or bar between columns, names in the first line.
        target: name of the column to predict.
        kind: "classification" or "regression" where the column does not tell.
        categorical: columns of numbers that are names in truth, such as postal codes.
    """
    path = Path(path)
    frame = _read(path)
    _require_columns(frame, path, target, categorical)
    notes = []
    known = frame[target].notna()
    if not known.all():
        notes.append(f"{int((~known).sum())} rows without a {target} are left out.")
        frame = frame[known]
    if len(frame) < FEWEST_ROWS:
        raise TaskError(
            f"{path} has {len(frame)} rows with a {repr_quoted(target)}; that is too few.",
            f"A quarter is kept for testing, and fewer than {FEWEST_ROWS} rows in all show nothing.",
            "Give it more rows.",
        )
    values, found = _target(frame[target], path, kind)
    inputs, numeric, names = frame.drop(columns=[target]), [], []
    for name in inputs.columns:
        column = inputs[name]
        if column.isna().all():
            notes.append(f"The column {name} is empty and left out.")
        elif column.nunique() == 1 and not column.isna().any():
            notes.append(f"The column {name} is the same in every row and left out.")
        elif name not in categorical and (numbers := _numbers(column, path)) is not None:
            inputs = inputs.assign(**{name: numbers})
            numeric.append(name)
        elif column.nunique() > MOST_CLASSES and column.nunique() > len(column) / 2:
            notes.append(f"The column {name} is text that differs in most rows (a name or a date) and left out.")
        else:
            text = column.map(lambda value: str(value).strip(), na_action="ignore").astype(object)
            inputs = inputs.assign(**{name: text})
            names.append(name)
    if not numeric and not names:
        raise TaskError(f"{path} has no column to predict {repr_quoted(target)} from.", " ".join(notes))
    return Table(
        path=path,
        frame=inputs[[*numeric, *names]],
        target=values,
        kind=found,
        numeric=tuple(numeric),
        categorical=tuple(names),
        notes=tuple(notes),
    )


def _read(path: Path) -> Any:
    pandas = need("pandas", "lab")
    if not path.exists():
        folder = path.parent
        there = [str(other.relative_to(folder)) for other in folder.glob("*")] if folder.is_dir() else []
        raise TaskError(
            f"there is no file {path}.",
            fix=nearest(path.name, there) or (f"The folder holds {listed(sorted(there))}." if there else ""),
        )
    try:
        if path.stat().st_size == 0:
            raise TaskError(f"{path} is empty.", fix="Give it a line of column names, and rows below.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline())
        frame = pandas.read_csv(
            path, sep=delimiter, encoding="utf-8-sig", na_values=["?"], skipinitialspace=True, index_col=False
        )
    except (OSError, UnicodeDecodeError, pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        raise TaskError(
            f"{path} can't be read as a table: {str(error).strip()}.",
            fix="Give a CSV file in UTF-8 with column names in its first line.",
        ) from error
    frame.columns = [str(name).strip() for name in frame.columns]
    if frame.empty:
        raise TaskError(f"{path} has column names but no rows.", fix="Give it rows.")
    return frame


def _delimiter(first_line: str) -> str:
    try:
        return csv.Sniffer().sniff(first_line, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


def _require_columns(frame: Any, path: Path, target: str, categorical: Sequence[str]) -> None:
    columns = list(frame.columns)
    for name, what in [(target, "target"), *((name, "categorical") for name in categorical)]:
        if name not in columns:
            raise TaskError(
                f"{path} has no column {repr_quoted(name)}, the {what} that was asked for.",
                f"Its columns: {listed(columns, most=20)}.",
                nearest(name, columns),
            )


def _numbers(column: Any, path: Path) -> Any | None:
    """The column as floats, None when it is text, an error when it is numbers with text among them."""
    pandas = need("pandas", "lab")
    if pandas.api.types.is_bool_dtype(column):
        return column.astype(float)
    parsed = pandas.to_numeric(column, errors="coerce").astype(float)
    there = column.notna()
    bad = there & parsed.isna()
    if int(bad.sum()) > (1 - MOSTLY_NUMBERS) * int(there.sum()):
        return None
    if bad.any():
        # Line 1 holds the names, and people count lines from 1.
        lines = ", ".join(f"line {index + 2}: {repr_quoted(str(column[index]))}" for index in column[bad].index[:3])
        raise TaskError(
            f"{path} has text where numbers belong, in {int(bad.sum())} rows of the column "
            f"{repr_quoted(str(column.name))} ({lines}).",
            "All other entries of the column are numbers.",
            f"Correct them, leave them empty if unknown, or say --categorical {column.name}.",
        )
    infinite = parsed.map(math.isinf)
    if infinite.any():
        index = column[infinite].index[0]
        raise TaskError(
            f"{path} has an infinite number in the column {repr_quoted(str(column.name))} (line {index + 2}).",
            fix="Correct it, or leave it empty if unknown.",
        )
    return parsed


def _target(column: Any, path: Path, kind: Kind | None) -> tuple[Any, Kind]:
    pandas = need("pandas", "lab")
    name = repr_quoted(str(column.name))
    as_text = column.map(lambda value: str(value).strip())
    numbers = None
    if kind != "classification" and not pandas.api.types.is_bool_dtype(column):
        numbers = _numbers(column, path)
    if kind == "regression" and numbers is None:
        raise TaskError(
            f"{path} has text where numbers belong: the target {name} is {listed(as_text.unique()[:3])}, ...",
            "A regression predicts numbers.",
            "Name a numeric column as the target, or leave the kind out.",
        )
    few = column.nunique() <= MOST_CLASSES
    whole = numbers is not None and bool((numbers == numbers.round()).all())
    if kind == "regression" or (numbers is not None and not (few and whole)):
        assert numbers is not None
        if numbers.nunique() == 1:
            raise TaskError(
                f"the target {name} of {path} is the same number in every row.", "There is nothing to learn."
            )
        return numbers, "regression"
    counts = as_text.value_counts()
    if len(counts) == 1:
        raise TaskError(
            f"the target {name} of {path} has one class only, {repr_quoted(counts.index[0])}.",
            "There is nothing to tell apart.",
            "Name another column as the target, or add rows of other classes.",
        )
    if len(counts) > len(as_text) / 2:
        raise TaskError(
            f"the target {name} of {path} has {len(counts)} classes in {len(as_text)} rows.",
            "Most classes have a single row, so there is nothing to learn from.",
            "Name another column as the target.",
        )
    return as_text, "classification"
