"""A run seen from outside, `torchdecay run`: what is said on the way and at its end, and its page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from torchdecay.reports import forecast as forecasts
from torchdecay.reports import history as histories
from torchdecay.reports.article import (
    Article,
    Card,
    Next,
    Notice,
    Page,
    Pairs,
    Section,
    Table,
    page_with,
    pairs_of,
    when,
)
from torchdecay.reports.drawing.chart import Chart, Key
from torchdecay.reports.tables import as_table
from torchdecay.text import capital, counted, listed, listing, prose, shown

if TYPE_CHECKING:
    from torchdecay.findings.finding import Finding
    from torchdecay.observe.audit.result import Audit
    from torchdecay.observe.monitor.history import History
    from torchdecay.observe.monitor.series import Shrink
    from torchdecay.observe.recorded.record import RunRecord, Seen, Stepped

_MOST_LINES, _MOST_FINDINGS, _MOST_ROWS = 12, 4, 200
_ENOUGH = 1.5
"""A log-shrink over the run that is neither nothing nor all: time scales between an epoch and the run do best."""
_HUGE = 0.01
"""Of each weight, per step: more the audit calls huge."""
_FEW = round(_ENOUGH / _HUGE)
"""Steps within which no decay that is not huge gets that far."""
_NOT_PLANNED = "who decays, or how, is not what --plan says"


# ── On the way ──


def opening(about: Stepped, seen: Seen) -> list[str]:
    """What is said of an optimizer after its first step: its model, its plan, a forecast, and what was found."""
    lines = [f"torchdecay: {_named(about)}"]
    lines += [f"  {note}" for note in (_applied(about), about.length) if note]
    lines += [f"  not as planned: {one}" for one in about.differs[:_MOST_FINDINGS]]
    more = len(about.differs) - _MOST_FINDINGS
    lines += [f"  not as planned: {counted(more, 'parameter')} more, see the page"] if more > 0 else []
    if seen.plan is not None:
        table = seen.plan.table(group=True)
        told = table.to_text(width=118).splitlines()
        *rows, _, summary = told
        left_out = len(rows) - 1 - _MOST_LINES
        lines += [f"  {row}".rstrip() for row in rows[: _MOST_LINES + 1]]
        lines += [f"  ... and {counted(left_out, 'line')} more on the page"] if left_out > 0 else []
        lines += [f"  {summary}"]
    if seen.forecast is not None:
        told = [line for line in forecasts.verdict(seen.forecast).splitlines() if ", unknown: " not in line]
        lines += [f"  {line}" for line in told[:_MOST_FINDINGS]]
    if seen.audit is not None:
        lines += [f"  {_count(seen.audit)}"]
        lines += [f"  {line}" for one in worst(seen.audit) for line in str(one).splitlines()]
    return lines


def closing(record: RunRecord, page: str) -> list[str]:
    """What is said at the end: planned against measured, alarms, where the page is, what to run next."""
    lines = []
    for about, seen in zip(record.summary.optimizers, record.seen, strict=True):
        whose = f" on {about.model}" if about.model else ""
        lines.append(f"torchdecay: {counted(about.steps, 'step')} of {about.optimizer}{whose}")
        if seen.history is not None and seen.history.records:
            lines += [f"  {line}" for line in _measured(about, seen.history)]
            lines += [f"  {shown(line)}" for line in histories.verdict(seen.history).splitlines()[:3]]
    where = f"page: {page}" if page else "no page"
    following = next_command(record)
    abouts = record.summary.optimizers
    steps = max((max(about.steps, about.num_steps) for about in abouts), default=_FEW)
    is_few = steps < _FEW and not any(about.applied for about in abouts)
    few = f" (of {counted(steps, 'step')} too few to show what decay does)" if is_few else ""
    return [*lines, f"torchdecay: {where}" + (f"; next: {following}{few}" if following else "")]


def verdict(record: RunRecord) -> str:
    """How many steps of which optimizers, what was found, and whether decay did what was planned."""
    lines = [_headline(record)]
    for about, seen in zip(record.summary.optimizers, record.seen, strict=True):
        start = _whose(about, record)
        lines += [start + prose(_count(seen.audit))] if seen.audit is not None else []
        lines += [start + line for line in _measured(about, seen.history)] if seen.history is not None else []
    return "\n".join([*lines, *map(prose, record.summary.notes)])


def next_command(record: RunRecord) -> str:
    """What is worth running next; "" where no optimizer takes another decay."""
    command = record.summary.command
    if any(about.applied for about in record.summary.optimizers):
        return f"{record.summary.front} {command}" if command else ""
    able = [str(about.number) for about in record.summary.optimizers if not about.refuses]
    if record.summary.optimizers and not able:
        return ""
    which = f"--optimizer {','.join(able)} " if len(able) < len(record.summary.optimizers) else ""
    decay = f"decoupled:{_worth_trying(record):g}"
    return f"{record.summary.front} --apply {decay} {which}{command}" if command else f'td.watch(apply="{decay}")'


def _worth_trying(record: RunRecord) -> float:
    """A coefficient that forgets a weight once or twice within the run; ten times its own where that is unknown."""
    for about, seen in zip(record.summary.optimizers, record.seen, strict=True):
        if seen.plan is None or seen.forecast is None:
            continue
        coefficient = {repr(row.decay): row.decay.coefficient for row in seen.plan.rows if row.decay is not None}
        for group in seen.forecast.groups:
            taken, own = group.total_shrink, coefficient.get(group.decay, 0.0)
            if group.decay.startswith("decoupled(") and own and taken and 0 < taken < 1:
                times = _ENOUGH / -math.log1p(-taken) if about.num_steps else 10.0
                # Near what is there already nothing would be learned, nor where no weight lasts: in a run of few steps.
                is_huge = times > 1 and times * (group.max_fraction or 0.0) > _HUGE
                return float(f"{own * (10.0 if 0.5 < times < 2 or is_huge else times):.1g}")
    return 0.1


def worst(found: Audit) -> list[Finding]:
    """The findings that are worth a line where there is little room."""
    return [one for one in found.findings if one.severity != "info"][:_MOST_FINDINGS]


def _named(about: Stepped) -> str:
    whose = f" trains {about.model}" if about.model else ""
    around = f", with {listing(about.around)}" if about.around else ""
    size = f"{counted(about.num_elements, 'weight')} in {counted(about.num_params, 'tensor')}"
    return f"{about.optimizer}{whose}, {size}{around}" + (f"; {about.found}" if about.found else "")


def _applied(about: Stepped) -> str:
    return f"{about.applied} in place of {about.replaced}" if about.applied else ""


def _count(found: Audit) -> str:
    said = _counts(found.findings, ("error", "warning", "info"))
    return f"audit: {listing(said) if said else 'nothing found'}"


def _counts(findings: Iterable[Finding], kinds: Iterable[str]) -> list[str]:
    """How many findings there are of each kind that there is."""
    severities: list[str] = [one.severity for one in findings]
    counts = [(severities.count(kind), "note" if kind == "info" else kind) for kind in kinds]
    return [counted(count, word) for count, word in counts if count]


def _measured(about: Stepped, history: History) -> Iterator[str]:
    """Of each group that decays what decay took, as measured and as planned, and in which steps if not in all."""
    for name in history.groups:
        shrink, series = history.shrink(name), history.of(name)
        if not series.decay or not history.records or (shrink.planned is None and shrink.realized is None):
            continue
        ends = {histories.taken(sums[-1]) for sums in (shrink.realized, shrink.planned) if sums}
        more = histories.later(series) if len(ends) > 1 else ""
        planned = (
            f"{histories.taken(shrink.planned[-1])} planned{more}"
            if shrink.planned is not None
            else "what was planned is not known"
        )
        when = histories.span(shrink.steps[0], shrink.steps[-1], about.steps)
        real = f"took {histories.taken(shrink.realized[-1])} of each weight" if shrink.realized else "was not measured"
        real += f" ({series.dtype}'s rounding of the updates is in it)" if series.is_rounded and shrink.realized else ""
        # Groups that came or went with the optimizer's own have no pace of all steps.
        is_whole = (shrink.steps[0], shrink.steps[-1]) == (history.steps[0], history.steps[-1])
        more = _at_that_pace(shrink, about.steps) if when and is_whole else ""
        yield f"{shown(name)}: decay {real}{when}, {planned}{more}"


def _at_that_pace(shrink: Shrink, steps: int) -> str:
    """What decay took of the whole run, had it gone on as in the last step with a record."""
    taken = shrink.realized or shrink.planned
    if taken is None or math.isnan(shrink.pace):
        return ""
    before, after = shrink.steps[0] - 1, steps - shrink.steps[-1]
    return f"; at that pace {histories.taken(taken[-1] + (before + after) * shrink.pace)} in all {steps:,}"


# ── The page ──


def page_of(record: RunRecord) -> Page:
    """The page of a run: for each optimizer findings, plan, forecast, curves and alarms."""
    summary = record.summary
    sections: list[Section] = []
    notices = [Notice("To know", prose(note)) for note in summary.notes]
    hero: Chart | None = None
    keys: list[Key] = []
    for about, seen in zip(summary.optimizers, record.seen, strict=True):
        own = _whose(about, record)
        if about.differs:
            more = len(about.differs) - _MOST_LINES
            said = [*about.differs[:_MOST_LINES], *([f"and {more} more, see summary.json"] if more > 0 else [])]
            notices.append(Notice(f"{own}{_NOT_PLANNED}", prose("; ".join(said))))
        sections += [_of(one, about, own) for one in _sections(about, seen)]
        if seen.history is None or not seen.history.records:
            continue
        curves = histories.article_of(seen.history, first=len(keys))
        notices += [replace(one, head=own + one.head) for one in curves.notices]
        # One record is no curve, and without one nothing has to be drawn.
        if len(seen.history.steps) > 1:
            hero = hero or curves.hero
            keys += [replace(one, label=own + one.label) for one in curves.keys]
            sections += [_of(one, about, own) for one in curves.sections]
    pairs = zip(summary.optimizers, record.seen, strict=True)
    # Of a run that is over a length that stood in for its own is no picture.
    forecast = next(
        (one.forecast for about, one in pairs if one.forecast and (about.num_steps or not summary.ended)), None
    )
    following = next_command(record)
    nexts = (Next("Try another decay, without a change to the script", following),) if following else ()
    again = f"{summary.front} {summary.command}" if summary.command else ""
    origin = _origin(record)
    made = pairs_of([*origin, *when(summary.written, "written")])
    page = page_with(
        Article(
            id="run",
            title=f"What decay does in {shown(summary.command, most=80) or 'this run'}",
            headline=_did(record) or _headline(record),
            sure=prose(" ".join([*([_headline(record)] if _did(record) else []), *_lengths(summary.optimizers)])),
            origin=origin,
            notices=tuple(notices),
            verdict=tuple(verdict(record).splitlines()[1:]),
            nexts=nexts if summary.optimizers else (),
            hero=hero or (None if forecast is None else forecasts.chart_of(forecast)),
            keys=tuple(keys),
            sections=tuple(sections),
            cards=(Card("How it was run", (), again, made),),
        )
    )
    return replace(page, grows=not summary.ended)


def _lengths(optimizers: Iterable[Stepped]) -> Iterator[str]:
    """How long the run is for whom, each length once."""
    whose: dict[str, list[str]] = {}
    for one in optimizers:
        if one.length:
            whose.setdefault(one.length, []).append(one.optimizer)
    for length, names in whose.items():
        yield f"{listing(list(dict.fromkeys(names)))}: {length}."


def _did(record: RunRecord) -> str:
    """What decay did in the first optimizer of which that was measured; "" where it was in none."""
    for about, seen in zip(record.summary.optimizers, record.seen, strict=True):
        if seen.history is not None and seen.history.records and (did := histories.done(seen.history, about.steps)):
            return _whose(about, record) + did
    return ""


def _whose(about: Stepped, record: RunRecord) -> str:
    """Which optimizer is spoken of; "" where there is one, since forecasts number its groups, "AdamW 0", from 0."""
    return f"{about.optimizer} {about.number}: " if len(record.seen) > 1 else ""


def _headline(record: RunRecord) -> str:
    summary = record.summary
    if not summary.optimizers:
        return "No optimizer took a step."
    steps = listing([f"{counted(one.steps, 'step')} of {one.optimizer}" for one in summary.optimizers])
    found = [finding for seen in record.seen if seen.audit is not None for finding in seen.audit.findings]
    said = _counts(found, ("error", "warning"))
    alarms = sum(len(seen.history.events) for seen in record.seen if seen.history is not None)
    said += [counted(alarms, "alarm")] if alarms else []
    said += [_NOT_PLANNED] if any(one.differs for one in summary.optimizers) else []
    return f"{steps}{'' if summary.ended else ' so far'}: {listing(said) if said else 'nothing was found'}."


def _sections(about: Stepped, seen: Seen) -> Iterator[Section]:
    if seen.audit is not None:
        rows = tuple(
            tuple(map(prose, (one.code, one.severity, one.what, listed(one.names, most=8)))) for one in seen.audit
        )
        advice = tuple(dict.fromkeys(prose(f"{one.code}: {one.why} {one.fix}") for one in seen.audit))
        table = Table(("Code", "Severity", "What", "Parameters"), rows)
        yield Section("findings", "Findings", table=table, remarks=advice)
    if seen.plan is not None:
        table = as_table(seen.plan.table(group=True))
        yield Section(
            "plan",
            "Who decays",
            intro=prose(f"{_named(about)}. {seen.plan.table().summary}. {_applied(about)}"),
            table=Table(table.head, table.rows[:_MOST_ROWS]),
        )
    if seen.forecast is not None:
        said, *remarks = forecasts.verdict(seen.forecast).splitlines()
        yield Section(
            "forecast",
            "What decay will do",
            intro=prose(f"{said} {capital(about.length)}." if about.length else said),
            table=as_table(seen.forecast),
            remarks=tuple(remarks),
        )


def _of(section: Section, about: Stepped, own: str) -> Section:
    """A section of one optimizer, with names that no other's have."""
    charts = tuple(replace(one, name=f"{about.number}-{one.name}") for one in section.charts)
    heading = own + (section.heading[0].lower() + section.heading[1:] if own else section.heading)
    return replace(section, id=f"{about.number}-{section.id}", heading=heading, charts=charts)


def _origin(record: RunRecord) -> Pairs:
    """What ran, and what of it was looked at, with what and when."""
    summary = record.summary
    rank, world = summary.process
    names: dict[str, list[str]] = {"optimizer": [], "model": []}
    for one in summary.optimizers:
        names["optimizer"].append(one.optimizer)
        names["model"] += [one.model] if one.model else []
    known = [(name, listing(list(dict.fromkeys(found)))) for name, found in names.items() if found]
    process = [("process", f"{rank} of {world}")] if world > 1 else []
    command = [("command", f"{summary.front} {summary.command}")] if summary.command else []
    return pairs_of([*command, *known, *process, *summary.versions.items(), *when(summary.created)])
