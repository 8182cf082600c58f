"""The docs are true: every block of code runs, every public name is there, and no page fetches anything."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from docs_pages import (
    COLUMNS,
    NEEDS,
    PAGES,
    ROOT,
    Block,
    alike,
    compare,
    read_blocks,
    read_commands,
    run_alone,
    run_page,
    shows,
    with_outputs,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.docs
ONE_BUILD = pytest.mark.xdist_group("site")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [pytest.param(one, marks=[pytest.mark.peers] if NEEDS.search(one.read_text("utf-8")) else []) for one in PAGES],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies from a page works, in the order of the page, and prints what the page shows."""
    for library in " ".join(NEEDS.findall(page.read_text("utf-8"))).split():
        pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", COLUMNS)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    for one in run_page(page, tmp_path):
        assert one.true, f"{page.name}:{one.block.line} prints what the page doesn't show (make outputs):\n{one.text}"


def test_a_command_of_the_readme_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Loading, arguments, exit code and streams are a terminal's; all others but `run` are run in this process."""
    commands = [c for block in read_blocks((ROOT / "README.md").read_text()) for c in read_commands(block.text)]
    command = next(one for one in commands if re.match("torchdecay (?!run)", one.line))
    done = run_alone(shlex.split(command.line, comments=True)[1:], tmp_path)
    compare(command, done.returncode, done.stdout)
    assert done.stdout


def test_a_seeded_error_in_a_block_is_reported_at_its_line(tmp_path: Path) -> None:
    """A block that fails is found on its page without counting lines."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nvalue = 1\n```\n\nand then\n\n```python\nassert value == 2\n```\n")
    with pytest.raises(AssertionError) as caught:
        run_page(page, tmp_path)
    assert caught.traceback[-1].lineno + 1 == 10


def test_a_seeded_unknown_language_is_refused(tmp_path: Path) -> None:
    """No block escapes by calling itself `py` or `bash`."""
    page = tmp_path / "page.md"
    page.write_text("```bash\ntorchdecay --hlep\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:2"):
        run_page(page, tmp_path)


def test_blocks_inside_lists_and_tabs_are_read() -> None:
    """An indented block runs like any other."""
    assert read_blocks('=== "tab"\n\n    ```python\n    if x:\n        y\n    ```\n') == [
        Block("python", "if x:\n    y", 4)
    ]


def test_a_titled_block_is_a_file_for_the_commands_after_it(tmp_path: Path) -> None:
    """A page that shows a file and then a command that reads it is run as a reader would."""
    page = tmp_path / "page.md"
    page.write_text('```python title="a.py"\nraise SystemExit\n```\n')
    run_page(page, tmp_path)
    assert (tmp_path / "a.py").read_text() == "raise SystemExit\n"


def test_console_blocks_say_what_is_run_shown_and_owed() -> None:
    """The exit code that a page promises is the one a reader sees with `echo $?`."""
    one, two = read_commands("$ torchdecay a \\\n    --b\nout 1\n\n$ torchdecay c\nbad\n$ echo $?\n2\n")
    assert (one.line, one.shown, one.code) == ("torchdecay a --b", ["out 1"], 0)
    assert (two.line, two.shown, two.code) == ("torchdecay c", ["bad"], 2)


def test_output_that_a_page_lacks_or_shows_wrongly_is_seen_and_written(tmp_path: Path) -> None:
    """What code prints stands below it, line by line, in the indentation of its block."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(1)\n```\n\n"
        "- list\n\n    ```python\n    print(2.5)\n    ```\n\n    ```output\n    ...5\n    ```\n"
    )
    lacking, right = run_page(page, tmp_path)
    assert (lacking.true, right.true) == (False, True)
    page.write_text(with_outputs(page.read_text(), [lacking, right]).replace("...5", "2.4"))
    assert page.read_text().startswith("```python\nprint(1)\n```\n\n```output\n1\n```\n\n- list")
    right, wrong = run_page(page, tmp_path)
    assert (right.true, wrong.true) == (True, False)
    assert with_outputs(page.read_text(), [right, wrong]).endswith("\n\n    ```output\n    2.5\n    ```\n")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("norm  9.40 -> 1,000", "norm 9.41 -> 1,001", True),
        ("norm 9.40", "norm 9.6", False),
        ("norm 9.40", "bias 9.40", False),
        ("took ... s", "took 3 s", True),
        ("1e-3", "1e-4", False),
        ("1 2", "1", False),
    ],
)
def test_lines_are_the_same_by_words_and_by_numbers(shown: str, printed: str, same: bool) -> None:
    """Words must be as shown; the last digits of what was trained differ between processors."""
    assert alike(shown, printed) is same


@pytest.mark.parametrize(
    ("shown", "missing"),
    [(["a 1", "c"], ""), (["a ...", "c"], ""), (["c", "a 1"], "a 1"), (["a 2"], "a 2"), (["a.1"], "a.1")],
)
def test_shown_output_is_compared_line_by_line(shown: list[str], missing: str) -> None:
    """A page that shows output which is no longer printed fails."""
    assert shows(shown, "a  1\nb\nc\n") == missing


# ── The built site ──


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Resources(HTMLParser):
    """Collects what a browser loads by itself when it opens a page; not the links."""

    LOADS = ("script", "link", "img", "iframe", "source", "video", "audio", "embed", "object", "use", "image")

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in ("canonical", "next", "prev", "alternate"):
            return
        if tag in self.LOADS:
            self.urls += [values[key] or "" for key in ("src", "href", "data", "srcset", "poster") if key in values]


