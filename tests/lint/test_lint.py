"""The lint reads source and nothing else: files of every kind, options, formats, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sarif_schema import SCHEMA
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
    assert run("--ignore", "WD50").exit_code == run("--select", "WD502, WD516").exit_code == 0
    refused = run("--select", "WD599")
    assert (refused.exit_code == 2 and "WD509" in refused.output) or "Nearest" in refused.output
    with pytest.raises(PlanError):
        lint([project], ignore=["E501"])


@pytest.mark.parametrize(
    ("comment", "kept"),
    [("# noqa", 0), ("# noqa: WD501", 0), ("#NOQA:E501,WD501", 0), ("# noqa: E501", 1), ("# no", 1), ("#noqa:WD5", 0)],
)
def test_noqa(tmp_path: Path, comment: str, kept: int) -> None:
    (tmp_path / "a.py").write_text(FAULTY.rstrip() + f"  {comment}\n")
    assert len(lint([tmp_path])) == kept


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("broken.py", b"def f(:\n", "no Python 3."),
        ("latin.py", b"x = '\xe9'  # parameters()\n", "its encoding"),
        ("utf16.py", "x = 1".encode("utf-16"), "its encoding is UTF-16"),
        ("cookie.py", b"# coding: nonsense\n", "its encoding"),
        ("zero.py", b"x = 1\0", "no Python 3."),
        ("deep.py", b"x = " + b"(" * 5000 + b")" * 5000, "nested"),
        ("sum.py", b"parameters(" + b"x + " * 5000 + b"x)", "nested"),
        ("large.py", b"x = 1\n" * 1_700_000, "MB"),
        ("book.ipynb", b"[1", "no notebook"),
        ("list.ipynb", b"[1]", "no notebook"),
        ("page.py", b"<!DOCTYPE html>\n<title>decay</title>\n", "a page"),
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


WHOLE = "torch.optim.AdamW(m.parameters())"


@pytest.mark.parametrize(
    ("cell", "column"),
    [
        (f"%%time\n{WHOLE}", 1),
        (f"%%capture out\n%matplotlib inline\n{WHOLE}", 1),
        (f"%time opt = {WHOLE}", 13),
        (f"if x:\n    %timeit -n 3 -r 2 {WHOLE}", 23),
        (f"files = !ls\nhome = %env HOME\n{WHOLE}  # why?", 1),
        (f"!pip install \\\n    x\nmodel??\n?model\nx = ('%d'\n% 3)\n{WHOLE}", 1),
        (f"x = [\n    3 % a,  # why?\n]\n%matplotlib inline\n{WHOLE}", 1),
    ],
)
def test_what_only_ipython_knows_hides_no_line_of_python(project: Path, cell: str, column: int) -> None:
    book = {"cells": [{"cell_type": "code", "source": cell}]}
    (project / "a.ipynb").write_text(json.dumps(book))
    (found,) = lint([project / "a.ipynb"])
    assert found.place is not None and (found.code, found.place.column) == ("WD501", column)
    assert found.place.text in cell.split("\n") and found.place.line == cell[: cell.index("torch")].count("\n") + 1
    (project / "a.ipynb").write_text(json.dumps(book | {"metadata": {"kernelspec": {"language": "julia"}}}))
    assert lint([project / "a.ipynb"]).findings == ()


def test_a_cell_that_is_no_python_is_a_note(project: Path) -> None:
    cells = ["x = 1", "%time 1\nx = (", FAULTY]
    (project / "a.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": one} for one in cells]}))
    note, found = sorted(lint([project / "a.ipynb"]), key=lambda one: one.code)
    assert (note.code, note.severity, note.place and note.place.cell) == ("WD500", "info", 2) and "cell 2" in note.what
    assert found.where == "a.ipynb:cell 3:3:7"


def test_noqa_counts_on_the_last_line_of_a_statement(tmp_path: Path) -> None:
    call = FAULTY.replace("(model", "(\n    model").rstrip()[:-1] + "\n)"
    (tmp_path / "a.py").write_text(f"{call}  # noqa: WD501\n{call}\n")
    assert [one.place.line for one in lint([tmp_path]) if one.place] == [8]


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


def test_sarif_keeps_to_the_schema(project: Path) -> None:
    """Also of a notebook, whose cells' lines are no lines of the file, and of an audit, which has no files."""
    jsonschema = pytest.importorskip("jsonschema")
    book = {"cells": [{"cell_type": "code", "source": FAULTY}]}
    (project / "a b.ipynb").write_text(json.dumps(book))
    body = json.loads(run("--format", "sarif").output)
    jsonschema.validate(body, SCHEMA)
    notebook, script = body["runs"][0]["results"]
    assert notebook["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20b.ipynb", "uriBaseId": "%SRCROOT%"}
    }
    region = script["locations"][0]["physicalLocation"]["region"]
    assert (region["startLine"], region["startColumn"], region["endColumn"]) == (3, 7, 24)
    rules = body["runs"][0]["tool"]["driver"]["rules"]
    assert rules[script["ruleIndex"]]["id"] == script["ruleId"] == "WD501"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body | {"extra": 1}, SCHEMA)


