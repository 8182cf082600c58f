"""Tasks by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.catalog import ABOUT
from torchdecay.lab.tasks.fashion import FILES, VARIABLE
from torchdecay.lab.tasks.registry import BUILT_IN, task_named
from torchdecay.lab.training.contenders import as_contenders


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_built_in_task_is_found_and_its_own_decays_can_be_parsed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ships can be run without naming decays or seeds."""
    for file in FILES:
        (tmp_path / file).touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    task = task_named(name)
    assert task.name == name and name in ABOUT and task.title
    assert as_contenders(task.decays)[0].what is None


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("overfitt", {}, 'Nearest: "overfit"'),
        ("houses.csv", {}, "csv --data FILE --target COLUMN"),
        ("csv", {}, "needs --data FILE and --target COLUMN"),
        ("csv", {"data": Path("x.csv")}, "needs --target COLUMN"),
        ("digits", {"target": "y"}, "belong to the task csv"),
        ("digits", {"data": Path("x.csv")}, "takes no data"),
        ("fashion", {"data": Path("x"), "target": "y"}, "belong to the task csv"),
        ("fashion", {"data": Path("no/such/folder")}, "apt install dataset-fashion-mnist"),
        ("groking", {}, 'Nearest: "grokking"'),
        ("digits", {"categorical": ("y",)}, "belong to the task csv"),
        ("no_such_module_here:task", {}, "there is no module"),
    ],
)
def test_a_task_that_is_not_there_is_told(name: str, options: dict[str, Any], said: str) -> None:
    """Unknown names, and options that belong elsewhere."""
    with pytest.raises(TaskError, match=said):
        task_named(name, **options)