def external(text: str, *, css: bool = False) -> list[str]:
    """Return the addresses outside the site that a page or a style sheet loads."""
    if css:
        urls = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", text)
    else:
        reader = Resources()
        reader.feed(text)
        urls = reader.urls + [
            url for style in re.findall(r"<style.*?</style>", text, re.DOTALL) for url in external(style, css=True)
        ]
    return [url for url in urls if re.match(r"(\w+:)?//", url)]


@ONE_BUILD
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    """Who opens a page offline sees all of it, and nobody else learns that it was opened."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 5
    found = {str(page.relative_to(site)): external(page.read_text(encoding="utf-8")) for page in pages}
    found |= {
        str(sheet.relative_to(site)): external(sheet.read_text(encoding="utf-8"), css=True)
        for sheet in site.rglob("*.css")
    }
    assert {name: urls for name, urls in found.items() if urls} == {}


@pytest.mark.parametrize(
    ("text", "css"),
    [
        ('<script src="https://example.org/a.js"></script>', False),
        ('<link rel="stylesheet" href="//example.org/a.css">', False),
        ('<img alt="" src="http://example.org/a.png">', False),
        ("<style>@import 'https://example.org/a.css';</style>", False),
        ("@font-face { src: url(https://example.org/a.woff2) }", True),
    ],
)
def test_a_seeded_foreign_resource_is_seen(text: str, css: bool) -> None:
    """Scripts, styles, pictures and fonts from elsewhere are noticed; a link to click on is none of them."""
    assert len(external(text, css=css)) == 1
    assert external('<a href="https://example.org">read on</a><img src="picture.svg">') == []


@ONE_BUILD
def test_the_site_publishes_no_script_that_made_it(site: Path) -> None:
    """Pages and pictures go out; what draws them stays in the repository."""
    assert [str(path.relative_to(site)) for path in site.rglob("*.py")] == []


@ONE_BUILD
def test_formulas_are_mathml(site: Path) -> None:
    """Formulas are drawn by the browser itself, and none is left in TeX."""
    pages = {page.name: page.read_text(encoding="utf-8") for page in site.glob("*.html")}
    assert "<math" in pages["index.html"]
    assert [name for name, text in pages.items() if 'class="arithmatex"' in text] == []


def test_a_seeded_bad_formula_stops_the_build() -> None:
    """A misspelled TeX command is an error of the build, not red text on the page."""
    from mkdocs.exceptions import PluginError

    mathml = hook("mathml")
    good = '<p><span class="arithmatex">\\(w_{t+1} &lt; \\lambda\\)</span></p>'
    assert "<math" in mathml.render(good, "page.md")
    with pytest.raises(PluginError, match=r"page\.md.*lamda"):
        mathml.render(good.replace("lambda", "lamda"), "page.md")


def test_every_public_name_is_documented() -> None:
    """The build fails on a public name without a docstring or without a place in the API pages."""
    assert hook("public_names").check(ROOT) == []


def test_every_form_and_schedule_is_documented() -> None:
    """The rarer forms stand behind `td.forms` only, and have their place in the API pages as well."""
    from torchdecay import forms, schedules

    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("api*.md"))
    pages = hook("forms").with_forms(pages)
    shown = set(re.findall(r"^::: torchdecay\.(?:forms\.|schedules\.)?(\w+)$", pages, re.MULTILINE))
    made = {
        name
        for name, value in vars(schedules).items()
        if isinstance(value, FunctionType) and value.__module__ == schedules.__name__
    }
    assert set(forms.PRESETS) <= shown
    assert {name for name in made if not name.startswith(("as_", "_"))} <= shown


def test_a_seeded_undocumented_name_is_seen(tmp_path: Path) -> None:
    """Both ways to forget a name are noticed: for functions and for values, in the root and in a room."""
    package = tmp_path / "src" / "torchdecay"
    (package / "lab").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for folder, names in ((package, ("VALUE", "VALUE_TOLD", "bare", "told")), (package / "lab", ("inner",))):
        (folder / "__init__.py").write_text('"""Doc."""\n')
        stub = "".join(f"from torchdecay.room import {name} as {name}\n" for name in names)
        (folder / "__init__.pyi").write_text(stub)
    (package / "room.py").write_text(
        '"""Doc."""\ndef bare(): ...\ndef inner(): ...\ndef told():\n    """Tell."""\n'
        'VALUE = 1\nVALUE_TOLD = 2\n"""Tell."""\n'
    )
    shown = ("lab.inner", "bare", "VALUE", "VALUE_TOLD")
    (tmp_path / "docs" / "api.md").write_text("\n\n".join(f"::: torchdecay.{name}" for name in shown))
    assert hook("public_names").check(tmp_path) == [
        "torchdecay.VALUE has no docstring",
        "torchdecay.bare has no docstring",
        "docs/api*.md has no `::: torchdecay.told`",
        "torchdecay.lab.inner has no docstring",
    ]


@pytest.fixture
def serve(site: Path) -> Iterator[str]:
    """The address of the site on this machine."""
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_open_offline_on_a_phone_and_in_the_dark(
    site: Path, serve: str, offline_page: Page, scheme: Any
) -> None:
    """Each page opens without a request elsewhere and without an error, and no wider than a phone."""
    errors: list[str] = []
    offline_page.on("pageerror", lambda error: errors.append(str(error)))
    offline_page.emulate_media(color_scheme=scheme)
    offline_page.set_viewport_size({"width": 390, "height": 800})
    for page in sorted([*site.glob("*.html"), *site.glob("forms/*.html"), *site.glob("integrations/*.html")]):
        offline_page.goto(f"{serve}/{page.relative_to(site)}")
        assert offline_page.evaluate("document.documentElement.scrollWidth") <= 390, page.name
        dark = offline_page.evaluate("document.body.dataset.mdColorScheme") == "slate"
        assert dark is (scheme == "dark")
    assert errors == []
