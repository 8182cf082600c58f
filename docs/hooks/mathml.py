"""Turn every formula into MathML while the site is built: a page needs no script and no font for it."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def render(page: str, where: str) -> str:
    """Replace the formulas in a page's HTML; one that cannot be read stops the build."""

    def mathml(match: re.Match[str]) -> str:
        latex = html.unescape(match.group(3)).strip()
        display = "block" if match.group(2) == "[" else "inline"
        # What TeX takes and the converter does not: an escaped underscore in text, a line that ends in a backslash.
        plain = re.sub(r"\\text\{[^}]*\}", lambda text: text.group().replace(r"\_", "_"), latex)
        plain = re.sub(r"(?<!\\)\\\n", r"\\ ", plain)
        try:
            made = convert(plain, display=display)
        except Exception as error:
            raise PluginError(f"{where}: the formula {latex!r} cannot be read ({error})") from error
        # Bars as high as a letter, close to it; left alone, they grow with the line and stand apart.
        made = re.sub(
            r'<mo(?: fence="false")?(?: stretchy="false")?>(?=&#x02016;|&#x0007C;)',
            '<mo stretchy="false" lspace="0" rspace="0">',
            made,
        )
        if "\\" in made:
            raise PluginError(f"{where}: the formula {latex!r} uses a command that is not known")
        return f'<div class="formula">{made}</div>' if display == "block" else made

    return FORMULA.sub(mathml, page)


def on_page_content(page_html: str, *, page: Any, **_: Any) -> str:
    """Take part in the build: MkDocs calls this with each page's HTML."""
    return render(page_html, page.file.src_uri)
