"""What the commands share: `--json`, and where results are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from torchdecay.cli.types import PATH
from torchdecay.errors import TaskError

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.sweeps.result import Sweep
    from torchdecay.records import JsonRecord

Result = TypeVar("Result", "Comparison", "Sweep")


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
"""The `--json` of every command."""
_REPLACE = "Replace the page of an earlier run there.  [default: keep it, and write to FOLDER-2]"
overwrite_option = click.option("--overwrite", is_flag=True, help=_REPLACE)
"""The `--overwrite` of commands that write a page."""


def out_option(text: str, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The `--out` of commands that write a page."""
    return click.option("--out", type=PATH, help=text, **more)


def print_result(found: JsonRecord, as_json: bool) -> None:
    """A result, for programs or for people."""
    click.echo(found.to_json() if as_json else str(found))


def print_json(body: dict[str, Any]) -> None:
    """Anything else, for programs."""
    from torchdecay.encoding import plain
    from torchdecay.records import dumps

    click.echo(dumps(plain(body)))


def require_writable(folder: Path) -> None:
    """Find out before training, not after, whether results can be written."""
    import tempfile

    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TaskError(
            f"results can't be written to {folder}: {error.strerror or error}.",
            "Nothing was trained.",
            "Name another folder with --out.",
        ) from error
    finally:
        for one in missing:
            if one.is_dir() and not any(one.iterdir()):
                one.rmdir()


class SoFar:
    """Results in FOLDER/so-far.json while there are more to come, so that a kill costs the runs in flight only.

    It goes when the page is written, and stays, with every number, where that can't be: on a disk that is full, say.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._is_made = folder / "so-far.json", False
        self._free_at = 0.0
        self.error = ""

    def __call__(self, result: JsonRecord, *, last: bool = False) -> None:
        """Write the results, not so often that it takes long."""
        import time

        from torchdecay.reports.drawing.files import place_file

        started = time.monotonic()
        if started < self._free_at and not last:
            return
        try:
            self._path, self._is_made = place_file(self._path, result.to_json(), overwrite=self._is_made), True
            self.error = ""
        except TaskError as error:
            # There will be another one; and more may fit at the end.
            self.error = str(error)
        self._free_at = time.monotonic() + 20 * (time.monotonic() - started)

    def remove(self) -> None:
        """The page has all of it."""
        if self._is_made:
            self._path.unlink(missing_ok=True)

    @property
    def kept_in(self) -> str:
        """Where the numbers are, as a sentence."""
        if self._is_made and not self.error:
            return f"Every number is in {self._path}; its page: torchdecay report {self._path} --out FOLDER."
        return ""


def finish(
    ctx: click.Context,
    result: Result,
    folder: Path,
    show: Callable[[Result], None],
    so_far: SoFar,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the page, print the result, and exit with what became of it."""
    from torchdecay.reports import report, verdict

    # Without a single run there is nothing to show, and earlier results are worth more than an empty page.
    page, failed = None, ""
    if result.runs:
        so_far(result, last=True)
        try:
            page = report(result, folder, overwrite=overwrite)
            so_far.remove()
        except TaskError as error:
            failed = f"{error}\n  {so_far.kept_in or _elsewhere(result)}"
    if as_json:
        click.echo(result.to_json(page=None if page is None else str(page), verdict=verdict(result)))
    else:
        show(result)
        if not failed:
            click.echo(where(page))
    if failed:
        click.echo(f"TaskError: {failed}", err=True)
    ctx.exit(1 if failed or result.interrupted or result.failures or result.best is None else 0)


def _elsewhere(result: JsonRecord) -> str:
    """The numbers in the system's folder for temporary files, where the folder that was asked for takes nothing."""
    import tempfile

    try:
        with tempfile.NamedTemporaryFile("w", prefix="torchdecay-", suffix=".json", delete=False) as file:
            file.write(result.to_json())
    except OSError:
        click.echo(result.to_json())
        return "Every number was printed, as there is no room for it elsewhere."
    return f"Every number is in {file.name}; its page: torchdecay report {file.name} --out FOLDER."


def where(page: Path | None) -> str:
    """The last line: where the page is."""
    return f"\nPage: {page}" if page else "\nNo run was finished, so no page was written."
