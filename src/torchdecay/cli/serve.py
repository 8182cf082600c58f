"""`torchdecay serve`."""

from __future__ import annotations

import contextlib
import functools
import http.server
from pathlib import Path

import click

from torchdecay.cli.types import PATH
from torchdecay.errors import TaskError
from torchdecay.text import printable, repr_quoted


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Hands out the files of a folder, and writes no log; a page that grows is never taken from a cache."""

    def end_headers(self) -> None:
        """Let the browser ask again."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@click.command()
@click.argument("folder", type=PATH, default="torchdecay-run")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]", metavar="N")
def serve(folder: Path, port: int) -> None:
    """Serve the pages of FOLDER on this machine, until Ctrl-C.

    Only this machine is answered (127.0.0.1). From another one, a tunnel: ssh -L 8000:127.0.0.1:8000 there. The page of
    a run that goes on reloads itself every minute; so it does when the file is opened.

    \b
    Examples:
      torchdecay serve
      torchdecay serve torchdecay-digits --port 8000
    """  # noqa: D301
    if not folder.is_dir():
        raise TaskError(f"{repr_quoted(str(folder))} is no folder.", fix="Name a page's folder: torchdecay-run, say.")
    handler = functools.partial(Quiet, directory=str(folder))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        fix = "Leave --port out, and a free one is taken."
        raise TaskError(f"port {port} can't be had: {error}.", fix=fix) from error
    click.echo(f"{printable(str(folder))} at http://127.0.0.1:{server.server_port}/ until Ctrl-C")
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