def test_a_baseline_knows_findings_whose_lines_moved_and_tells_new_ones(project: Path) -> None:
    assert run("--baseline", "known.json", "--update-baseline").exit_code == 0
    (project / "train.py").write_text("# one\n# more\n" + FAULTY.replace("opt =", "opt  ="))
    assert run("--baseline", "known.json").exit_code == 0
    (project / "train.py").write_text(FAULTY + FAULTY)
    found = run("--baseline", "known.json")
    assert found.exit_code == 1 and "train.py:6:7" in found.output and "train.py:3" not in found.output


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "format"), ('{"format": "torchdecay.baseline", "version": 9}', "version 9"), ("[", "baseline")],
)
def test_another_baseline_is_refused(project: Path, text: str, said: str) -> None:
    (project / "known.json").write_text(text)
    found = run("--baseline", "known.json")
    assert found.exit_code == 2 and said in found.output
    assert run("--baseline", "none.json").exit_code == run("--update-baseline").exit_code == 2


CERTAIN = """\
import torch
no_decay = ["bias", "LayerNorm.weight"]  # é
groups = [
    {"params": [p for n, p in m.named_parameters() if n not in no_decay], "weigth_decay": "1e-2"},
    {"params": [p for n, p in m.named_parameters() if n in no_decay], "weight_decay": "0.0"},
]
opt = torch.optim.AdamW(groups)
"""


def test_fix_writes_what_is_certain_and_diff_only_shows_it(project: Path) -> None:
    (project / "train.py").write_bytes(b"# coding: latin-1\r\n" + CERTAIN.replace("\n", "\r\n").encode("latin-1"))
    shown = run("--diff", "train.py")
    assert (
        shown.exit_code == 1 and "+++ b/train.py" in shown.output and b"weigth" in (project / "train.py").read_bytes()
    )
    assert run("--diff", str(project / "train.py")).output == shown.output
    assert '"weight_decay": 1e-2' in shown.output and run("--fix", "--diff", "train.py").exit_code == 2
    written = run("--fix", "train.py")
    assert written.exit_code == 0 and written.output.count("Mended") == 1
    text = (project / "train.py").read_bytes().decode("latin-1")
    assert "if not any(part in n for part in no_decay)]" in text and '"weight_decay": 0.0' in text
    assert "weigth" not in text and text.count("\r\n") == text.count("\n") and "# é" in text
    assert run("--diff", "train.py").exit_code == 0


def test_pyproject_says_what_options_say(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(text: str) -> Result:
        (project / "pyproject.toml").write_text(f"[tool.torchdecay.lint]\n{text}\n")
        return run()

    assert says('ignore = ["WD501"]').exit_code == says('select = ["WD502"]').exit_code == 0
    assert says('select = ["WD502"]\nextend-select = ["WD501"]').exit_code == 1
    assert says('exclude = ["train.py"]').exit_code == 2
    assert says('per-file-ignores = {"tr*.py" = ["WD5"]}').exit_code == 0
    assert says('severity = {WD501 = "info"}').exit_code == 0
    assert "error: AdamW" in says('severity = {WD50 = "warning", WD501 = "error"}').output
    assert says('ignore = ["WD501"]').exit_code == 0 and run("--select", "WD501", "--ignore", "WD502").exit_code == 1
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    assert run("../train.py").exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.torchdecay.lint]\nselct = []", 'Nearest: "select"'),
        ("[tool.torchdecay.lint]\nselect = 'WD5'", "a list"),
        ("[tool.torchdecay.lint]\nselect = [5]", "list of text"),
        ("[tool.torchdecay.lint]\nignore = ['WD999']", "WD999"),
        ("[tool.torchdecay.lint]\nseverity = {WD501 = 'bad'}", "severity"),
        ("[tool.torchdecay]\nlint = 3", "Write [tool.torchdecay.lint]"),
        ("[tool.torchdecay.lint", "no TOML"),
    ],
)
def test_a_pyproject_that_says_nothing_sensible_is_refused(project: Path, text: str, said: str) -> None:
    (project / "pyproject.toml").write_text(text)
    found = run()
    assert found.exit_code == 2 and said in found.output


