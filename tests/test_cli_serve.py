"""`torchdecay serve`, and the page that grows while it is looked at."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from torchdecay.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Page

SERVE = "import sys; sys.argv[0] = 'torchdecay'; from torchdecay.cli import main; main()"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and where it is served."""
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "index.html").write_text("<p>one</p>")
    (tmp_path / "secret").write_text("not to be had")
    # Ctrl-C must reach it, also where the tests' own shell ignores that.
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", SERVE, "serve", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+/", said)
    assert address, said
    yield folder, address[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Cache-Control"] == "no-cache"
        return answer.read().decode()


def test_a_folder_is_served_as_it_is_now_and_nothing_around_it(served: tuple[Path, str]) -> None:
    """What is written anew is read anew, and a path that climbs out finds nothing; Ctrl-C ends it in order."""
    folder, url = served
    assert fetch(url) == "<p>one</p>"
    (folder / "index.html").write_text("<p>two</p>")
    assert fetch(url) == "<p>two</p>"
    for outside in ("../secret", "%2e%2e/secret"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(url + outside)
        assert caught.value.code == 404
        caught.value.close()


def test_what_can_not_be_served_is_told(tmp_path: Path) -> None:
    """A folder that is not there, and a port that is somebody's."""
    done = CliRunner().invoke(main, ["serve", str(tmp_path / "nowhere")])
    assert done.exit_code == 2
    assert "is no folder" in done.output
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = CliRunner().invoke(main, ["serve", str(tmp_path), "--port", str(taken.getsockname()[1])])
    assert done.exit_code == 2
    assert "a free one is taken" in done.output


@pytest.mark.browser
def test_the_page_of_a_run_that_goes_on_reloads_itself(tmp_path: Path, offline_page: Page) -> None:
    """Once a minute while it is written; when the run has ended, never."""
    from dataclasses import replace

    import torchdecay as td
    from torchdecay.observe.recorded.record import RunRecord

    with td.watch(tmp_path / "out"):
        pass
    summary = RunRecord.load(tmp_path / "out").summary
    for ended in (False, True):
        page = td.report(RunRecord(replace(summary, ended=ended), ()), tmp_path / f"page-{ended}")
        offline_page.clock.install()
        offline_page.goto(page.as_uri())
        if ended:
            offline_page.evaluate("window.old = true")
            offline_page.clock.run_for(61_000)
            assert offline_page.evaluate("window.old")
        else:
            with offline_page.expect_navigation():
                offline_page.clock.run_for(61_000)
