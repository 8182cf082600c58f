"""The page of a comparison: charts, tables and words, all plain text until the template escapes it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from torchdecay.lab.comparisons.statistics import mean
from torchdecay.reports.comparison.curves import curve_chart, label_styles, title_of
from torchdecay.reports.comparison.gaps import gap_chart
from torchdecay.reports.comparison.planned_and_measured import HEAD, KEYS, acting_charts, acting_remarks, acting_rows
from torchdecay.reports.comparison.scans import scan_charts
from torchdecay.reports.comparison.sentences import headline, verdict
from torchdecay.reports.document import Page, Section
from torchdecay.reports.drawing.chart import Chart, Key
from torchdecay.text import counted, listing, mean_and_spread, number, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.training.results import PlanSummary

MOST_PLAN_ROWS = 200

# Every name that a chart of a comparison may have, as file name patterns.
FIGURES = (
    *(f"{part}-{what}" for part in ("train", "test", "validation") for what in ("loss", "score")),
    "gap-loss",
    "gap-score",
    "weight-norm",
    "gradient-norm",
    "planned-[0-9]",
    "planned-[0-9][0-9]",
    "line-[0-9]",
    "line-[0-9][0-9]",
)


@dataclass(frozen=True)
class Plan:
    """Which parameters decayed under one label, and why."""

    label: str
    summary: str
    equation: str
    how: str
    rows: tuple[tuple[str, str, str, str, str], ...]
    left_out: int


@dataclass(frozen=True)
class View:
    """Everything of one comparison that a page says."""

    id: str
    name: str
    title: str
    headline: str
    sure: str
    verdict: tuple[str, ...]
    warnings: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    hero: Chart | None
    keys: tuple[Key, ...]
    sections: tuple[Section, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    spread: str
    csv: str
    plans: tuple[Plan, ...]
    command: str
    versions: tuple[tuple[str, str], ...]
    created: str
    charts: tuple[Chart, ...] = field(default=())


def view(comparison: Comparison) -> View:
    """Arrange a comparison for a page."""
    look = label_styles(comparison)
    sections = tuple(section for section in _sections(comparison) if section.charts or section.rows)
    measure = "score" if comparison.score_name else "loss"
    hero = gap_chart(comparison, measure)
    head, rows = _table(comparison)
    said, sure = headline(comparison)
    return View(
        id=slug(comparison.task),
        name=shown(comparison.task, most=30),
        title=shown(comparison.title or comparison.task),
        headline=said,
        sure=sure,
        verdict=tuple(prose(line) for line in verdict(comparison).splitlines()),
        warnings=_warnings(comparison),
        facts=tuple((shown(what), prose(value)) for what, value in comparison.facts),
        notes=tuple(prose(note) for note in comparison.notes),
        hero=hero,
        keys=tuple(
            Key(shown(label), look[index], index)
            for index, label in enumerate(comparison.labels)
            if comparison.of(label)
        ),
        sections=sections,
        head=head,
        rows=rows,
        spread="Mean ± standard deviation over seeds, after the last step."
        if any(len(comparison.of(label)) > 1 for label in comparison.labels)
        else "One seed each, after the last step: no spread can be given.",
        csv=runs_as_csv(comparison),
        plans=tuple(_plan(comparison.plans[label]) for label in comparison.labels if label in comparison.plans),
        command=shown(comparison.command, most=4000),
        versions=tuple((shown(name), shown(version)) for name, version in comparison.versions.items()),
        created=when(comparison.created),
        charts=tuple(filter(None, [hero, *(chart for section in sections for chart in section.charts)])),
    )


def page_of(comparison: Comparison) -> Page:
    """The page of one comparison."""
    arranged = view(comparison)
    short = {"score": "Score", "loss": "Loss", "norms": "Norms", "line": "Why it works"}
    parts = [(section.id, short.get(section.id, section.heading)) for section in arranged.sections]
    parts += [("finals", "Final numbers")] if arranged.rows else []
    parts += [("plans", "Who decayed")] if arranged.plans else []
    return Page(
        title=arranged.title,
        description=arranged.headline,
        links=tuple((f"{arranged.id}-{part}", text) for part, text in [*parts, ("about", "Repeat it")]),
        charts={arranged.id: arranged.charts},
        template="page.html.j2",
        context={"views": [arranged], "example": None},
        numbers={"results.json": comparison.to_json(verdict=verdict(comparison))},
        earlier=FIGURES,
    )


def when(stamp: str) -> str:
    """A time stamp as a person reads it; what is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(stamp):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return shown(stamp)


