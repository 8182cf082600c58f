"""What a monitor saw, as charts: planned and realized shrink, norms, rotation; one page, or one picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torchdecay.errors import TaskError
from torchdecay.observe.monitor.quantities import QUANTITIES
from torchdecay.reports.article import Article, Card, Notice, Page, Section, Table, page_with, pairs_of, slug, when
from torchdecay.reports.drawing.axes import evenly, percent_left, spans_decades, steps_axis, y_axis
from torchdecay.reports.drawing.chart import Chart, Key, Plot, rows_at
from torchdecay.reports.drawing.marks import Line, Mark, dot
from torchdecay.reports.drawing.palette import Style, styles
from torchdecay.reports.drawing.svg import Picture, titled
from torchdecay.text import capital, counted, listing, number, percent, prose, shown

if TYPE_CHECKING:
    from torch import Tensor

    from torchdecay.observe.monitor.history import History
    from torchdecay.observe.monitor.series import Event, Series

MOST = 6
"""Groups in one chart."""
_HEAD = ("Group", "Decay", "Weights", "Norm, first", "Norm, last", "Shrunk by", "Planned", "Measured")
_MEASURED = {
    "pass": "around its own pass",
    "state": "the step less the update",
    "shadow": "two steps on copies, with decay and without",
    "planned": "not",
    "none": "not",
}
_MOST_POINTS, _MOST_ALARMS, _MOST_LISTED, _MOST_ON_DEMAND = 400, 12, 200, 40
_POINTS_ON_DEMAND = 60
_NOISE = 1e-6
_BESIDE = {"shrink": "planned", "rotation": "predicted_rotation"}
_LOG = frozenset(
    {"shrink", "weight_norm", "gradient_norm", "decay_norm", "update_norm", "ratio", "rotation", "effective_lr", "lr"}
)
_TITLES = {
    "shrink": "Left of a weight by decay alone, %",
    "ratio": "Decay, as a multiple of the update",
    "cosine": "Cosine of decay and update",
}
_MEANINGS = {
    "shrink": "What decay alone leaves of a weight, in percent. Thin: as planned.",
    "ratio": "‖d‖/‖u‖, what decay displaced over what the update did: above 1 decay leads.",
    "cosine": "1: decay and update move the weights the same way; −1: opposite ways.",
    "rotation": "The angle between a tensor before and after the step, in degrees. Thin: where it would settle.",
}
_IN_UNITS: Mapping[str, Callable[[float], float]] = {
    "shrink": percent_left,
    "rotation": math.degrees,
    "predicted_rotation": math.degrees,
}
"""What makes of the numbers of a history those of a page: percent and degrees, as forecasts have them."""
_SUBJECTS = (
    (
        "shrink",
        "Planned and realized",
        "What decay alone would have left of the weights: the solid line as it was measured, the thin one as it was "
        "planned. A gap between them is decay that was lost, or that nobody asked for.",
        ("shrink", "ratio", "cosine"),
    ),
    ("norms", "Norms", "Before each recorded step.", ("weight_norm", "gradient_norm", "update_norm")),
    (
        "rotation",
        "Rotation",
        "The angle that weights turn by in one step. Where a norm follows them it settles, as decay and updates "
        "balance, at the thin line; elsewhere that line is a guide only.",
        ("rotation", "effective_lr", "lr"),
    ),
    (
        "forms",
        "What the form of decay does",
        "Shares of the weights that caution left alone or that are exactly 0, and the multipliers of constraints.",
        ("masked_share", "zero_share", "dual"),
    ),
)
_CAUSES = {
    "not attached": "a plan was not attached",
    "lost": "decay was lost",
    "differs": "decay differed from the plan",
    "rounded away": "decay was rounded away",
    "grows": "weights grew without bound",
    "not finite": "numbers were not finite",
    "dominates": "decay outweighed the updates",
    "no steps": "no step was taken",
    "no gradients": "nothing trained these weights",
}
"""Kind of alarm → what happened, in a clause."""


@dataclass(frozen=True)
class _Curve:
    """One group's line, and the thin one of what was expected beside it."""

    index: int
    steps: tuple[int, ...]
    values: tuple[float, ...]
    beside_steps: tuple[int, ...] = ()
    beside: tuple[float, ...] = ()


def page_of(history: History) -> Page:
    """The page of a history."""
    return page_with(article_of(history))


def verdict(history: History) -> str:
    """Whether decay did what was planned, and what was loudest."""
    if not history.records:
        return "The history has no record, so there is nothing to say."
    return "\n".join([_headline(history), *(f"{one.head}: {one.text}" for one in _notices(history))])


