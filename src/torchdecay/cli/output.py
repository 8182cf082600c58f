"""What the commands share: `--json`, and where results are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from torchdecay.errors import TaskError

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.sweeps.result import Sweep
    from torchdecay.records import JsonRecord

Result = TypeVar("Result", "Comparison", "Sweep")


def json_option(command: Any) -> Any:
    """The `--json` of every command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def out_option(text: str, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The `--out` of commands that write a page."""
    return click.option("--out", type=click.Path(path_type=Path), help=text, **more)


def overwrite_option(command: Any) -> Any:
    """The `--overwrite` of commands that write a page."""
    text = "Replace the page of an earlier run there.  [default: keep it, and write to FOLDER-2]"
    return click.option("--overwrite", is_flag=True, help=text)(command)


def print_result(found: JsonRecord, as_json: bool) -> None:
    """A result, for programs or for people."""
    click.echo(found.to_json() if as_json else str(found))


def print_json(body: dict[str, Any]) -> None:
    """Anything else, for programs."""
    from torchdecay.records import dumps, plain

    click.echo(dumps(plain(body)))


def require_writable(folder: Path) -> None:
    """Find out before training, not after, whether results can be written.

    Raises:
        TaskError: the folder can't be made or written; nothing is left behind.
    """
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


def finish(
    ctx: click.Context, result: Result, folder: Path, show: Callable[[Result], None], *, overwrite: bool, as_json: bool
) -> None:
    """Write the page, print the result, and exit with what became of it."""
    from torchdecay.reports import report, verdict

    # Without a single run there is nothing to show, and earlier results are worth more than an empty page.
    page = report(result, folder, overwrite=overwrite) if result.runs else None
    if as_json:
        click.echo(result.to_json(page=None if page is None else str(page), verdict=verdict(result)))
    else:
        show(result)
        click.echo(where(page))
    ctx.exit(1 if result.interrupted or result.failures or result.best is None else 0)


def where(page: Path | None) -> str:
    """The last line: where the page is."""
    return f"\nPage: {page}" if page else "\nNo run was finished, so no page was written."
