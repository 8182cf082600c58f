"""The lint reads source and nothing else: files of every kind, options, formats, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from torchdecay.cli import main
from torchdecay.errors import LoadError, PlanError
from torchdecay.integrations.lint.lint import lint

FAULTY = "import torch\n\nopt = torch.optim.AdamW(model.parameters())\n"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["lint", *map(str, words)])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one fault, as the current one."""
    (tmp_path / "train.py").write_text(FAULTY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_text_shows_the_line_and_points_at_it(project: Path) -> None:
    found = run()
    assert found.exit_code == 1
    assert found.output.splitlines()[:3] == [
        "train.py:3:7: WD501 warning: AdamW gets all of model.parameters() with weight_decay=0.01, its default",
        "    opt = torch.optim.AdamW(model.parameters())",
        "          ^^^^^^^^^^^^^^^^^",
    ]
    assert found.output.splitlines()[-1] == "0 errors, 1 warning, 0 notes, in 1 file"


def test_json_has_places(project: Path) -> None:
    body = json.loads(run("--json").output)
    assert body["format"] == "torchdecay.lint" and body["ok"] is False and body["num_files"] == 1
    place = body["findings"][0]["place"]
    assert (place["path"], place["line"], place["column"], place["end_column"]) == ("train.py", 3, 7, 24)


def test_github_annotations_point_at_the_line(project: Path) -> None:
    assert run("--format", "github").output.startswith(
        "::warning file=train.py,line=3,endLine=3,col=7,title=WD501 all parameters decay%2C biases and norms too::"
    )


def test_codes_are_chosen_by_prefix_and_an_unknown_one_is_refused(project: Path) -> None:
    assert run("--ignore", "WD50").exit_code == run("--select", "WD502").exit_code == 0
    refused = run("--select", "WD599")
    assert (refused.exit_code == 2 and "WD509" in refused.output) or "Nearest" in refused.output
    with pytest.raises(PlanError):
        lint([project], ignore=["E501"])


@pytest.mark.parametrize(
    ("comment", "kept"),
    [("# noqa", 0), ("# noqa: WD501", 0), ("#NOQA:E501,WD501", 0), ("# noqa: E501", 1), ("# no", 1)],
)
def test_noqa(tmp_path: Path, comment: str, kept: int) -> None:
    (tmp_path / "a.py").write_text(FAULTY.rstrip() + f"  {comment}\n")
    assert len(lint([tmp_path])) == kept


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("broken.py", b"def f(:\n", "no Python to this Python"),
        ("latin.py", b"x = '\xe9'  # parameters()\n", "its encoding"),
        ("utf16.py", "x = 1".encode("utf-16"), "its encoding"),
        ("cookie.py", b"# coding: nonsense\n", "its encoding"),
        ("zero.py", b"x = 1\0", "no Python to this Python"),
        ("deep.py", b"x = " + b"(" * 5000 + b")" * 5000, "nested"),
        ("sum.py", b"parameters(" + b"x + " * 5000 + b"x)", "nested"),
        ("large.py", b"x = 1\n" * 1_700_000, "MB"),
        ("book.ipynb", b"[1", "no notebook"),
        ("list.ipynb", b"[1]", "no notebook"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_read_is_reported_and_the_others_go_on(
    project: Path, name: str, raw: bytes, said: str
) -> None:
    (project / name).write_bytes(raw)
    found = lint([project])
    assert {one.code for one in found} == {"WD500", "WD501"}
    assert said in next(one.what for one in found if one.code == "WD500")
    assert run().exit_code == 1


def test_a_broken_link_is_reported_and_other_encodings_are_read(project: Path) -> None:
    (project / "gone.py").symlink_to("nowhere.py")
    (project / "latin.py").write_bytes("# -*- coding: latin-1 -*-\n# é\n".encode("latin-1") + FAULTY.encode())
    (project / "bom.py").write_bytes(b"\xef\xbb\xbf" + FAULTY.encode())
    assert [one.code for one in lint([project])] == ["WD501", "WD500", "WD501", "WD501"]


def test_a_folder_without_python_and_a_path_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    for path in (tmp_path, tmp_path / "none.py"):
        assert run(path).exit_code == 2
        with pytest.raises(LoadError):
            lint([path])


def test_a_notebook_is_one_program_and_a_finding_names_its_cell(project: Path) -> None:
    cells = [
        "import torch\n%matplotlib inline\n!pip install x",
        "not python",
        "%%bash\nls",
        "opt = torch.optim.AdamW(\n  m.parameters())",
    ]
    book = {
        "cells": [{"cell_type": "markdown", "source": "# hi"}] + [{"cell_type": "code", "source": c} for c in cells]
    }
    (project / "a.ipynb").write_text(json.dumps(book))
    (found,) = lint([project / "a.ipynb"])
    assert (
        found.where == "a.ipynb:cell 5:1:7"
        and found.place is not None
        and found.place.text == "opt = torch.optim.AdamW("
    )


def test_installed_and_hidden_files_are_left_out_of_a_folder(project: Path) -> None:
    for name in (".venv/a.py", "node_modules/a.py", ".hidden.py", "old/b.py"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(FAULTY)
    assert len(lint([project], exclude=["old"])) == 1
    assert len(lint([project])) == len(lint([project / ".venv" / "a.py", project / "train.py"])) == 2


def test_nothing_is_run_and_torch_is_not_imported(project: Path) -> None:
    """A file that would do harm if it were imported, and a folder that holds a torch and a click of its own."""
    harm = f"open({str(project / 'harm')!r}, 'w')\nraise SystemExit(3)\n"
    for name in ("torch.py", "setup.py", "conftest.py", "sitecustomize.py"):
        (project / name).write_text(harm + FAULTY.replace("import torch", "import torch as t; t"))
    script = (
        "import sys, click.testing; from torchdecay.cli import main;"
        "r = click.testing.CliRunner().invoke(main, ['lint', '.']); print(r.exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, cwd=project, check=True)
    assert done.stdout.split() == ["1", "False"] and not (project / "harm").exists()