def picture_of(history: History, *, quantity: str = "shrink") -> Picture:
    """One quantity of the largest groups over the steps, "shrink", "ratio" or another that it recorded."""
    if quantity not in ("shrink", "ratio"):
        history._check_quantity(quantity)
    drawn = _drawn(history)
    chart = quantity_chart(history, quantity, drawn, styles(len(drawn)))
    if chart is None:
        raise TaskError(
            f"there is nothing to draw: no group has a number for {quantity!r}.",
            fix=f"Draw one of {', '.join(history.quantities) or 'a history with records'}.",
        )
    return titled(chart)


def article_of(history: History, *, first: int = 0) -> Article:
    """Arrange a history for a page, on which its lines are counted from `first` on."""
    if not history.records:
        raise TaskError("the history has no record, so there is nothing to show.", fix="Let the optimizer step.")
    drawn = _drawn(history)
    rest = [name for name in history.groups if name not in drawn][:_MOST_ON_DEMAND]
    look = styles(first + len(drawn) + len(rest))[first:]
    subjects = [
        (name, heading, intro, [quantity_chart(history, one, drawn, look, rest, first=first) for one in quantities])
        for name, heading, intro, quantities in _SUBJECTS
    ]
    hero, *_ = (*filter(None, (chart for *_, charts in subjects for chart in charts)), None)
    sections = [
        Section(name, heading, intro, tuple(one for one in charts if one and one is not hero), tracked=True)
        for name, heading, intro, charts in subjects
    ]
    listed = history.groups[:_MOST_LISTED]
    places = {name: place for place, name in enumerate((*drawn, *rest), first)}
    table = Table(
        _HEAD, tuple(row_of(history, name) for name in listed), series=tuple(places.get(name, -1) for name in listed)
    )
    sections.append(Section("groups", "The groups", table=table))
    weights = sum(history.of(name).num_elements for name in history.groups)
    origin = (*history.about.items(), *history.versions.items(), *when(history.created))
    recorded = (
        *origin,
        ("groups", f"{len(history.groups):,}, of {counted(weights, 'weight')}"),
        ("recorded steps", f"{len(history.steps):,}, one of every {history.every_steps:,}"),
    )
    which = f"{len(drawn)} are drawn: those with alarms, then the largest"
    which = which if history.events else f"the {len(drawn)} largest are drawn"
    more = " Others are drawn by a click on their box in the table." if len(drawn) < len(history.groups) else ""
    which = f"Of {counted(len(history.groups), 'group')} {which}.{more}" if more else ""
    did = done(history)
    return Article(
        id="history",
        title="What decay did",
        headline=did or _headline(history),
        sure=" ".join(filter(None, [_headline(history) if did else "", which])),
        origin=pairs_of(origin),
        notices=_notices(history),
        hero=hero,
        keys=tuple(Key(shown(name), style, i) for i, (name, style) in enumerate(zip(drawn, look, strict=False), first)),
        sections=tuple(filter(None, sections)),
        cards=(Card("How it was recorded", pairs=pairs_of(recorded)),),
    )


def quantity_chart(
    history: History, quantity: str, drawn: Sequence[str], look: Sequence[Style], rest: Sequence[str] = (),
    *, first: int = 0,
) -> Chart | None:  # fmt: skip
    """One quantity of some groups over the steps, those of the rest on demand; None when none of them has it."""
    curves = [_curve(history, quantity, name, i) for i, name in enumerate(drawn)]
    # All charts of a page have one axis of steps.
    chart = _chart(quantity, curves, drawn, look, last=max(history.steps, default=0), first=first)
    if chart is None:
        return None
    in_units, more = _IN_UNITS.get(quantity, float), []
    for place, name in enumerate(rest, len(drawn)):
        found = _curve(history, quantity, name, first + place)
        if found is not None:
            kept = evenly(len(found.steps), _POINTS_ON_DEMAND)
            x, y = [found.steps[i] for i in kept], [in_units(found.values[i]) for i in kept]
            line = Line(x, y, look[place], 2.0, f"series-{found.index}-line")
            more.append((Key(shown(name), look[place], found.index), line))
    return replace(chart, more=tuple(more))


def group_chart(
    histories: Sequence[History], quantity: str, group: str, names: Sequence[str], look: Sequence[Style]
) -> Chart | None:
    """One quantity of one group in several trainings; None when none of them has it."""
    curves = [_curve(one, quantity, group, i) if group in one.groups else None for i, one in enumerate(histories)]
    return _chart(quantity, curves, names, look, last=max(one.steps[-1] for one in histories), of=group)


