"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import Result

from calling import torchdecay
from torchdecay.cli import main
from torchdecay.cli.group import COMMANDS
from torchdecay.errors import TaskError
from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.engines.runs import Progress
from torchdecay.plans.plan import Plan

SOURCE = Path(__file__).parents[1] / "src"

USERS_MODULE = """
import torch
from torchdecay.lab import Data, Task

class Fragile(torch.nn.Linear):
    def forward(self, x):
        if self.training and self.weight.detach().norm() < 0.1:
            raise RuntimeError("too small to go on")
        return super().forward(x)

def data(seed):
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed))
    return Data(train=(x[:20], x[:20, :1]), test=(x[20:], x[20:, :1]))

def task():
    return Task(name="mine", data=data, model=lambda: Fragile(4, 1), loss=torch.nn.functional.mse_loss,
                optimizer=lambda groups: torch.optim.SGD(groups, lr=0.01), num_steps=40)

def long_task():
    return Task(name="long", data=data, model=lambda: torch.nn.Linear(4, 1), loss=torch.nn.functional.mse_loss,
                num_steps=1500, eval_every=1500)

def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))

instance = model()

def nothing():
    return None

def odd():
    made = torch.nn.Linear(2, 2)
    made.mystery = torch.nn.Parameter(torch.randn(2, 3, 4))
    return made
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A user's module in the current folder; its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"users_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(USERS_MODULE)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def call(users: str) -> Callable[..., Result]:
    """Run `torchdecay` in the user's folder; an exception that is no exit fails the test."""
    return torchdecay


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


# help


