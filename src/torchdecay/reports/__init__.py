"""Saying and drawing results: one verb each for a page, a picture and a sentence, whatever the result is.

Results are numbers, and know nothing of this room; it knows each by the name of its class.

Read in this order: drawing, article, document, history, comparison, example, tables, forecast,
    recorded, sweep, together.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from torchdecay.errors import TaskError

if TYPE_CHECKING:
    from torchdecay.reports.drawing.svg import Picture

_DRAWN = {"Comparison": "comparison", "Sweep": "sweep", "History": "history", "Forecast": "forecast"}
"""Class of a result → the module here with its `page_of`, its `verdict` and, where it is drawn, its `picture_of`."""
_SAID = {"WorkedExample": "example", "RunRecord": "recorded"}
"""Likewise, beside those that are a table."""


def report(result: Any, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the page of a result: one HTML file that fetches nothing, its figures and numbers beside it.

    What stands there is kept: where one of its files is there already, the page goes to the first of out-2, out-3, ...

    Args:
        result: a comparison, sweep, history, forecast, audit, plan, or any other result of this package; several, by
            name, for one page, on which trainings that were recorded stand side by side.
        path: a folder, which gets index.html, figures/ and a JSON of every number; or a page, "out.html" say, which
            gets out-figures/ and out.json beside it.
        overwrite: whether a page of this package is replaced, with its figures and numbers; whatever else stands there
            is kept all the same.

    Returns:
        The path of the page.

    Raises:
        TaskError: nothing that has a page, nothing to show, or a folder that can't be written.
        MissingExtra: matplotlib or jinja2 is not installed.

    Example:
        >>> import tempfile, torch, torchdecay as td
        >>> plan = td.plan(torch.nn.Linear(4, 2), td.decoupled(0.1))
        >>> td.report(plan, tempfile.mkdtemp()).name
        'index.html'
    """
    from torchdecay.reports.document import write

    if isinstance(result, Mapping):
        from torchdecay.reports.together import page_together

        page = page_together({name: (one, _speaker(one).page_of(one)) for name, one in result.items()})
    else:
        page = _speaker(result).page_of(result)
    return write(page, Path(path), overwrite=overwrite)


@overload
def figure(result: Any, path: None = None, **options: Any) -> Picture: ...
@overload
def figure(result: Any, path: str | Path, *, dark: bool = False, overwrite: bool = False, **options: Any) -> Path: ...
def figure(
    result: Any, path: str | Path | None = None, *, dark: bool = False, overwrite: bool = False, **options: Any
) -> Picture | Path:
    """Draw the one picture that says most about a result.

    Of a comparison training beside test, of a sweep what the coefficient does, of a history one quantity over the
    steps, of a forecast what is left of a weight.

    Args:
        result: a comparison, sweep, history or forecast.
        path: ends in .svg or .png; where a file is there already, it goes to x-2.svg. None returns the picture, which
            notebooks show.
        dark: whether for a dark page.
        overwrite: whether a picture of this package that stands there is replaced.
        options: of a history, `quantity="shrink"` or another of its quantities.

    Returns:
        The path, or the picture without one.

    Raises:
        TaskError: a result without a picture, nothing to draw, another ending, or a folder that can't be written.
        LoadError: a quantity that the history did not record.
        MissingExtra: matplotlib is not installed.
    """
    draw = getattr(_speaker(result), "picture_of", None)
    if draw is None:
        raise TaskError(
            f"{_a(type(result).__name__)} has no picture.",
            f"What is drawn: {', '.join(_DRAWN)}.",
            "Print it, or write its page with td.report(result, path).",
        )
    picture: Picture = draw(result, **options)
    if path is None:
        return picture
    from torchdecay.reports.drawing.files import place_file
    from torchdecay.reports.drawing.svg import png_file, svg_file

    path = Path(path)
    made: dict[str, Callable[..., str | bytes]] = {".svg": svg_file, ".png": png_file}
    if path.suffix.lower() not in made:
        raise TaskError(f"a picture can't be written as {path.name!r}.", fix="Let its name end in .svg or .png.")
    content = made[path.suffix.lower()](dataclasses.replace(picture, name=path.stem), dark=dark)
    return place_file(path, content, overwrite=overwrite)


def verdict(result: Any) -> str:
    """What a result shows and what it does not, in plain words: one paragraph per line.

    Args:
        result: any result of this package.

    Raises:
        TaskError: nothing that this package made.

    Example:
        >>> import torch, torchdecay as td
        >>> print(td.verdict(td.plan(torch.nn.Linear(4, 2), td.decoupled(0.1))))
        1 of 2 parameters decay: 8 of 10 elements (80 %)
    """
    said: str = _speaker(result).verdict(result)
    return said


def _speaker(result: Any) -> Any:
    from torchdecay.reports.tables import SAYING

    modules = {**_DRAWN, **dict.fromkeys(SAYING, "tables"), **_SAID}
    for cls in type(result).__mro__:
        if cls.__name__ in modules and cls.__module__.startswith("torchdecay."):
            return importlib.import_module(f"torchdecay.reports.{modules[cls.__name__]}")
    raise TaskError(
        f"nothing is known to say about {_a(type(result).__name__)}.",
        f"What can be said: {', '.join(modules)}.",
        "Give a result of this package: what td.lab.compare, td.forecast or td.audit returned, say.",
    )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"


__all__ = ["figure", "report", "verdict"]
