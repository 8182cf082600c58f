"""`torchdecay report`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from torchdecay.cli.output import json_option
from torchdecay.errors import LoadError
from torchdecay.records import kind_of


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder, or a file.html.  [default: the folder of RESULTS]"
)
@json_option
def report(results: Path, out: Path | None, as_json: bool) -> None:
    """Write the page again from results.json or sweep.json, without training.

    \b
    Examples:
      torchdecay report torchdecay-digits/results.json
      torchdecay report torchdecay-digits/results.json --out digits.html
      torchdecay report torchdecay-sweep-digits
    """  # noqa: D301
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.sweeps.result import Sweep
    from torchdecay.reports import report as write

    path = results
    if results.is_dir():
        path = results / ("sweep.json" if (results / "sweep.json").exists() else "results.json")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{path} can't be read: {error}.", fix="Give the results.json that compare wrote.") from error
    kind: type[Comparison] | type[Sweep] = Sweep if kind_of(text) == "sweep" else Comparison
    page = write(kind.from_json(text), out or path.parent)
    click.echo(json.dumps({"page": str(page)}) if as_json else f"Page: {page}")
