"""The names that users write and the version that they see."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
from pathlib import Path

import pytest

import torchdecay
from torchdecay.errors import need

ROOT = Path(__file__).parents[1]

# ── The public names, all of them. One that leaves this tuple breaks somebody's code: the changelog says so.
# ── One that enters it is documented, or the build fails.
PUBLIC_NAMES: tuple[str, ...] = (
    "ApplyError",
    "Audit",
    "DEFAULT",
    "Decay",
    "DecayError",
    "Finding",
    "Forecast",
    "DetachedWarning",
    "ForgottenPenaltyWarning",
    "GroupForecast",
    "Handle",
    "History",
    "LoadError",
    "LoadReport",
    "Lowering",
    "MissingExtra",
    "Monitor",
    "NotCompiledWarning",
    "NotRecordedWarning",
    "OwnershipWarning",
    "PeakWarning",
    "Plan",
    "PlanDiff",
    "PlanError",
    "Rescaled",
    "Run",
    "STANDARD",
    "Scale",
    "Site",
    "Split",
    "Suggestion",
    "TaskError",
    "TorchdecayError",
    "TornHistoryWarning",
    "UnitError",
    "UnknownRoleWarning",
    "attach",
    "attach_each",
    "audit",
    "cautious",
    "convert",
    "corrected",
    "coupled",
    "decoupled",
    "elastic_net",
    "exempt",
    "figure",
    "forecast",
    "forms",
    "independent",
    "inspect",
    "l1",
    "layerwise",
    "load_ipython_extension",
    "load_optimizer",
    "lower",
    "names",
    "native",
    "ndim",
    "param_groups",
    "penalized",
    "penalty",
    "per_step",
    "plan",
    "policies",
    "report",
    "rescale",
    "role",
    "rule",
    "scale_invariant",
    "schedules",
    "spare_rows",
    "split",
    "suggest",
    "times",
    "toward",
    "unload_ipython_extension",
    "verdict",
    "verify",
    "watch",
)


def versions(root: Path) -> dict[str, str]:
    """Read the version out of every file that states one."""
    module = ast.parse((root / "src/torchdecay/_version.py").read_text(encoding="utf-8"))
    stated = {
        "_version.py": next(
            str(ast.literal_eval(node.value))
            for node in module.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
        )
    }
    for file, pattern in {
        "CITATION.cff": r"^version: *(\S+)$",
        "CHANGELOG.md": r"^## (\d\S*)",
    }.items():
        match = re.search(pattern, (root / file).read_text(encoding="utf-8"), re.MULTILINE)
        stated[file] = match.group(1) if match else "none"
    return stated


def test_the_public_names_are_these() -> None:
    """No public name comes or goes by accident."""
    assert tuple(sorted(torchdecay.__all__)) == tuple(sorted(PUBLIC_NAMES))
    assert [name for name in torchdecay.__all__ if not hasattr(torchdecay, name)] == []


def test_dir_shows_the_public_names() -> None:
    """Completion in a notebook offers each public name, also one that is loaded late."""
    assert set(torchdecay.__all__) <= set(dir(torchdecay))


def test_one_version_everywhere() -> None:
    """A release cannot name two versions: the package, the citation and the changelog say the same."""
    assert set(versions(ROOT).values()) == {torchdecay.__version__}


def test_a_seeded_second_version_is_seen(tmp_path: Path) -> None:
    """The reader of versions does not overlook a file that was forgotten."""
    (tmp_path / "src/torchdecay").mkdir(parents=True)
    for file in ("src/torchdecay/_version.py", "CITATION.cff", "CHANGELOG.md"):
        (tmp_path / file).write_text((ROOT / file).read_text(encoding="utf-8"), encoding="utf-8")
    citation = (tmp_path / "CITATION.cff").read_text(encoding="utf-8")
    (tmp_path / "CITATION.cff").write_text(re.sub(r"(?m)^version: .*$", "version: 9.9.9", citation), encoding="utf-8")
    assert len(set(versions(tmp_path).values())) == 2


def test_the_installed_metadata_say_what_the_files_say() -> None:
    """What pip shows is this version, light to install: numpy and the lab's libraries are extras."""
    try:
        metadata = importlib.metadata.metadata("torchdecay")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("torchdecay is on the path, but not installed; `make test` installs it")
    needs = importlib.metadata.requires("torchdecay") or []
    core = {re.split(r"[^\w-]", need)[0] for need in needs if "extra ==" not in need}
    assert metadata["Version"] == torchdecay.__version__
    assert core == {"torch", "click", "rich", "tomli"}


def test_a_missing_extra_is_one_that_there_is() -> None:
    """Every library that is asked for when it is needed names an extra of the package, and too old a one is refused."""
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "need" and len(node.args) == 2:
                named |= {one.value for one in node.args[1:] if isinstance(one, ast.Constant)}
    table = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    extras = set(re.findall(r"(?m)^(\w+) = \[", table.partition("\n[")[0]))
    assert {"fastai", "lightning", "skorch", "transformers", "wandb"} <= named <= extras
    with pytest.raises(torchdecay.MissingExtra, match=r"needs torch 99.1 or newer, and .*"):
        need("torch", "lab", at_least="99.1")
    with pytest.raises(torchdecay.MissingExtra, match=r"no_such_library[\s\S]*torchdecay\[lab\]"):
        need("no_such_library", "lab")


def test_contributing_names_files_that_are_there() -> None:
    """Who wants to add something is led to a file or a folder that exists, for each kind of thing."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = text.partition("| you want to add | touch |")[2].splitlines()[2:]
    assert len(rows) >= 8
    for row in rows:
        paths = [path for path in re.findall(r"`([^`]+)`", row) if "/" in path]
        assert paths and [path for path in paths if not (ROOT / path).exists()] == [], row


def test_every_constraint_is_a_plain_pin() -> None:
    """The constraints make both commands of the README repeatable: exact versions, and no addresses."""
    files = sorted(ROOT.glob("constraints*.txt"))
    lines = [line for file in files for line in file.read_text().splitlines() if not line.startswith("#")]
    pin = re.compile(r"[a-z0-9-]+==[\w.!]+( ; python_(full_)?version (<|>=) \"[\d.]+\")?")
    assert [line for line in lines if not pin.fullmatch(line)] == []
    assert "torch==2.13.0" in lines


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process has no workers")
@pytest.mark.xdist_group("together")
def test_the_tests_of_a_group_run_on_one_worker(request: pytest.FixtureRequest) -> None:
    """What a group shares, such as a training or a cluster, is made once and not once per worker."""
    assert request.node.nodeid.endswith("@together")
