"""Write the figures of results/*.json into README.md."""

from __future__ import annotations

import json
from pathlib import Path

from paired import RESULTS, Check, Spread

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def figures() -> str:
    """One heading and one Markdown table for each benchmark."""
    blocks = []
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        lines = [
            f"### {path.stem}",
            "",
            f"{record['date']}, {record['device']}, threads: {record['threads']}, Python {record['python']}, "
            f"torch {record['torch']}, {record['repeats']} repeats"
            + (", while nothing else computed" if record["alone"] else f", beside a load of {record['load']}"),
            "",
            "| figure | median (quartiles) | target | |",
            "|---|---|---|---|",
        ]
        for item in record["checks"]:
            item.pop("verdict")
            detail = {label: Spread(**spread) for label, spread in item.pop("detail").items()}
            check = Check(**{**item, "measured": Spread(**item["measured"]), "detail": detail})
            times = ", ".join(f"{label} {spread.median * 1e3:.3g} ms" for label, spread in detail.items())
            what = f"{check.what}: {times}" if times else check.what
            lines.append(f"| {what} | {check.measured.show(check.unit)} | {check.goal} | {check.verdict} |")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def with_figures(text: str) -> str:
    """The README with its figures replaced by those of the results."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + figures() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(with_figures(README.read_text()))
