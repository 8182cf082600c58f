"""`torchdecay report`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from torchdecay.cli.output import json_option
from torchdecay.errors import LoadError


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder, or a file.html.  [default: the folder of RESULTS]"
)
@json_option
def report(results: Path, out: Path | None, as_json: bool) -> None:
    """Write the page again from results.json, without training.

    \b
    Examples:
      torchdecay report torchdecay-digits/results.json
      torchdecay report torchdecay-digits/results.json --out digits.html
    """  # noqa: D301
    from torchdecay.lab.results import Comparison
    from torchdecay.report.page import write

    path = results / "results.json" if results.is_dir() else results
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{path} can't be read: {error}.", fix="Give the results.json that compare wrote.") from error
    page = write(Comparison.from_json(text), out or path.parent)
    click.echo(json.dumps({"page": str(page)}) if as_json else f"Page: {page}")