def _chart(
    quantity: str,
    found: Sequence[_Curve | None],
    drawn: Sequence[str],
    look: Sequence[Style],
    *,
    last: int,
    of: str = "",
    first: int = 0,
) -> Chart | None:
    in_units = _IN_UNITS.get(quantity, float)
    curves = [
        replace(one, values=tuple(map(in_units, one.values)), beside=tuple(map(in_units, one.beside)))
        for one in found
        if one is not None
    ]
    if not curves:
        return None
    values = [value for curve in curves for value in (*curve.values, *curve.beside) if math.isfinite(value)]
    log = quantity in _LOG and spans_decades(values)
    known = QUANTITIES.get(quantity)
    title = _TITLES.get(quantity) or (known.title if known else shown(quantity))
    title = f"{shown(of)}: {title[0].lower()}{title[1:]}" if of else title

    floor = None if quantity in ("cosine", "shrink") else 0.0
    marks: list[Mark] = []
    for curve in curves:
        style, gid = look[curve.index], f"series-{first + curve.index}"
        if curve.beside:
            marks.append(Line(curve.beside_steps, curve.beside, replace(style, dashes=()), 0.9, f"{gid}-beside"))
        marks.append(Line(curve.steps, curve.values, style, 2.0, f"{gid}-line"))
        if math.isfinite(curve.values[-1]):
            marks.append(dot(curve.steps[-1], curve.values[-1], style, gid=f"{gid}-end"))
    height = y_axis([*values, *([0.0] if floor == 0.0 and not log else [])], floor=floor, log=log)
    keys = tuple(Key(shown(drawn[curve.index]), look[curve.index], first + curve.index) for curve in curves)
    expected = [f", {number(curve.beside[-1])} expected" if curve.beside else "" for curve in curves]
    ends = [f"{key.label} ends at {number(curve.values[-1])}" for key, curve in zip(keys, curves, strict=True)]
    told = "; ".join(map("".join, zip(ends, expected, strict=True)))
    every = sorted({step for curve in curves for step in curve.steps})
    return Chart(
        name="-".join(filter(None, [slug(of) if of else "", quantity.replace("_", "-")])),
        title=title,
        alt=f"{title} over {every[-1]:,} steps: {told}.",
        caption=_MEANINGS.get(quantity) or (known.meaning if known else ""),
        plot=Plot(steps_axis(last), height, "step", tuple(marks)),
        keys=keys,
        head=("step", *(key.label for key in keys)),
        rows=rows_at(every, [(curve.steps, curve.values) for curve in curves]),
    )


def _curve(history: History, quantity: str, name: str, index: int) -> _Curve | None:
    if quantity == "shrink":
        found = history._sums(name)
        values, beside = found.planned if found.realized is None else found.realized, found.planned
        if values is None or not values.any():
            return None
        # What is spared has the noise of rounding, unless something takes from it after all.
        if not history.of(name).decay and values.abs().max() < _NOISE:
            return None
        thin = _thinned(found.steps, beside) if beside is not None and found.realized is not None else ((), ())
        return _Curve(index, *_thinned(found.steps, values), *thin)
    known = set(history.quantities)
    if quantity == "ratio":
        if not {"decay_norm", "update_norm"} <= known:
            return None
        (steps, decay), (_, update) = (history._numbers(name, f"{of}_norm") for of in ("decay", "update"))
        kept = (decay > 0) & (update != 0) & ~update.isnan()
        # Where nothing pulls, what is left is rounding.
        if not kept.any() or not history.of(name).decay:
            return None
        return _Curve(index, *_thinned(steps[kept], (decay / update)[kept]))
    if quantity not in known or (quantity == "cosine" and not history.of(name).decay):
        return None
    steps, values = history._known(name, quantity)
    if not len(steps) or (quantity in _LOG and not values.any()):
        return None
    other = _BESIDE.get(quantity)
    thin = _thinned(*history._known(name, other)) if other in known else ((), ())
    return _Curve(index, *_thinned(steps, values), *thin)


def taken(log_shrink: float) -> str:
    """The share of a weight that decay took, of the sum of its log-shrinks."""
    return percent(max(0.0, -math.expm1(-log_shrink)))


def _thinned(steps: Tensor, values: Tensor) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """At most so many points, evenly taken, the first and the last among them."""
    places = [*evenly(len(steps), _MOST_POINTS)]
    return tuple(steps[places].tolist()), tuple(values[places].tolist())


def _drawn(history: History) -> list[str]:
    """The names of the groups that rang, and then of those with most weights, in the history's order."""
    size = {one.name: one.num_elements for one in history.series}
    rang = {event.group for event in history.events}
    kept = set(sorted(size, key=lambda name: (name not in rang, -size[name]))[:MOST])
    return [name for name in history.groups if name in kept]


