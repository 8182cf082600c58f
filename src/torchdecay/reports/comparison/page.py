"""The page of a comparison: charts, tables and words."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from torchdecay.lab.comparisons.statistics import mean
from torchdecay.reports.article import Article, Card, Fold, Page, Section, Table, article_on, page_with
from torchdecay.reports.comparison.curves import curve_chart, label_styles
from torchdecay.reports.comparison.gaps import gap_chart
from torchdecay.reports.comparison.notices import notices_of
from torchdecay.reports.comparison.planned_and_measured import HEAD, KEYS, acting_charts, acting_remarks, acting_rows
from torchdecay.reports.comparison.scans import scan_charts
from torchdecay.reports.comparison.sentences import headline, verdict
from torchdecay.reports.comparison.series import curve_name
from torchdecay.reports.drawing.chart import Chart, Key
from torchdecay.text import capital, means_and_spreads, number, prose, shown

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.training.results import PlanSummary

MOST_PLAN_ROWS = 200
_COLUMNS = ("train_loss", "test_loss", "gap", "validation_loss", "train_score", "test_score", "validation_score",
            "weight_norm")  # fmt: skip
_HOW_TO_READ = (
    "Training loss far below test loss: the model learned rows by heart. Decay should close that gap without lifting "
    "the test loss.",
    "Bands or points that overlap: these seeds can't tell the decays apart.",
    "A value belongs to its optimizer, learning rate and number of steps; compare half-lives between runs, not values.",
)


def page_of(comparison: Comparison) -> Page:
    """The page of one comparison."""
    return page_with(article_of(comparison), **{"results.json": comparison.to_json(verdict=verdict(comparison))})


def article_of(comparison: Comparison) -> Article:
    """What the page says."""
    look = label_styles(comparison)
    said, sure = headline(comparison)
    return article_on(
        comparison,
        verdict(comparison),
        _HOW_TO_READ,
        Card("The same again"),
        name=shown(comparison.task, most=30),
        title=shown(comparison.title or comparison.task),
        headline=said,
        sure=sure,
        notices=notices_of(comparison),
        hero=gap_chart(comparison, "score" if comparison.score_name else "loss"),
        keys=tuple(
            Key(shown(label), look[index], index)
            for index, label in enumerate(comparison.labels)
            if comparison.of(label)
        ),
        sections=tuple(_sections(comparison)),
    )


def _sections(comparison: Comparison) -> Iterator[Section]:
    def curves(*names: str) -> tuple[Chart, ...]:
        return tuple(filter(None, (curve_chart(comparison, name) for name in names)))

    several = any(len(comparison.of(label)) > 1 for label in comparison.labels)
    band = "Lines are means over seeds, bands reach from the lowest to the highest seed." if several else ""
    # With a score, that is what the page opens with, and how the loss ended stands beside its curves.
    ended = tuple(filter(None, [gap_chart(comparison, "loss")])) if comparison.score_name else ()
    if comparison.score_name:
        yield Section(
            "score",
            f"{capital(comparison.score_name)} while training",
            f"{band} Left to right the same axis: what separates the pictures is the gap.".strip(),
            curves("train_score", "validation_score", "test_score"),
            short="Score",
            tracked=True,
        )
    yield Section(
        "loss",
        "Loss while training",
        f"The loss of the task alone, without any penalty. {'' if comparison.score_name else band}".strip(),
        (*curves("train_loss", "validation_loss", "test_loss"), *ended),
        short="Loss",
        tracked=True,
    )
    yield Section(
        "norms",
        "Weight and gradient norms",
        "The norm of all weights that may decay, whether or not they do, and of the gradient of the loss.",
        curves("weight_norm", "gradient_norm"),
        short="Norms",
        tracked=True,
    )
    yield Section(
        "acting",
        "Planned and measured",
        "What decay alone would have left of the weights: dashed as forecast before the training, solid as measured "
        "in it. Where the lines separate, decay was lost or exceeded the plan. Dotted: the norm, in percent of that "
        "at the start. What lies between is what the updates gave back.",
        acting_charts(comparison),
        KEYS,
        Table(HEAD, acting_rows(comparison)),
        acting_remarks(comparison),
    )
    scans = tuple(scan_charts(comparison))
    # One legend above them where it is that of all.
    keys = {chart.keys for chart in scans}
    yield Section(
        "line",
        "Why shrinking weights changes the loss",
        "All weights that may decay are multiplied by α, from 0 (gone) past 1 (the solution that was found) "
        "and beyond. A penalty grows with α, so its sum with the loss is least at smaller weights than the loss. "
        "Marks show where each curve is least. Of each decay, the first seed.",
        scans,
        keys.pop() if len(keys) == 1 else (),
        short="Why it works",
    )
    spread = "Mean ± standard deviation over seeds, after the last step."
    alone = "One seed each, after the last step: no spread can be given."
    csv = ("final", runs_as_csv(comparison))
    yield Section("finals", "Final numbers", spread if several else alone, table=_table(comparison), csv=csv)
    plans = tuple(_fold(comparison.plans[label]) for label in comparison.labels if label in comparison.plans)
    yield Section("plans", "Which parameters decayed, and why", folds=plans, short="Who decayed")


def _columns(comparison: Comparison) -> list[str]:
    needed = {"gap": "test_loss"}
    return [one for one in _COLUMNS if any(getattr(run, needed.get(one, one)) is not None for run in comparison.runs)]


def _table(comparison: Comparison) -> Table:
    names = _columns(comparison)
    heads = ("Loss gap" if name == "gap" else capital(curve_name(name, comparison)) for name in names)
    labels = [label for label in comparison.labels if comparison.of(label)]
    columns = [means_and_spreads([comparison.mean_and_spread(label, name) for label in labels]) for name in names]
    rows = tuple(
        (shown(label), str(len(runs)), *cells, number(mean([run.seconds for run in runs])))
        for label, *cells in zip(labels, *columns, strict=True)
        if (runs := comparison.of(label))
    )
    return Table(("Decay", "Seeds", *heads, "Seconds"), rows)


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


def _fold(plan: PlanSummary) -> Fold:
    rows = tuple(
        (shown(row.name), " × ".join(map(str, row.shape)) or "scalar", shown(row.role), shown(row.decay) or "spared",
         prose(row.reason))
        for row in plan.rows[:MOST_PLAN_ROWS]
    )  # fmt: skip
    return Fold(
        head=shown(plan.label),
        summary=prose(plan.summary),
        equation=prose(plan.equation),
        lines=tuple(filter(None, [prose(plan.how)])),
        table=Table(("Parameter", "Shape", "Role", "Decay", "Why"), rows),
        left_out=max(0, len(plan.rows) - MOST_PLAN_ROWS),
    )
