"""Pages of results that are a table and a sentence: findings, plans, what was read, measured and suggested."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torchdecay.reports.article import Article, Page, Section, Table, page_with
from torchdecay.text import counted, listing, number, prose, shown, spelled

if TYPE_CHECKING:
    from torchdecay.findings.result import Findings
    from torchdecay.lab.directions.hypergradient import Hypergradient
    from torchdecay.lab.directions.result import Direction
    from torchdecay.lab.sweeps.ladder import Ladder
    from torchdecay.observe.units.rescaled import Rescaled
    from torchdecay.observe.units.suggestion import Suggestion


Said = tuple[str, str, str, Table, tuple[str, ...]]
"""Title, sentence, heading of the table, table, and what else is to be said."""


def page_of(result: Any) -> Page:
    """The page: a sentence, a table, and what else is to be said."""
    id, (title, said, heading, table, remarks) = _said(result)
    rows = tuple(tuple(map(prose, row)) for row in table.rows)
    section = Section(id, heading, table=Table(table.head, rows), remarks=tuple(map(prose, remarks)))
    return page_with(Article(id=f"{id}-page", title=title, headline=prose(said), sections=(section,)))


def verdict(result: Any) -> str:
    """The page's sentence, and what else is to be said."""
    _, (_, said, _, _, remarks) = _said(result)
    return "\n".join(map(prose, (said, *remarks)))


def _said(result: Any) -> tuple[str, Said]:
    name = next(cls.__name__ for cls in type(result).__mro__ if cls.__name__ in SAYING)
    return name.lower(), SAYING[name](result)


def _findings(found: Findings) -> Said:
    rows = tuple(
        (one.code, one.severity, one.where, listing(one.names, most=8), one.what, one.why, one.fix) for one in found
    )
    left = tuple(f"Not looked into: {code} (needs {needs})." for code, needs in getattr(found, "skipped", ()))
    head = ("Code", "Severity", "Where", "Parameters", "What", "Why", "What to do")
    return "What was found about weight decay", f"{found.counts}.", "Findings", Table(head, rows), left


def _printed(title: str, heading: str) -> Callable[[Any], Said]:
    """For results that print as a table below a summary."""
    return lambda found: (title, found.summary, heading, as_table(found), ())


def _direction(found: Direction) -> Said:
    rows = tuple(
        (one.group, _change(one.mean), _within(one.low, one.high), one.move or "neither") for one in found.groups
    )
    head = ("Group", "Doubling changes the validation loss by", "95 % interval", "Decay should be")
    return "Where decay should be stronger or weaker", _moves(found), "The groups", Table(head, rows), ()


def _hypergradient(found: Hypergradient) -> Said:
    rows = tuple((one.group, f"{len(one.names):,}", f"{one.slope:.4g}") for one in found.slopes)
    trust = "converged" if found.converged else "did not converge, so nothing follows from it"
    said = (
        f"The validation loss is {number(found.loss)}; the linear system {trust} (residual {found.residual:.1g} after "
        f"{counted(found.iterations, 'product')}); the gradient left is {found.unrest:.1%} of the decay's pull."
    )
    table = Table(("Group", "Parameters", "dV/d ln λ"), rows)
    return "How the validation loss answers to each coefficient", said, "The groups", table, ()


def _ladder(found: Ladder) -> Said:
    rows = []
    for size, one, best in zip(found.sizes, found.sweeps, found.optima, strict=True):
        chosen = "nothing" if one.best is None else "none" if one.best.point.is_bare else one.best.point.label
        place = "not known" if best is None else f"{spelled(best.low)} to {spelled(best.high)}"
        rows.append((f"{size:g}", chosen, "" if one.best is None else number(one.best.mean), place))
    exponent = found.exponent
    slope = "" if exponent is None else (
        f" The exponent of the best value over size is {exponent[0]:.2f} (95 % interval {exponent[1]:.2f} to "
        f"{exponent[2]:.2f})."
    )  # fmt: skip
    said = f"Nothing is said of other sizes: {found.why_not}.{slope}" if found.why_not else slope.strip()
    last = () if found.why_not else (f"Twice as large as the largest, if the line goes on: {_at(found)}.",)
    table = Table(("Size", "Chosen", "Validation", "Best value, 95 %"), tuple(rows))
    return "How the best value goes with size", said, "The sizes", table, last


def _at(found: Ladder) -> str:
    value, low, high = found.at(2 * found.sizes[-1])
    return f"{value:.3g} ({low:.3g} to {high:.3g})"


def _suggestion(found: Suggestion) -> Said:
    said = f"decoupled({found.value:.3g}), to sweep from {found.low:.3g} to {found.high:.3g}."
    rows = tuple(
        (one.rule, f"{one.value:.3g}", f"{one.low:.3g}", f"{one.high:.3g}", one.formula, str(one.source))
        for one in (found, *found.others)
    )
    table = Table(("Rule", "Weight decay", "From", "To", "Formula", "Source"), rows)
    return "Which weight decay to start from", said, "By each rule", table, found.remarks


def _rescaled(found: Rescaled) -> Said:
    said, *_ = str(found).splitlines()
    rows = tuple(
        (one.rule, f"{one.value:.4g}", one.formula, one.remark, "" if one.source is None else str(one.source))
        for one in found.versions
    )
    table = Table(("Rule", "Weight decay", "Formula", "What it keeps", "Source"), rows)
    left = tuple(f"Left out: {one}." for one in found.left_out)
    return "What a weight decay becomes in another run", said, "By each rule", table, left


SAYING: Mapping[str, Callable[[Any], Said]] = {
    "Direction": _direction,
    "Findings": _findings,
    "Hypergradient": _hypergradient,
    "Inspection": _printed("What the optimizer says about weight decay", "The groups"),
    "Ladder": _ladder,
    "Plan": lambda plan: _printed("Who decays, and why", "The parameters")(plan.table()),
    "Rescaled": _rescaled,
    "Suggestion": _suggestion,
    "Verification": _printed("What each group really does", "The groups"),
}


def as_table(result: Any) -> Table:
    """The table of whatever rich prints as one."""
    from rich import table as rich
    from rich.console import Console

    console = Console()
    found: Any
    (found,) = (one for one in result.__rich_console__(console, console.options) if isinstance(one, rich.Table))
    columns = [[shown(cell.plain, most=2000) for cell in column.cells] for column in found.columns]
    return Table(tuple(column.header.plain for column in found.columns), tuple(zip(*columns, strict=True)))


def direction_in_words(found: Direction) -> str:
    """What to move where, and how the validation loss answers to each group's coefficient."""
    lines = [_moves(found)]
    for one in found.groups:
        within = _within(one.low, one.high)
        change = _change(one.mean) + (f" (95 %: {within})" if within else "")
        lines.append(f"  {one.group}: doubling changes the validation loss by about {change}")
    return "\n".join(lines)


def _moves(found: Direction) -> str:
    if found.why_not:
        return f'No direction: {found.why_not}. Train for longer, or use method="differences".'
    moves = {move: [one.group for one in found.groups if one.move == move] for move in ("stronger", "weaker")}
    said = ", ".join(f"{move} on {' and '.join(names)}" for move, names in moves.items() if names)
    if not said:
        return f"No group's decay should measurably be stronger or weaker than {found.decay}."
    one = " One seed: how it differs between seeds is not known." if len(found.seeds) == 1 else ""
    return f"Against {found.decay}, decay should be {said}.{one}"


def _change(slope: float) -> str:
    return f"{slope * math.log(2):+.2%}"


def _within(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_change(low)} to {_change(high)}"