def slug(name: str) -> str:
    """A name for ids and files: lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "task"


def _sections(comparison: Comparison) -> Iterable[Section]:
    def curves(*names: str) -> tuple[Chart, ...]:
        return tuple(filter(None, (curve_chart(comparison, name) for name in names)))

    several = any(len(comparison.of(label)) > 1 for label in comparison.labels)
    band = "Lines are means over seeds, bands reach from the lowest to the highest seed." if several else ""
    # With a score, that is what the page opens with, and how the loss ended stands beside its curves.
    ended = tuple(filter(None, [gap_chart(comparison, "loss")])) if comparison.score_name else ()
    if comparison.score_name:
        yield Section(
            "score",
            f"{comparison.score_name[:1].upper()}{comparison.score_name[1:]} while training",
            f"{band} Left to right the same axis: what separates the pictures is the gap.".strip(),
            curves("train_score", "validation_score", "test_score"),
        )
    yield Section(
        "loss",
        "Loss while training",
        f"The loss of the task alone, without any penalty. {'' if comparison.score_name else band}".strip(),
        (*curves("train_loss", "validation_loss", "test_loss"), *ended),
    )
    yield Section(
        "norms",
        "How large the weights and the gradients were",
        "The norm of all weights that may decay, whether or not they do, and of the gradient of the loss.",
        curves("weight_norm", "gradient_norm"),
    )
    yield Section(
        "acting",
        "Planned and measured",
        "How many times decay alone would have halved the weights: dashed as forecast before the training, solid as "
        "measured in it. Where they part, decay was lost or more came than was asked for. Dotted, how many times the "
        "norm really halved, below 0 where it doubled: what lies between is what the updates gave back.",
        acting_charts(comparison),
        KEYS,
        HEAD,
        acting_rows(comparison),
        acting_remarks(comparison),
    )
    scans = tuple(scan_charts(comparison))
    yield Section(
        "line",
        "Why shrinking weights changes the loss",
        "All weights that may decay are multiplied by α, from 0 (gone) past 1 (the solution that was found) "
        "and beyond. A penalty grows with α, so its sum with the loss is least at smaller weights than the loss. "
        "Marks show where each curve is least. Of each decay, the first seed.",
        scans,
        tuple({key.label: key for chart in scans for key in chart.keys}.values()),
    )


_COLUMNS = (
    "train_loss",
    "test_loss",
    "gap",
    "validation_loss",
    "train_score",
    "test_score",
    "validation_score",
    "weight_norm",
)


def _columns(comparison: Comparison) -> list[str]:
    return [
        name for name in _COLUMNS if name == "gap" or any(getattr(run, name) is not None for run in comparison.runs)
    ]


def _head(comparison: Comparison, name: str) -> str:
    return "Loss gap" if name == "gap" else title_of(comparison, name)


def _table(comparison: Comparison) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    columns = _columns(comparison)
    head = ("Decay", "Seeds", *(_head(comparison, name) for name in columns), "Seconds")
    rows = []
    for label in comparison.labels:
        runs = comparison.of(label)
        if runs:
            cells = [mean_and_spread(*comparison.mean_and_spread(label, name)) for name in columns]
            rows.append((shown(label), str(len(runs)), *cells, number(mean([run.seconds for run in runs]))))
    return head, tuple(rows)


def runs_as_csv(comparison: Comparison) -> str:
    """The last numbers of every run as a link to save them."""
    columns = _columns(comparison)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["decay", "seed", *columns, "seconds"])
    for run in comparison.runs:
        # A spreadsheet would run a label that begins like a formula.
        label = shown(run.label)
        guarded = f"'{label}" if label[:1] in ("=", "+", "-", "@") else label
        writer.writerow([guarded, run.seed, *(repr(run.final(name)) for name in columns), repr(run.seconds)])
    return "data:text/csv;charset=utf-8," + quote(buffer.getvalue())


def _plan(plan: PlanSummary) -> Plan:
    rows = tuple(
        (
            shown(row.name),
            " × ".join(map(str, row.shape)) or "scalar",
            shown(row.role),
            shown(row.decay) or "spared",
            prose(row.reason),
        )
        for row in plan.rows[:MOST_PLAN_ROWS]
    )
    return Plan(
        label=shown(plan.label),
        summary=prose(plan.summary),
        equation=prose(plan.equation),
        how=prose(plan.how),
        rows=rows,
        left_out=max(0, len(plan.rows) - MOST_PLAN_ROWS),
    )


def _warnings(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    made = []
    if comparison.noise:
        floor = comparison.chance_loss
        made.append(
            (
                "The labels are noise",
                "They have nothing to do with the inputs, so nothing learned on the training rows can help on the test "
                "rows"
                + (f", and no model can be expected to get below a test loss of {number(floor)}." if floor else "."),
            )
        )
    missing = _missing(comparison)
    if comparison.interrupted or missing:
        done = counted(len(comparison.runs), "run")
        asked = len(comparison.labels) * len(comparison.seeds)
        head = "Stopped before all runs were done" if comparison.interrupted else "Not all runs were finished"
        made.append((head, f"{done} of {asked} finished. Missing: {'; '.join(missing) or 'none'}."))
    for failure in comparison.failures:
        made.append((f"A run failed: {shown(failure.label)}, seed {failure.seed}", prose(failure.message)))
    return tuple(made)


def _missing(comparison: Comparison) -> list[str]:
    missing = []
    for label in comparison.labels:
        done = {run.seed for run in comparison.of(label)}
        seeds = [str(seed) for seed in comparison.seeds if seed not in done]
        if seeds:
            missing.append(f"{shown(label)} (seed{'s' if len(seeds) > 1 else ''} {listing(seeds)})")
    return missing
