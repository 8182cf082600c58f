"""Names are loaded when they are used: in any order, from one table, and torch only for what needs it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import torchdecay
import torchdecay.lab

pytestmark = pytest.mark.long

SOURCE = Path(__file__).parents[1] / "src" / "torchdecay"
PACKAGES = [torchdecay, torchdecay.lab]

# Each is as good a first line of a script as any other.
WAYS = [
    "from torchdecay import plan; assert callable(plan)",
    "import torchdecay as td; assert str(td.plan(torch.nn.Linear(2, 1), 0.1)['weight'].decay) == 'native(0.1)'",
    "import torchdecay.lab; assert callable(torchdecay.lab.compare) and callable(torchdecay.audit)",
    "from torchdecay.lab import sweep; assert callable(sweep)",
    "import torchdecay as td, pickle; made = td.plan(torch.nn.Linear(2, 1), td.cautious(0.1)); "
    "assert pickle.loads(pickle.dumps(made)) == made",
    "import torchdecay as td, inspect; assert 'rules' in inspect.signature(td.plan).parameters",
    "import torchdecay.plans.plan, torchdecay.observe.inspect, torchdecay.lab.sweeps.sweep; "
    "assert callable(torchdecay.plan) and callable(torchdecay.inspect) and callable(torchdecay.lab.sweep)",
    "from torchdecay import *; assert callable(verify) and callable(penalty)",
]

FORKS = """
import os, sys, torch
for code in sys.stdin.read().split("\\0"):
    assert "torchdecay" not in sys.modules
    child = os.fork()
    if not child:
        try:
            exec(code, {"torch": torch})
        except BaseException as error:
            print(f"{code}\\n  {type(error).__name__}: {error}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def fresh(*codes: str) -> list[str]:
    """What goes wrong in processes of their own, which have torch and have not seen torchdecay."""
    return run(FORKS, "\0".join(codes)).splitlines()


def run(code: str, given: str = "") -> str:
    path = os.pathsep.join([str(SOURCE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_way_in_works_before_and_after_every_other() -> None:
    """A lazy package must not depend on who came first: each as the first line, and then all the others."""
    assert fresh(*("\n".join([*WAYS[i:], *WAYS[:i]]) for i in range(len(WAYS)))) == []


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_public_name_can_be_the_first(every: int) -> None:
    """What a worker or a pickle asks for first is no matter of luck; tests/test_architecture.py refuses circles."""
    stubs = [ast.parse(path.read_text(encoding="utf-8")).body for path in SOURCE.rglob("__init__.pyi")]
    homes = {ast.unparse(node).partition(" import")[0].replace("from", "import") for stub in stubs for node in stub}
    assert len(homes) > 30 and fresh(*sorted(homes)[::every]) == []


def test_a_seeded_failure_is_seen() -> None:
    """The processes above are really run, and tell."""
    assert fresh("import torchdecay; torchdecay.plam", "import math") == [
        "import torchdecay; torchdecay.plam",
        "  AttributeError: module 'torchdecay' has no attribute 'plam'",
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import torchdecay",
        "import torchdecay.lab",
        "import torchdecay as td; dir(td), dir(td.lab), td.__version__, td.PlanError",
        "import torchdecay.integrations.script.steps, torchdecay.integrations.script.unseen",
        "import torchdecay.observe.units.converting, torchdecay.observe.audit.catalog, torchdecay.plans.forms",
        "import torchdecay as td; td.convert(0.1, 'decoupled', 'half_life', lr=1e-3)",
    ],
)
def test_torch_is_loaded_by_what_needs_it(code: str) -> None:
    """A conversion, a finding's text and a check of the version don't wait for torch."""
    assert run(f"{code}; import sys; print('torch' in sys.modules, 'numpy' in sys.modules)").split() == ["False"] * 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--help", "torchdecay convert"),
        ("--version", torchdecay.__version__),
        ("sweep --help", "--seeds"),
        ("convert 0.1 decoupled half_life --lr 1e-3", "6931.1"),
        ("convert --list", "timescale_epochs"),
        ("compare --list", "grokking"),
        ("comp", "plain,compare"),
        ("sweep --eng", "--engine"),
    ],
)
def test_the_command_line_starts_without_torch(words: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Help, the version, conversions, lists and the shell's completion of a half-typed word come at once."""
    if not says.startswith(("plain", "--engine")):
        code = f"main({words.split()}, standalone_mode=False)"
    else:
        monkeypatch.setenv("_TORCHDECAY_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", f"torchdecay {words}")
        monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
        code = "main(prog_name='torchdecay')"
    code = f"""
        import sys
        from torchdecay.cli import main
        try:
            {code}
        except SystemExit as end:
            assert not end.code
        print("torch" in sys.modules)
        """
    lines = run(textwrap.dedent(code)).splitlines()
    assert lines[-1] == "False" and says in "\n".join(lines)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_stub_is_the_table(package: object) -> None:
    """What type checkers and editors read is what is loaded, each name from the file that defines it."""
    stub = ast.parse(Path(str(package.__file__) + "i").read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    for node in stub.body:
        assert isinstance(node, ast.ImportFrom)
        (alias,) = node.names
        assert alias.name == alias.asname and alias.name in dir(package)
        found = getattr(package, alias.name)
        if isinstance(found, type) or callable(found):
            assert found.__module__.startswith(str(node.module))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_name_that_is_not_there_is_an_attribute_error(package: object) -> None:
    """As of any module, so that hasattr, pickle and import see it."""
    assert not hasattr(package, "torch") and not hasattr(package, "nothing")
    with pytest.raises(ImportError):
        exec(textwrap.dedent(f"from {package.__name__} import nothing"))  # type: ignore[attr-defined]


def test_what_is_read_by_name_is_gone_through_by_a_loop() -> None:
    """Without `__iter__` Python asks for number 0, and people get an error about a name that is none."""
    public = [getattr(package, name) for package in PACKAGES for name in package.__all__]
    read = [one for one in public if isinstance(one, type) and hasattr(one, "__getitem__")]
    assert len(read) > 5
    assert not [one.__name__ for one in read if not hasattr(one, "__iter__")]


def test_a_row_is_found_by_name_and_by_a_loop() -> None:
    """Of a plan and of a lowering; what is no name is told so."""
    model = torch.nn.Linear(2, 1)
    plan = torchdecay.plan(model, 0.1)
    lowering = torchdecay.lower(plan, torch.optim.SGD(plan.param_groups(model), lr=0.1))
    for rows in (plan, lowering):
        assert [row.name for row in rows] == ["weight", "bias"] and len(rows) == 2
        assert "weight" in rows and "nobody" not in rows and 0 not in rows
    with pytest.raises(torchdecay.PlanError, match=r"plan\[0\] is no name"):
        plan[0]


def test_names_that_are_offered_are_public() -> None:
    """Neither rooms nor what a package brings in for itself."""
    for package in (torchdecay, torchdecay.lab):
        offered = {name for name in dir(package) if not name.startswith("__")}
        assert offered >= {name for name in package.__all__ if not name.startswith("__")}
        assert not [name for name in offered if name.startswith("_")]
        assert not offered & {"lazy", "plans", "apply", "observe", "training", "storage"}
