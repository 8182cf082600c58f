"""Write the figures of results/*.json into README.md, and those of the forms into the docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paired import RESULTS, Check, Spread

README = Path(__file__).parent / "README.md"
SPEED = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def figures(*names: str) -> str:
    """One heading and one Markdown table for each benchmark, or for those that are named."""
    blocks = []
    for path in [RESULTS / f"{name}.json" for name in names] or sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        lines = [
            f"### {path.stem}",
            "",
            f"{record['date']}, {record['device']}, threads: {record['threads']}, Python {record['python']}, "
            f"torch {record['torch']}, {record['repeats']} repeats"
            + (", while nothing else computed" if record["alone"] else f", beside a load of {record['load']}"),
            "",
        ]
        checks = [_read(item) for item in record["checks"]]
        cells = {check.cell: check for check in checks if check.cell is not None}
        if cells:
            lines += [*_grid(cells), ""]
        if len(cells) < len(checks):
            lines += ["| figure | median (quartiles) | target | |", "|---|---|---|---|"]
        for check in checks:
            if check.cell is not None:
                continue
            times = ", ".join(f"{label} {spread.median * 1e3:.3g} ms" for label, spread in check.detail.items())
            what = f"{check.what}: {times}" if times else check.what
            lines.append(f"| {what} | {check.measured.show(check.unit)} | {check.goal} | {check.verdict} |")
        blocks.append("\n".join(lines).rstrip("\n") + "\n")
    return "\n".join(blocks)


def _read(item: dict[str, Any]) -> Check:
    item.pop("verdict")
    detail = {label: Spread(**spread) for label, spread in item.pop("detail").items()}
    cell = item.pop("cell", None)
    return Check(**{**item, "measured": Spread(**item["measured"]), "detail": detail, "cell": cell and tuple(cell)})


def _grid(cells: dict[tuple[str, str], Check]) -> list[str]:
    """Medians by row and column, each with the limit that it is held to; one that misses it is bold."""
    rows, columns = dict.fromkeys(row for row, _ in cells), dict.fromkeys(column for _, column in cells)
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for row in rows:
        shown = []
        for column in columns:
            check = cells.get((row, column))
            value = "" if check is None else _short(check.measured.median)
            limit = "" if check is None or check.target is None else f" (≤ {check.target:g})"
            shown.append(f"**{value}**{limit}" if check is not None and check.verdict == "FAIL" else value + limit)
        lines.append(f"| {row} | " + " | ".join(shown) + " |")
    return lines


def _short(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else "0"


def with_figures(text: str, *names: str) -> str:
    """A page with its figures replaced by those of the results."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + figures(*names) + "\n" + END + rest.split(END)[1]


FORMS = ("forms", "small", "peers")

if __name__ == "__main__":
    README.write_text(with_figures(README.read_text()))
    SPEED.write_text(with_figures(SPEED.read_text(), *FORMS))
