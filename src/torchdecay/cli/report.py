"""`torchdecay report`."""

from __future__ import annotations

from pathlib import Path

import click

from torchdecay.cli.inputs.results import NAMES, folders_in, load_result
from torchdecay.cli.output import json_option, out_option, overwrite_option, print_json
from torchdecay.cli.types import PATH


@click.command()
@click.argument("files", metavar="FILE...", type=PATH, nargs=-1, required=True)
@out_option("Folder, or a page.html.  [default: the folder of a comparison, run or sweep, else FILE.html]")
@overwrite_option
@json_option
def report(files: tuple[Path, ...], out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Write the page of any file that torchdecay wrote: results, a plan, a history, an audit, a forecast.

    FILE says what it is. The folder of a comparison, a run or a sweep will do as well, or a folder of such folders;
    nothing is trained again. Of several, one page: runs and histories side by side, then each by itself; --out names
    it, else torchdecay-report.

    \b
    Examples:
      torchdecay report torchdecay-digits
      torchdecay report torchdecay-run
      torchdecay report torchdecay-digits/results.json --out digits.html
      torchdecay report run.jsonl
      torchdecay report torchdecay-run torchdecay-run-2 --out both.html
      torchdecay report runs --out all.html
      torchdecay report plan.json --out plan.html
    """  # noqa: D301
    from torchdecay.reports import report as write

    files = tuple(one for file in files for one in folders_in(file))
    if len(files) > 1:
        named = {str(file): load_result(file) for file in files}
        if len(named) < len(files):
            raise click.UsageError("A file is named twice. Name each once.")
        page = write(named, out or Path("torchdecay-report"), overwrite=overwrite)
    else:
        (file,) = files
        result = load_result(file)
        own = file if file.is_dir() else file.parent if file.name in NAMES else file.with_suffix(".html")
        # The page of a run may be older than its files, where the script was killed: it is made again in its place.
        again = out is None and type(result).__name__ == "RunRecord"
        page = write(result, out or own, overwrite=overwrite or again)
    if as_json:
        print_json({"page": str(page)})
    else:
        click.echo(f"Page: {page}")
