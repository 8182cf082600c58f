"""What every test stands on: one thread, the same seed, and a browser where there is one."""

from __future__ import annotations

import itertools
import math
import os
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from _pytest.mark.expression import Expression
from hypothesis import HealthCheck, settings

from this_torch import lacking

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NO_BROWSER = "no headless Chromium here"
MARKED_FOLDERS = {"integration", "browser", "distributed"}
MARKS = ("slow", "peers", "distributed", "docs", "browser", "integration", "long")


def pytest_configure(config: pytest.Config) -> None:
    # One thread: sums keep their order, and two workers do not fight over two cores.
    torch.set_num_threads(1)
    # A seed for a device that is not there keeps the whole stack of its caller, a fifth of the short tests' time.
    for device, place in ((torch.cuda, torch.cuda.random), (torch.xpu, torch.xpu.random), (torch.mtia, torch.mtia)):
        if not device.is_available():
            place._lazy_call = lambda call, **options: None
    # torch takes seconds for its first model, and a machine that does other things for any.
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't import files of which `-m` leaves nothing: what they drive takes seconds to import."""
    if collection_path.suffix != ".py" or not config.option.markexpr:
        return None
    stated = re.search(
        r"^pytestmark = .*?(?=^\S|\Z)", collection_path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    marks = {mark for mark in MARKS if f"pytest.mark.{mark}" in (stated[0] if stated else "")}
    marks |= {collection_path.parent.name} & MARKED_FOLDERS
    return None if _may_select(config.option.markexpr, frozenset(marks)) else True


@cache
def _may_select(expression: str, marks: frozenset[str]) -> bool:
    """Whether there is a test with these marks, and perhaps others, that the expression selects."""
    asked = Expression.compile(expression)
    more = (itertools.compress(MARKS, on) for on in itertools.product((False, True), repeat=len(MARKS)))
    return any(asked.evaluate((marks | {*some}).__contains__) for some in more)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder, and order: what takes long first, so that no worker is left with it at the end."""
    for item in items:
        if item.path.parent.name in MARKED_FOLDERS:
            item.add_marker(item.path.parent.name)
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))
    items.sort(key=lambda item: _place({mark.name for mark in item.iter_markers()}))


def _place(marks: set[str]) -> int:
    """One browser for all makes the longest of what can't be shared out."""
    return 0 if "browser" in marks else 1 if marks & {"docs", "integration", "long", "distributed"} else 2


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[object]:
    """Skip what needs what the installed torch does not have yet."""
    try:
        return (yield)
    except Exception as error:
        if why := lacking(error):
            pytest.skip(why)
        raise


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Give each test the same random numbers and torch's own defaults, whatever ran before it."""
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)


@pytest.fixture(autouse=True)
def _copies_have_time_to_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a monitor's copies step at each record: beside other tests a step takes many times as long.

    tests/observe/monitor/test_shadow.py sets the limits that it is about.
    """
    monkeypatch.setattr("torchdecay.observe.monitor.budget.FREE", math.inf)


_drawn: dict[bytes, str] = {}


def _draw_once(chart: Any, *, prefix: str) -> str:
    from torchdecay.reports.drawing.svg import inline_svg

    key = pickle.dumps((chart, prefix))
    if key not in _drawn:
        _drawn[key] = inline_svg(chart, prefix=prefix)
    return _drawn[key]


@pytest.fixture(autouse=True)
def _figures_are_drawn_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal charts of pages are drawn once for all tests, and the files beside a page, the same charts, are only named.

    tests/reports/test_svg.py looks at such files, and docs/cli.md writes real ones.
    """
    names = "torchdecay.reports.document"
    monkeypatch.setattr(f"{names}.inline_svg", _draw_once)
    if "[docs/cli.md]" not in request.node.name:
        monkeypatch.setattr(f"{names}.png_file", lambda chart: b"\x89PNG Software\0torchdecay " + chart.name.encode())
        monkeypatch.setattr(f"{names}.svg_file", lambda chart: f"<!-- torchdecay --><svg>{chart.name}</svg>")


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes start in no time, where a test is not about how they start."""
    from forks import FORKS

    monkeypatch.setattr("torchdecay.lab.engines.process.multiprocessing.get_context", lambda method: FORKS)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Headless Chromium, as a Playwright `Browser`; tests that ask for it are skipped where there is none.

    It ends with each file: Playwright keeps a loop running, and `asyncio.run` refuses to share.
    """
    path = next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"{NO_BROWSER}: none of {', '.join(CHROMIUM_NAMES)} is on the path")
    sync_api = pytest.importorskip("playwright.sync_api", reason=f"{NO_BROWSER}: Playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def offline_page(chromium: Browser) -> Iterator[Page]:
    """A fresh page that reads files and this machine only; the test fails at the end if it asked for more."""
    context = chromium.new_context()
    page = context.new_page()
    fetched: list[str] = []

    def admit(route: Any) -> None:
        url = route.request.url
        if url.startswith(("file:", "data:", "blob:", "http://127.0.0.1")):
            route.continue_()
        else:
            fetched.append(url)
            route.abort()

    context.route("**/*", admit)
    yield page
    context.close()
    assert not fetched, f"the page asked the network for {fetched}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was skipped and why, and loudly when the pages were not looked at."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[-1]).removeprefix("Skipped: ") for report in skipped)
    terminalreporter.section("skipped, by reason")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}")
    if not reasons:
        terminalreporter.write_line("nothing")
    unseen = sum(count for reason, count in reasons.items() if NO_BROWSER in reason)
    if unseen:
        terminalreporter.write_sep("!", "BROWSER TESTS WERE SKIPPED", red=True, bold=True)
        terminalreporter.write_line(
            f"{unseen} tests open pages in a headless Chromium, and none was found: no page was seen.\n"
            "To run them: apt-get install chromium (or your system's package), then make test."
        )