def test_help_teaches_with_examples(call: Callable[..., Result]) -> None:
    """Every command stands in the help, and each one's own help has an example that names it."""
    text = call("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in text
        own = call(name, "--help").stdout
        # What `run` prints is the script's.
        assert ("--json" in own) is (name not in ("run", "serve"))
        if name != "demo":
            assert f"\n    torchdecay {name}" in own
    assert "Exit codes: 0 fine" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_in_the_help_parses(name: str) -> None:
    """No example in the help shows an option that does not exist."""
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.help is not None
    examples = [line.strip() for line in command.help.splitlines() if line.strip().startswith(f"torchdecay {name}")]
    for example in examples:
        words = example.split(">")[0].split()[2:]
        command.make_context(name, words)


@pytest.mark.long
def test_the_command_line_loads_nothing_that_a_command_does_not_need() -> None:
    """Help waits neither for plots nor for tables, nor for the lab."""
    code = "import sys, torchdecay.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "rich", "matplotlib", "pandas", "sklearn", "jinja2", "transformers"} - _with_torch()
    assert "torchdecay.lab.comparisons.compare" not in done.stdout.split()


def _with_torch() -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, torch; print(*sys.modules)"], capture_output=True, text=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_version_is_the_packages(call: Callable[..., Result]) -> None:
    """What a bug report needs."""
    import torchdecay

    assert call("--version").stdout.strip() == torchdecay.__version__


def test_it_runs_as_a_module(users: str) -> None:
    """`python -m torchdecay` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "torchdecay", "compare", "--list"], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0 and "module:function" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compaire", "digits"], 'Nearest: "compare"'),
        (["compare"], "Missing argument 'TASK'"),
        (["compare", "digits", "--sedes", "3"], "--seeds"),
        (["compare", "digits", "--seeds", "many"], "neither a number"),
        (["compare", "digits", "--seeds", "0"], "nothing to run"),
        (["compare", "digitss"], 'Nearest: "digits"'),
        (["compare", "digits", "--decay", "decopled:1"], 'Nearest: "decoupled"'),
        (["compare", "digits", "--decay", "decoupled:-1"], "outside its range"),
        (["compare", "digits", "--decay", "decoupled:nan"], "finite"),
        (["compare", "digits", "--decay", "decoupled:much"], "coefficient is 'much'"),
        (["compare", "digits", "--decay", "per_step:2"], "outside its range"),
        (["compare", "digits", "--decay", "decoupled:1000"], "remove 1 of each weight per step"),
        (["compare", "digits", "--decay", "none", "--decay", "none"], "asked for twice"),
        (["compare", "csv"], "needs --data FILE and --target COLUMN"),
        (["compare", "csv", "--data", "no.csv", "--target", "y"], "there is no file no.csv"),
        (["compare", "no_such_module:task"], "there is no module"),
        (["plan", "no_such_module:model"], "there is no module"),
        (["plan", "model"], "not of the form module:name"),
        (["plan", "{users}:modle"], 'Nearest: "model"'),
        (["plan", "{users}:nothing"], "gives a NoneType, not a model"),
        (["plan", "{users}:model", "--rules", "tim"], 'Nearest: "timm"'),
        (["explain", "{users}:model", "0.wieght"], 'Nearest: "0.weight"'),
        (["example", "--decay", "-1"], "outside its range"),
        (["report", "nowhere.json"], "can't be read"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(
    call: Callable[..., Result], users: str, words: list[str], said: str
) -> None:
    """On stderr, without a traceback, and nothing is written."""
    before = set(Path().iterdir())
    result = call(*(word.format(users=users) for word in words), code=2)
    assert said in result.stderr and "Traceback" not in result.output
    assert result.stdout == ""
    assert {path for path in set(Path().iterdir()) - before if path.name != "__pycache__"} == set()


def test_a_missing_library_is_told_with_its_extra(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's mistake, so exit code 1, with the command that installs it."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    result = call("example", code=1)
    assert "pip install 'torchdecay[lab]'" in result.stderr


# example, plan, explain


def test_m3_the_example_is_one_command(call: Callable[..., Result]) -> None:
    """The printed digits of the sources, step by step, and the same as JSON."""
    text = call("example").stdout
    for row in (".4386  .0597  .3980  .7380  .1825", ".2489 -.1300  .2084  .5483 -.0072", ".0089  .0678  .3714 -.1136"):
        assert row in text
    for step in ("d(loss)/dw", "d(penalty)/dw", "lr * d(loss)/dw", "lr * d(penalty)/dw", "New weights"):
        assert step in text
    data = json.loads(call("example", "--decay", "0.5", "--json").stdout)
    assert [update["weight_decay"] for update in data["updates"]] == [0.5]


@pytest.mark.parametrize("target", ["model", "instance"])
def test_plan_prints_a_row_per_parameter(call: Callable[..., Result], users: str, target: str) -> None:
    """Who, how, and why, with the counts below."""
    text = call("plan", f"{users}:{target}", "--decay", "coupled:0.01").stdout
    assert "coupled(0.01)" in text and "biases are spared" in text and "1 of 4 parameters decay" in text


def test_plan_as_json_is_a_plan(call: Callable[..., Result], users: str) -> None:
    """What is printed can be kept and read back."""
    made = Plan.from_json(call("plan", f"{users}:model", "--rules", "torch", "--json").stdout)
    assert [row.decay is not None for row in made.rows] == [True] * 4


def test_warnings_of_a_plan_are_told_apart_from_its_table(call: Callable[..., Result], users: str) -> None:
    """A parameter of unknown role is a line on stderr, without source lines of ours."""
    result = call("plan", f"{users}:odd", "--json")
    assert result.stderr.startswith("UnknownRoleWarning: 1 parameters of unknown role")
    json.loads(result.stdout)


def test_explain_gives_the_reason(call: Callable[..., Result], users: str) -> None:
    """For several parameters at once, as text and as JSON."""
    text = call("explain", f"{users}:model", "0.weight", "1.weight").stdout
    assert "decoupled(0.1)" in text and "spared" in text
    assert set(json.loads(call("explain", f"{users}:model", "0.bias", "--json").stdout)) == {"0.bias"}


def test_a_configuration_of_transformers_is_a_model(call: Callable[..., Result]) -> None:
    """Built without memory for its weights, repeated layers folded."""
    pytest.importorskip("transformers")
    text = call("plan", "transformers:LlamaConfig").stdout
    assert "model.layers.*.self_attn.q_proj.weight" in text and "225 of 291 parameters decay" in text
    assert "3 of 4" not in text
    assert call("plan", "transformers:GPT2LMHeadModel", "--all").stdout.count("attn.c_attn.weight") == 12


# compare, report, demo


def test_compare_writes_a_page_and_every_number(call: Callable[..., Result], users: str) -> None:
    """The user's own task: curves and verdict on the terminal; page, figures and JSON in the folder."""
    words = ["compare", f"{users}:task", "--decay", "none", "--decay", "coupled:0.1", "--seeds", "2"]
    result = call(*words)
    folder = Path("torchdecay-mine")
    assert f"Page: {folder / 'index.html'}" in result.stdout
    assert "coupled:0.1: test loss" in result.stdout and "at the end" in result.stdout
    made = Comparison.from_json((folder / "results.json").read_text())
    assert len(made.runs) == 4 and made.command == " ".join(["torchdecay", *words])
    assert made.versions["torchdecay"] and made.created
    assert list(folder.glob("figures/*.svg")) and (folder / "index.html").stat().st_size > 10_000
    assert "done (4 of 4 runs" in result.stderr


def test_compare_as_json_is_only_json(call: Callable[..., Result], users: str) -> None:
    """Programs read stdout; progress goes to stderr."""
    result = call(
        "compare", f"{users}:task", "--decay", "none", "--seeds", "7,9", "--steps", "3", "--out", "o", "--json"
    )
    data = json.loads(result.stdout)
    assert data["page"] == "o/index.html" and [run["seed"] for run in data["runs"]] == [7, 9]
    assert data["runs"][0]["steps"] == [0, 3] and data["verdict"]


def test_a_failing_run_costs_no_other_and_shows_in_the_exit_code(call: Callable[..., Result], users: str) -> None:
    """The page of the finished runs is written all the same."""
    result = call("compare", f"{users}:task", "--decay", "none", "--decay", "decoupled:50", "--seeds", "1", code=1)
    assert "FAILED decoupled:50, seed 0: RuntimeError: too small to go on" in result.stdout
    assert len(Comparison.from_json(Path("torchdecay-mine/results.json").read_text()).runs) == 1


def test_when_nothing_finished_earlier_results_stay(call: Callable[..., Result], users: str) -> None:
    """An empty page does not replace a full one."""
    call("compare", f"{users}:task", "--decay", "none", "--seeds", "1")
    before = Path("torchdecay-mine/results.json").read_text()
    result = call("compare", f"{users}:task", "--decay", "decoupled:50", "--seeds", "1", code=1)
    assert "no page was written" in result.stdout
    assert Path("torchdecay-mine/results.json").read_text() == before


@pytest.mark.parametrize("out", ["file/inside", "file"])
def test_a_folder_that_can_not_be_written_is_told_before_training(
    call: Callable[..., Result], users: str, out: str
) -> None:
    """Not after minutes of it."""
    Path("file").write_text("in the way")
    result = call("compare", f"{users}:task", "--out", out, code=2)
    assert "Nothing was trained" in result.stderr and "done" not in result.stderr


def test_asking_whether_a_folder_can_be_written_leaves_nothing_behind(call: Callable[..., Result], users: str) -> None:
    """A decay that means nothing leaves no empty folders."""
    call("compare", f"{users}:task", "--decay", "decoupled:200", "--out", "a/b", code=2)
    assert not Path("a").exists()


@pytest.mark.long
def test_report_writes_the_page_again(call: Callable[..., Result], users: str) -> None:
    """From results.json or its folder, without training; a damaged file is told and the page stays."""
    call("compare", f"{users}:task", "--decay", "none", "--seeds", "1", "--out", "o")
    page = Path("o/index.html").read_text()
    Path("o/index.html").unlink()
    assert call("report", "o").stdout.strip() == "Page: o/index.html"
    assert Path("o/index.html").read_text() == page
    assert json.loads(call("report", "o/results.json", "--out", "p.html", "--json").stdout) == {"page": "p.html"}
    Path("o/results.json").write_text("{")
    call("report", "o", code=2)
    assert Path("o/index.html").read_text() == page


@pytest.mark.long
def test_csv_from_the_command_line(call: Callable[..., Result]) -> None:
    """The user's own file, from end to end."""
    pytest.importorskip("sklearn")
    lines = [f"{i},{'ab'[i % 2]},{'yes' if i % 2 else 'no'}" for i in range(60)]
    Path("t.csv").write_text("\n".join(["number,letter,answer", *lines]))
    words = ["csv", "--data", "t.csv", "--target", "answer", "--decay", "none", "--seeds", "1", "--steps", "200"]
    assert "test accuracy" in call("compare", *words).stdout
    assert Path("torchdecay-csv/index.html").exists()


@pytest.mark.integration
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_finished_runs_and_writes_their_page(users: str, tmp_path: Path, sent: signal.Signals) -> None:
    """A real interrupt in a real process, and what a cluster sends: exit 1, a page of what is done, no traceback."""
    words = ["compare", f"{users}:long_task", "--decay", "none", "--decay", "decoupled:0.1", "--seeds", "500"]
    process = subprocess.Popen(
        [sys.executable, "-m", "torchdecay", *words, "--out", "o"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path,
        # A shell starts what runs in its background deaf to interrupts, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "seed 0: done" in first, first
    time.sleep(0.1)
    process.send_signal(sent)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    assert "Stopped early" in out and "Traceback" not in err
    made = Comparison.from_json((tmp_path / "o" / "results.json").read_text())
    assert made.interrupted and 1 <= len(made.runs) < 1000
    assert (tmp_path / "o" / "index.html").exists() and not (tmp_path / "o" / "so-far.json").exists()


@pytest.mark.integration
def test_a_kill_leaves_the_results_so_far(users: str, tmp_path: Path) -> None:
    """kill -9 costs the run in flight: what was finished stands in a file that report reads."""
    words = ["compare", f"{users}:long_task", "--decay", "none", "--decay", "decoupled:0.1", "--seeds", "500"]
    process = subprocess.Popen(
        [sys.executable, "-m", "torchdecay", *words, "--out", "o"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    assert process.stderr is not None
    assert all("done" in process.stderr.readline() for _ in range(2))
    process.kill()
    process.communicate()
    (kept,) = (tmp_path / "o").iterdir()
    made = Comparison.from_json(kept.read_text())
    assert kept.name == "so-far.json" and made.interrupted and len(made.runs) >= 1


def test_a_comparison_goes_on_with_its_store(
    call: Callable[..., Result], users: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped and resumed with more seeds: each run is made once, and the numbers are those of a single call."""
    from torchdecay.cli.progress import Bar

    words = ["compare", f"{users}:task", "--decay", "none", "--decay", "decoupled:1", "--store", "r.db", "--seeds", "3"]

    def stop(self: Bar, progress: Progress) -> None:
        if progress.runs_done == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "__call__", stop)
        call(*words, "--json", "--out", "a", code=1)
    call(*words, "--out", "refused", code=2)
    rest = call(*words, "--resume", "--out", "b")
    assert rest.stderr.count(": done") == 2
    call(*words[:-4], "--seeds", "3", "--out", "c")
    once, again = (Comparison.from_json(Path(name, "results.json").read_text()) for name in ("c", "b"))
    assert [dataclasses.replace(run, seconds=0) for run in again.runs] == [
        dataclasses.replace(run, seconds=0) for run in once.runs
    ]


def test_a_disk_that_fills_costs_the_page_and_no_number(
    call: Callable[..., Result], users: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the page can't be written the numbers are there, the message says where, and it is no wrong use."""

    def full(*_: object, **__: object) -> None:
        raise TaskError("the results can't be written: no space left on device.")

    monkeypatch.setattr("torchdecay.reports.report", full)
    words = ["compare", f"{users}:task", "--decay", "none", "--seeds", "1", "--out", "o"]
    done = call(*words, code=1)
    assert "Every number is in o/so-far.json" in done.stderr and "test loss" in done.stdout
    assert len(Comparison.from_json(Path("o", "so-far.json").read_text()).runs) == 1


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks that ship, cut to four steps."""
    pytest.importorskip("sklearn")
    import dataclasses

    from torchdecay.lab.tasks import registry

    few = {
        name: (lambda make=make: dataclasses.replace(make(), num_steps=4, seeds=(0, 1)))
        for name, make in registry.BUILT_IN.items()
    }
    monkeypatch.setattr(registry, "BUILT_IN", few)


@pytest.mark.long
@pytest.mark.usefixtures("few_steps")
def test_demo_shows_the_example_and_both_tasks_on_one_page(call: Callable[..., Result]) -> None:
    """Every part of the demo, here with few steps; the page's path is the last line."""
    text = call("demo").stdout
    assert ".2489 -.1300" in text and "Overfitting" in text and "Handwritten digits" in text
    assert text.splitlines()[-1] == "Page: torchdecay-demo/index.html"
    assert Path("torchdecay-demo/index.html").exists()


@pytest.mark.long
@pytest.mark.usefixtures("few_steps")
def test_demo_interrupted_in_its_first_task_still_shows_what_there_is(
    call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second task is not begun, the page has what is finished, and the exit code says so."""
    from torchdecay.cli.progress import Bar

    def stop(self: Bar, progress: Progress) -> None:
        if progress.steps_done > 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "__call__", stop)
    data = json.loads(call("demo", "--json", code=1).stdout)
    assert set(data["verdicts"]) == {"digits"} and "1 of 8 runs were finished" in data["verdicts"]["digits"]
    assert Path(data["page"]).exists()
