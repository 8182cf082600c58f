"""A model's roles as a table that people can review, one line for each pattern of names; run as a script, writes it.

PYTHONPATH=src python tests/golden/tables.py [NAME ...]      writes tests/golden/roles/NAME.txt, then read the diff
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

from torch import nn

from torchdecay.plans.census import census

FOLDER = Path(__file__).parent / "roles"
_INDEX = re.compile(r"(?<![^. ])\d+(?![^. ])")


def table(model: nn.Module) -> str:
    """Pattern, role, kind, shape; how many share the line; what is tied, exempt or frozen."""
    lines: dict[tuple[str, ...], int] = {}
    for parameter in census(model):
        remarks = [f"exempt by {_INDEX.sub('*', parameter.exempt)}"] if parameter.exempt else []
        others = dict.fromkeys(
            f"{_INDEX.sub('*', name)} as {role}"
            for name, role in zip(parameter.names[1:], parameter.roles[1:], strict=True)
        )
        remarks += [f"also {other}" for other in others]
        remarks += [] if parameter.trainable else ["frozen"]
        line = (
            _INDEX.sub("*", parameter.name),
            parameter.role,
            parameter.kind or "-",
            "x".join(map(str, parameter.shape)) or "()",
            "; ".join(remarks),
        )
        lines[line] = lines.get(line, 0) + 1
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "".join(
        "  ".join([*map(str.ljust, line[:4], widths), f"n={count}", line[4]]).rstrip() + "\n"
        for line, count in lines.items()
    )


def version(library: str) -> str:
    return importlib.metadata.version(library).partition("+")[0]


def read(name: str) -> tuple[str, str]:
    """(versions it was made with, table)."""
    head, _, body = (FOLDER / f"{name}.txt").read_text().partition("\n")
    return head.removeprefix("# "), body


def versions(library: str) -> str:
    return ", ".join(f"{one} {version(one)}" for one in {"peft": ("peft", "transformers")}.get(library, (library,)))


if __name__ == "__main__":
    from architectures import ARCHITECTURES, LIBRARY

    for wanted in sys.argv[1:] or ARCHITECTURES:
        try:
            text = f"# {versions(LIBRARY[wanted])}\n{table(ARCHITECTURES[wanted]())}"
        except ImportError as error:
            print(f"{wanted}: left as it is, {error}", file=sys.stderr)
            continue
        (FOLDER / f"{wanted}.txt").write_text(text)
