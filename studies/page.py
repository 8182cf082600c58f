"""Write docs/evidence.md from results/*.json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from study import HERE, VERDICTS, Claim, names, plus_minus, read, with_interval

PAGE = HERE.parent / "docs" / "evidence.md"
HEAD = """# Evidence

<p class="lead" markdown="span">What decay does, asked in small studies and measured. What did not
hold says so, and so does what these seeds can't tell.</p>

Each study is a file of the folder `studies` and one command; `make evidence` runs them all, and writes this page from
the numbers that they keep in `studies/results`, one for each seed. A claim says beforehand where a number is to lie.
It **held** where the 95 % t interval over the seeds lies there, and **did not hold** where the interval lies
elsewhere. It is **null** where the interval lies across an edge: these seeds can't tell. Each claim is judged by
itself, so one of twenty may be judged wrongly by chance. The tasks are small, minutes on one thread of a CPU. What a
paper says of large models is not refuted by a small one. Where a setup was changed after it was run, the
[log](log.md) says so.
"""
HEADINGS = {"held": "Held", "did not hold": "Did not hold", "null": "Null: these seeds can't tell"}
TAIL = """## Measured elsewhere

| what | where | command |
| --- | --- | --- |
| which of forty public bugs lint, audit, verify and the monitor find | [gallery](gallery.md) | \
`python examples/gallery/table.py --write` |
| how many runs each search needs | [which value?](sweep.md#what-it-does) | `python benchmarks/bench_search.py` |
| how often a sweep over values that do nothing claims a difference | [which value?](sweep.md#what-it-does) | \
`make studies` |
| what each form costs | [speed](speed.md) | `python benchmarks/bench_forms.py` |
| the tasks at other strengths | [tasks](tasks.md) | `torchdecay compare NAME` |
"""


def page(studies: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    said = [claim.verdict for record in studies.values() for claim in claims_of(record)]
    held, other, null = map(said.count, VERDICTS)
    parts = [
        HEAD,
        f"**{len(said)} claims of {len(studies)} studies**: {held} held, {other} did not, {null} are null.\n",
    ]
    for verdict in VERDICTS:
        entries = [
            [
                claim.said + (f" ({cited(claim.source)})" if claim.source else ""),
                f"{claim.number}: **{with_interval(claim)}**",
                claim.place,
                link(name, record),
            ]
            for name, record in studies.items()
            for claim in claims_of(record)
            if claim.verdict == verdict
        ]
        parts.append(f"## {HEADINGS[verdict]}\n")
        parts.append(
            table(["claim", "measured, with its 95 % interval", "had to be", "study"], entries)
            if entries
            else "None.\n"
        )
    parts += [section(record) for record in studies.values()]
    if waiting := [f"`python studies/{name}.py`" for name in names() if name not in studies]:
        parts.append(f"## Not measured yet\n\nWritten, and not run: {', '.join(waiting)}.\n")
    return "\n".join([*parts, TAIL])


def claims_of(record: Mapping[str, Any]) -> list[Claim]:
    """As they were before they were written."""
    known = Claim.__dataclass_fields__
    return [Claim(**{key: value for key, value in one.items() if key in known}) for one in record["claims"]]


def cited(source: str) -> str:
    return re.sub(r"arXiv (\d+\.\d+)", r"[arXiv \1](https://arxiv.org/abs/\1)", source)


def link(name: str, record: Mapping[str, Any]) -> str:
    # As MkDocs makes an anchor of a heading.
    anchor = re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", record["question"]).strip().lower())
    return f"[{name}](#{anchor})"


def section(record: Mapping[str, Any]) -> str:
    """One study: question, setup, and what was measured."""
    seeds = ", ".join(map(str, record["seeds"]))
    machine = f"{record['device']}, threads: {record['threads']}, beside a load of {record['load']}"
    where = f"{record['date']}, {record['seconds']} s on {machine}"
    parts = [
        f"## {record['question']}\n",
        record["setup"] + "\n",
        f"`{record['command']}`: seeds {seeds}; torch {record['torch']}, Python {record['python']}; {where}.\n",
        *grids(record["rows"]),
        *(f"{note}\n" for note in record["notes"]),
    ]
    return "\n".join(parts)


def grids(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each set of quantities: mean and standard deviation over seeds."""
    kinds = dict.fromkeys(tuple(row["measured"]) for row in rows)
    return [
        table(
            ["mean ± standard deviation over seeds", *kind],
            [
                [row["setting"], *(plus_minus(values) for values in row["measured"].values())]
                for row in rows
                if tuple(row["measured"]) == kind
            ],
        )
        for kind in kinds
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(read()), encoding="utf-8")
