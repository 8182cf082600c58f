"""CSV: a monitor's records as lines that any spreadsheet or data frame reads."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from torchdecay.errors import LoadError
from torchdecay.text import repr_quoted


class CSV:
    """Writes what a `torchdecay.Monitor` records into a CSV file, one line for each number.

    The columns are step, group, quantity and value: groups may come later, and every line is whole when the process
    is killed.

    Args:
        path: the file, which must not be there yet.
        append: go on with a file that is there.

    Raises:
        LoadError: the file is there already.

    Example:
        >>> import tempfile, torch, torchdecay as td
        >>> from torchdecay.integrations.csv import CSV
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
        >>> with td.Monitor(optimizer, writers=[CSV(tempfile.mkdtemp() + "/decay.csv")]):
        ...     model(torch.randn(8, 4)).sum().backward()
        ...     optimizer.step()
    """

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        self._path = Path(path)
        if self._path.exists() and not append:
            raise LoadError(
                f"{repr_quoted(str(path))} is there already.", fix="Name another file, or say append=True to go on."
            )
        if not self._path.exists():
            self._write([("step", "group", "quantity", "value")])

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Write one record."""
        self._write([(step, *name.rsplit("/", 1), value) for name, value in values.items()])

    def _write(self, lines: list[tuple[object, ...]]) -> None:
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)
