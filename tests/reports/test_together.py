"""Several results on one page."""

from __future__ import annotations

import json
import math
import re
from html import unescape
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import torchdecay as td
from reports import samples
from torchdecay.cli import main
from torchdecay.errors import TaskError
from torchdecay.observe.monitor.history import History

pytestmark = pytest.mark.long


def history(wd: float, path: Path, *, norm: bool = True, steps: int = 20) -> History:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), *([torch.nn.LayerNorm(8)] if norm else []))
    optimizer = torch.optim.AdamW(td.param_groups(model, wd), lr=0.01)
    with td.Monitor(optimizer, model=model, every_steps=5, path=path) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    return monitor.history


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("histories")
    made = folder / "weak.jsonl", folder / "<b>strong.jsonl"
    for path, wd, norm in zip(made, (0.1, 5.0), (True, False), strict=True):
        history(wd, path, norm=norm)
    return made


def test_trainings_stand_side_by_side(files: tuple[Path, Path], tmp_path: Path) -> None:
    """One line a training in the charts of each group that two of them have, and the numbers of each in a table."""
    both = {path.name: History.load(path) for path in files}
    text = td.report(both, tmp_path / "both.html").read_text(encoding="utf-8")
    curves = [json.loads(unescape(one)) for one in re.findall(r'data-curves="([^"]*)"', text)]
    together = [one for one in curves if {line["label"] for line in one["lines"]} == set(both)]
    # Two groups, each with norm, update and learning rate; of the weights, what decay took besides.
    assert len(together) == 7
    # 20 steps, each of a learning rate of .01 times .1.
    assert "weight: decay took 1.98 % in weak.jsonl and" in text
    for name, one in both.items():
        shrink = one.shrink("weight").realized
        assert shrink is not None
        drawn = next(each for each in together if abs(each["lines"][1]["y"][-1]) > 0)
        line = next(each for each in drawn["lines"] if each["label"] == name)
        assert line["y"][-1] == pytest.approx(100 * math.exp(-shrink[-1]), rel=1e-4)
    assert "norm, weak.jsonl" not in text
    assert "<b>strong" not in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_trainings_of_other_lengths_are_not_compared_without_a_word(tmp_path: Path) -> None:
    """What decay took in 20 steps stands beside what it took in 40: the steps are said."""
    made = {"short": history(0.1, tmp_path / "short.jsonl"), "long": history(0.1, tmp_path / "long.jsonl", steps=40)}
    text = td.report(made, tmp_path / "both.html").read_text(encoding="utf-8")
    assert "decay took 1.98 % in short (steps 1 to 20) and 3.92 % in long (steps 1 to 40)." in text


def test_other_results_follow_each_other(tmp_path: Path) -> None:
    """A comparison and a plan have nothing to lay over each other: each stands by itself."""
    plan = td.plan(torch.nn.Linear(2, 2), td.decoupled(0.1))
    page = td.report({"one": samples.comparison(), "two": plan}, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "Side by side" not in text
    assert text.count("<article") == 2
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]


def test_none_and_too_many_are_refused(tmp_path: Path) -> None:
    """More lines than a reader tells apart are no page."""
    plan = td.plan(torch.nn.Linear(2, 2), td.decoupled(0.1))
    with pytest.raises(TaskError, match="0 results don't make a page"):
        td.report({}, tmp_path / "out")
    with pytest.raises(TaskError, match=r"13 results don't make a page(.|\n)*at most 12"):
        td.report({str(i): plan for i in range(13)}, tmp_path / "out")


def test_the_command_takes_several_files(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by their paths; a file twice is refused, and nothing of the files changes."""
    monkeypatch.chdir(tmp_path)
    before = [path.read_bytes() for path in files]
    done = CliRunner().invoke(main, ["report", *map(str, files)])
    assert done.exit_code == 0, done.output
    assert "Page: torchdecay-report/index.html" in done.output
    assert [path.read_bytes() for path in files] == before
    done = CliRunner().invoke(main, ["report", str(files[0]), str(files[0])])
    assert done.exit_code == 2
    assert "named twice" in done.output
