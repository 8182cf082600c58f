"""`module:function`: the user's own task is found, or what is wrong with it is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.custom import custom, load
from torchdecay.lab.training.train import train

GOOD = """
import torch
from torchdecay.lab import Data, Task

def data(seed):
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed))
    return Data(train=(x[:20], x[:20, :1]), test=(x[20:], x[20:, :1]))

def my_task():
    return Task(name="mine", data=data, model=lambda: torch.nn.Linear(4, 1),
                loss=torch.nn.functional.mse_loss, num_steps=3)

ready = my_task()
number = 3

def wrong():
    return {"name": "mine"}

def raises():
    return 1 / 0

def wants(argument):
    return argument
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write a module into the current folder; its name is new each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(text: str) -> str:
        name = f"users_own_{len(list(tmp_path.iterdir()))}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("users_own"):
            del sys.modules[name]


def test_a_users_task_is_found_in_the_current_folder_and_trains(module: Callable[[str], str]) -> None:
    """A function that returns a Task, or a Task by name."""
    name = module(GOOD)
    assert train(custom(f"{name}:my_task"), "decoupled:0.1").steps == (0, 3)
    assert custom(f"{name}:ready").name == "mine"


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("my_tusk", 'Nearest: "my_task"'),
        ("wrong", "gives a dict, not a Task"),
        ("number", "gives an int, not a Task"),
        ("raises", r"raises: ZeroDivisionError: division by zero \(at .*users_own.*, line 20\)"),
        ("wants", "missing 1 required positional argument"),
    ],
)
def test_what_is_wrong_with_a_users_task_is_told(module: Callable[[str], str], member: str, said: str) -> None:
    """Its own errors come with file and line, and no traceback of ours around them."""
    with pytest.raises(TaskError, match=said):
        custom(f"{module(GOOD)}:{member}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_library_anywhere", "can't be imported: ModuleNotFoundError"),
        ("def broken(:", "raises while it is imported: SyntaxError"),
        ("raise ValueError('no good')", "raises while it is imported: ValueError: no good"),
    ],
)
def test_a_module_that_does_not_import_is_told(module: Callable[[str], str], text: str, said: str) -> None:
    """The user's own import error is not taken for a missing module."""
    with pytest.raises(TaskError, match=said):
        custom(f"{module(text)}:my_task")


def test_a_missing_module_is_told_with_the_nearest_file(module: Callable[[str], str]) -> None:
    """The typo in the module's name."""
    name = module(GOOD)
    with pytest.raises(TaskError, match=rf'there is no module "{name}x"(.|\n)*Nearest: "{name}"'):
        load(f"{name}x:my_task")


@pytest.mark.parametrize("text", ["", ":", "module:", ":name", "module"])
def test_something_that_is_no_module_and_name_is_told(text: str) -> None:
    """With an example of the form."""
    with pytest.raises(TaskError, match="not of the form module:name"):
        load(text)