def test_rules_are_listed_and_explained(project: Path) -> None:
    listed = run("--list-rules").output.splitlines()
    assert [line[:5] for line in listed] == sorted(line[:5] for line in listed) and len(listed) == 18
    told = run("--explain", "wd511").output
    assert "Muon(model.parameters()" in told and "Mended:" in told
    unknown = run("--explain", "WD599")
    assert unknown.exit_code == 2 and "Nearest" in unknown.output


def test_severity_overrides_are_options_too(project: Path) -> None:
    assert run("--severity", "WD501=info").exit_code == 0
    assert run("--severity", "WD501").exit_code == run("--severity", "WD501=loud").exit_code == 2


YAML = "train:\n  lr: 1e-3\n  weight_decay: 1e-4  # small\n"


@pytest.mark.parametrize(
    ("reader", "severities"),
    [
        ("", ["info"]),
        ('import yaml\ncfg = yaml.safe_load(open("conf/a.yaml"))\n', ["warning"]),
        ('import yaml\ncfg = yaml.safe_load(open("b.yaml"))\n', ["info"]),
        ('import yaml\ncfg = yaml.safe_load(open("a.yaml"))\nwd = float(cfg["weight_decay"])\n', ["info"]),
    ],
)
def test_a_number_that_is_text_to_pyyaml(tmp_path: Path, reader: str, severities: list[str]) -> None:
    yaml = pytest.importorskip("yaml")
    (tmp_path / "a.yaml").write_text(YAML)
    (tmp_path / "read.py").write_text(reader or "x = 1\n")
    assert [(one.code, one.severity) for one in lint([tmp_path])] == [("WD509", one) for one in severities]
    assert isinstance(yaml.safe_load(YAML)["train"]["weight_decay"], str)
    (tmp_path / "a.yaml").write_text(YAML.replace("1e-4", "1.0e-4"))
    assert lint([tmp_path]).findings == () and isinstance(yaml.safe_load("a: 1.0e-4")["a"], float)


def test_an_option_is_unread_only_where_the_whole_project_was_looked_at(tmp_path: Path) -> None:
    option = 'import argparse\np = argparse.ArgumentParser()\np.add_argument("--weight_decay", type=float)\n'
    option += "args = p.parse_args()\n"
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "options.py").write_text(option)
    assert [one.severity for one in lint([tmp_path])] == ["warning"]
    assert [one.severity for one in lint([tmp_path / "options.py"])] == ["warning"], "the only file is the project"
    (tmp_path / "other.py").write_text("")
    assert [one.severity for one in lint([tmp_path / "options.py"])] == ["info"]
    (tmp_path / "train.py").write_text("from options import args\nprint(args.weight_decay)\n")
    assert lint([tmp_path]).findings == ()
    for text in ("run(**vars(args))", "build(args)", "logger.info(asdict(args))"):
        (tmp_path / "train.py").write_text(f"from options import args\n{text}\n")
        (tmp_path / "options.py").write_text(f"{option}from other import build\nbuild(args)\n")
        assert lint([tmp_path]).findings == ()


def test_an_option_is_not_read_by_files_that_have_nothing_to_do_with_it(tmp_path: Path) -> None:
    """Two scripts of a folder have options of one name: the second one reads its own."""
    option = 'import argparse\np = argparse.ArgumentParser()\np.add_argument("--weight_decay", type=float)\n'
    option += "args = p.parse_args()\n"
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "train.py").write_text(option)
    other = tmp_path / "finetune.py"
    other.write_text(f"{option}fit(args.weight_decay)\n")
    assert [one.place.path for one in lint([tmp_path]) if one.place] == [(tmp_path / "train.py").as_posix()]
    for imports in ("from .train import args", "import train as t", "from importlib import import_module"):
        other.write_text(f"{imports}\n{option}fit(args.weight_decay)\n")
        assert lint([tmp_path]).findings == ()
    (tmp_path / "shared.py").write_text("x = 1\n")
    other.write_text(f"import shared\n{option}fit(args.weight_decay)\n")
    (tmp_path / "train.py").write_text(f"from shared import (\n    x,\n)\n{option}")
    assert lint([tmp_path]).findings == (), "what both import may hand it on"


def test_many_files_are_read_by_several_processes_alike(tmp_path: Path) -> None:
    for number in range(210):
        (tmp_path / f"f{number:03}.py").write_text(FAULTY if number % 70 == 0 else "x = 1\n")
    assert lint([tmp_path], jobs=2) == lint([tmp_path], jobs=1)
