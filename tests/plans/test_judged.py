"""Roles of layers of other libraries, each read by a person against its source; what is not installed is skipped.

A line of `golden/judged.txt`: what makes the module, then the role of each of its parameters that was judged.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from torchdecay.plans.census import census

JUDGED = (Path(__file__).parents[1] / "golden" / "judged.txt").read_text().splitlines()


class Libraries(dict[str, Any]):
    """Libraries by their names, imported when they are named; what is missing skips the test."""

    def __missing__(self, name: str) -> Any:
        if name == "torch":
            return torch
        try:
            return importlib.import_module(name.replace("__", "."))
        except (ImportError, RuntimeError, OSError) as error:
            pytest.skip(f"NOT COMPARED: {name} cannot be used here: {error}")


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", JUDGED, ids=lambda line: line.partition("(")[0].strip())
def test_the_roles_of_a_layer_are_those_that_were_judged(line: str) -> None:
    made, _, told = line.partition(" | ")
    model = eval(made, Libraries())
    found = {parameter.name: parameter.role for parameter in census(model)}
    expected = dict(one.split("=") for one in told.split())
    assert {name: found.get(name) for name in expected} == expected


def test_the_list_of_judged_layers_is_long_and_says_no_unknown() -> None:
    assert len(JUDGED) >= 60 and not any("unknown" in line for line in JUDGED)