def _notices(history: History) -> tuple[Notice, ...]:
    """The alarms, those of one step and kind together."""
    alike: dict[tuple[int, str], list[Event]] = {}
    for event in history.events:
        alike.setdefault((event.step, event.kind), []).append(event)
    made = []
    for (step, kind), events in list(alike.items())[:_MOST_ALARMS]:
        names = [shown(group) for event in events for group in event.groups if group]
        first = events[0]
        said = prose(f"{capital(first.what)} {first.why} {first.fix}")
        head = f"Step {step:,}: {kind}" + (f", {listing(names, most=4)}" if names else "")
        made.append(Notice(head, f"The first of them: {said}" if len(names) > 1 else said))
    left_out = len(alike) - len(made)
    if left_out:
        made.append(Notice(f"And {counted(left_out, 'more alarm')}", "They are in the history’s events."))
    return tuple(made)


def done(history: History, steps: int = 0) -> str:
    """What decay took of the weights over the recorded steps, and whether that was planned; "" where nobody knows.

    Of how many steps that is, `steps` says; 0 where nobody knows.
    """
    sums = {name: history._sums(name) for name in history.groups if history.of(name).decay}
    took = {name: float(found.realized[-1]) for name, found in sums.items() if found.realized is not None}
    if not took:
        return ""
    planned = {name: float(found[-1]) for name in took if (found := sums[name].planned) is not None}
    first, last = history.steps[0], history.steps[-1]
    recorded = counted(last, "step") if first == 1 else f"steps {first:,} to {last:,}"
    said = f"Decay took {_of_each(took)}{(steps and span(first, last, steps)) or f' in {recorded}'}"
    if len(planned) < len(took):
        return f"{said}."
    # A tenth apart is what the page's numbers hardly show.
    off = {name: plan for name, plan in planned.items()
           if taken(plan) != taken(took[name]) and not abs(took[name] - plan) <= 0.1 * abs(plan)}  # fmt: skip
    return f"{said}; planned {_of_each(off)}{later(*map(history.of, off))}." if off else f"{said}, as planned."


def later(*groups: Series) -> str:
    """Why what was planned is more than what was measured, though nothing is wrong: momentum brings the rest."""
    return ", counting what momentum brings in later steps" if any(one.carried == "followed" for one in groups) else ""


def span(first: int, last: int, steps: int) -> str:
    """The steps from the first record to the last one, which a sum over records is of; "" where they are all."""
    if first > 1:
        return f" in steps {first:,} to {last:,} of {steps:,}" if last > first else f" in step {first:,} of {steps:,}"
    return "" if last >= steps else f" in the first {f'{last:,} ' if last > 1 else ''}of {counted(steps, 'step')}"


def _of_each(sums: Mapping[str, float]) -> str:
    """What was taken of which group, or of each weight where that is the same."""
    shares = {name: taken(found) for name, found in sums.items()}
    if len({*shares.values()}) == 1:
        return f"{next(iter(shares.values()))} of each weight"
    return listing([f"{share} of {shown(name, most=40)}" for name, share in shares.items()], most=3)


def _headline(history: History) -> str:
    steps = history.steps
    span = f"{counted(len(steps), 'recorded step')}, {steps[0]:,} to {steps[-1]:,}"
    if not history.events:
        if not any(history.of(name).decay for name in history.groups):
            return f"Nothing decays: no alarm in {span}."
        if not any(_is_held(history, name) for name in history.groups):
            return f"No alarm in {span}: nothing could be compared with the plan."
        return f"Decay did what was planned: no alarm in {span}."
    kinds = [event.kind for event in history.events]
    several = len(set(kinds)) > 1
    causes = [
        _CAUSES.get(kind, shown(kind)) + (f" ({kinds.count(kind):,})" if several else "")
        for kind in dict.fromkeys(kinds)
    ]
    return f"{capital(listing(causes))}: {counted(len(kinds), 'alarm')} in {span}."


def _is_held(history: History, name: str) -> bool:
    """Whether what decay took of a group is known as well as what it was to take."""
    shrink = history._sums(name)
    return bool(history.of(name).decay and shrink.planned is not None and shrink.realized is not None)


def row_of(history: History, name: str) -> tuple[str, ...]:
    """A group's row in the table of them all."""
    about, shrink = history.of(name), history._sums(name)
    norms = history._ends(name, "weight_norm")
    sums_of = (shrink.realized, shrink.planned)
    return (
        shown(name),
        shown(about.decay) or "spared",
        f"{about.num_elements:,}",
        *(map(number, norms) if norms else ("", "")),
        *("?" if sums is None else taken(float(sums[-1])) for sums in sums_of),
        f"not: {why}" if (why := history.unmeasured.get(name)) and shrink.realized is None else _MEASURED[about.source],
    )
