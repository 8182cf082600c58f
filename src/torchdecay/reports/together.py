"""Several results on one page: recorded trainings side by side, and then each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torchdecay.errors import TaskError
from torchdecay.reports.article import Article, Page, Section, Table, slug
from torchdecay.reports.drawing.chart import Chart, Key
from torchdecay.reports.drawing.palette import styles
from torchdecay.reports.history import group_chart, row_of, taken
from torchdecay.text import capital, counted, listing, shown

if TYPE_CHECKING:
    from torchdecay.observe.monitor.history import History

MOST = 12
"""Results on one page: more lines than that are not told apart."""
_MOST_GROUPS = 3
_QUANTITIES = ("shrink", "weight_norm", "update_norm", "lr")
_HEAD = ("Group, training", "Steps", "Decay", "Alarms", "Weights", "Norm, first", "Norm, last", "Shrunk by", "Planned")


def page_together(results: Mapping[str, tuple[Any, Page]]) -> Page:
    """One page of several results, by name, each with the page that it has by itself."""
    if not 1 <= len(results) <= MOST:
        raise TaskError(
            f"{counted(len(results), 'result')} don't make a page.", fix=f"Give at least one, and at most {MOST}."
        )
    trained = {name: history for name, (result, _) in results.items() if (history := _history(result)) is not None}
    articles = [_side_by_side(trained)] if len(trained) > 1 else []
    for place, (name, (_, page)) in enumerate(results.items(), 1):
        for number_, one in enumerate(page.articles):
            # Of the demo's kind there may be several in one.
            own = f"{place}-{one.id}" + (f"-{number_}" if number_ else "")
            articles.append(replace(one, id=own, name=shown(name, most=30), title=f"{shown(name)}: {one.title}"))
    title = listing([shown(name, most=40) for name in results], most=4)
    about = "Recorded trainings side by side, then each by itself." if len(trained) > 1 else "One after the other."
    return Page(title=title, description=about, articles=tuple(articles))


def _history(result: Any) -> History | None:
    """What was recorded of a training: a history, or that of a run's first optimizer that has one."""
    seen = getattr(result, "seen", None)
    found = [one.history for one in seen] if seen is not None else [result]
    usable = (one for one in found if getattr(one, "records", None) and hasattr(one, "shrink"))
    return next(usable, None)


def _side_by_side(trained: Mapping[str, History]) -> Article:
    names, histories = [shown(name) for name in trained], list(trained.values())
    look = styles(len(names))
    groups = _common(histories)
    sections = []
    hero: Chart | None = None
    for group in groups:
        drawn = (group_chart(histories, quantity, group, names, look) for quantity in _QUANTITIES)
        charts = [*filter(None, drawn)]
        if hero is None and charts:
            hero, *charts = charts
        if charts:
            intro = "One line for each training; of the steps that were recorded."
            sections.append(Section(slug(group), capital(shown(group)), intro, tuple(charts), tracked=True))
    rows = (row for group in groups for name, one in trained.items() for row in _rows(name, one, group))
    return Article(
        id="together",
        name="Side by side",
        title="Side by side",
        headline=_headline(trained, groups),
        hero=hero,
        keys=tuple(Key(name, style, i) for i, (name, style) in enumerate(zip(names, look, strict=True))),
        sections=(*sections, Section("numbers", "In numbers", table=Table(_HEAD, tuple(rows)))),
    )


def _common(histories: Sequence[History]) -> list[str]:
    """The largest groups that at least two of them have, those that decay first."""
    size: dict[str, list[tuple[bool, int]]] = {}
    for history in histories:
        for name in history.groups:
            about = history.of(name)
            size.setdefault(name, []).append((bool(about.decay), about.num_elements))
    shared = [name for name, found in size.items() if len(found) > 1]
    return sorted(shared, key=lambda name: max(size[name]), reverse=True)[:_MOST_GROUPS]


def _rows(name: str, history: History, group: str) -> Iterator[tuple[str, ...]]:
    """The row of a training's group, where it has that."""
    if group not in history.groups:
        return
    _, decay, weights, *numbers, _ = row_of(history, group)
    span = f"{history.steps[0]:,} to {history.steps[-1]:,}"
    yield f"{shown(group)}, {shown(name)}", span, decay, str(len(history.events)), weights, *numbers


def _headline(trained: Mapping[str, History], groups: Sequence[str]) -> str:
    """What decay took in each, of the group that they share and that decays most."""
    if not groups:
        return f"{capital(listing([*map(shown, trained)], most=4))} have no group in common."
    said, spans = [], {(history.steps[0], history.steps[-1]) for history in trained.values()}
    for name, history in trained.items():
        shrink = history.shrink(groups[0]) if groups[0] in history.groups else None
        if shrink is not None and (sums := shrink.realized or shrink.planned) is not None:
            steps = f" (steps {shrink.steps[0]:,} to {shrink.steps[-1]:,})" if len(spans) > 1 else ""
            said.append(f"{taken(sums[-1])} in {shown(name)}{steps}")
    return f"{shown(groups[0])}: decay took {listing(said, most=4)}." if said else "Nothing decays."
