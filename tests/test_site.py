"""The site builds strictly, holds every public name, and its pages open offline, on a phone and in the dark."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from docs_pages import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# One build for all of them, those in the browser too.
pytestmark = [pytest.mark.docs, pytest.mark.xdist_group("browser")]


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


def test_the_site_publishes_no_script_that_made_it(site: Path) -> None:
    """Pages and pictures go out; what draws them stays in the repository."""
    assert [str(path.relative_to(site)) for path in site.rglob("*.py")] == []


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


PHONE = {"width": 390, "height": 800}
WIDTH = "document.documentElement.scrollWidth"


def test_every_page_fits_a_phone_from_the_disk_and_without_scripts(site: Path, chromium: Browser) -> None:
    """Tables, formulas, code and pictures of all pages; no page asks for anything that is not beside it."""
    context = chromium.new_context(java_script_enabled=False, viewport=PHONE)
    page, asked = context.new_page(), set[str]()
    page.on("request", lambda request: asked.add(request.url))
    pages = sorted(one for one in site.rglob("*.html") if "sample" not in one.parts)
    wide = {}
    for one in pages:
        page.goto(one.as_uri())
        if (width := page.evaluate(WIDTH)) > PHONE["width"]:
            wide[one.name] = width
    context.close()
    assert len(pages) > 50 and wide == {}
    assert {one for one in asked if not one.startswith(("file:", "data:"))} == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_offline_by_day_and_in_the_dark(scheme: Any, serve: str, offline_page: Page) -> None:
    """With scripts, of each folder and the widest: no request elsewhere, no error, and no wider than a phone."""
    errors: list[str] = []
    offline_page.on("pageerror", lambda error: errors.append(str(error)))
    offline_page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    offline_page.emulate_media(color_scheme=scheme)
    for name in ("index", "speed", "forms/index", "forms/l1", "integrations/tuning"):
        offline_page.goto(f"{serve}/{name}.html")
        assert offline_page.evaluate(WIDTH) <= PHONE["width"], name
        dark = offline_page.evaluate("document.body.dataset.mdColorScheme") == "slate"
        assert dark is (scheme == "dark")
    assert errors == []
