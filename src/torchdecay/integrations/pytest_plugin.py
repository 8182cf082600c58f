"""pytest: `pytest --torchdecay` audits each optimizer that steps in a test."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from torchdecay.integrations.script.options import FAILING

if TYPE_CHECKING:
    from torchdecay.observe.recorded.record import RunRecord

_KEY = "torchdecay"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options."""
    group = parser.getgroup("torchdecay", "weight decay")
    group.addoption("--torchdecay", action="store_true", help="Audit each optimizer that steps in a test.")
    group.addoption(
        "--torchdecay-fail-on", choices=[*FAILING], default="never",
        help="Fail the test on such findings; implies --torchdecay.",
    )  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Watch the fixtures that are made for a test: a model that is trained once for many is trained here."""
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Watch a test, and fail it where it was asked for."""
    return (yield from _watched(item))


def _watched(item: pytest.Item) -> Generator[None, Any, Any]:
    level = item.config.getoption("--torchdecay-fail-on")
    if not (item.config.getoption("--torchdecay") or level != "never"):
        return (yield)
    from torchdecay.integrations.script.watching import watch

    found: list[tuple[str, str]] = []
    try:
        with watch(every_steps=0) as seen:
            result = yield
    finally:
        found += _findings(seen.record)
        # What a report carries comes back from the workers of pytest-xdist, too.
        item.user_properties += [(_KEY, text) for _, text in found]
    failing = [text for severity, text in found if severity in FAILING[level]]
    if failing:
        pytest.fail("\n".join(["torchdecay found:", *failing]), pytrace=False)
    return result


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What was found, by test."""
    reports = [one for several in terminalreporter.stats.values() for one in several]
    # A report of the call has what its setup found, too; where the setup failed, there is none of the call.
    found = dict.fromkeys(
        (one.nodeid, text) for one in reports for key, text in getattr(one, "user_properties", ()) if key == _KEY
    )
    if found:
        terminalreporter.section("torchdecay")
    for test in dict.fromkeys(test for test, _ in found):
        terminalreporter.line(test)
        for text in (text for other, text in found if other == test):
            terminalreporter.line(f"  {text}")


def _findings(record: RunRecord) -> Iterator[tuple[str, str]]:
    for about, seen in zip(record.summary.optimizers, record.seen, strict=True):
        for one in seen.audit.findings if seen.audit is not None else ():
            if one.severity != "info":
                yield one.severity, f"{about.optimizer} of {about.model or 'no module'}: {one.head}"
    for note in record.summary.notes:
        yield "note", note
