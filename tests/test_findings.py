"""One machinery of findings: audit, alarms of the monitor and lint are chosen, kept and written alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import torchdecay as td
from sarif_schema import SCHEMA
from torchdecay.cli import main
from torchdecay.errors import PlanError
from torchdecay.findings.baseline import Baseline
from torchdecay.observe.audit.catalog import CATALOG
from torchdecay.observe.audit.result import Audit
from torchdecay.observe.monitor.catalog import ALARMS, CODES
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.series import Event
from torchdecay.observe.recorded.record import RunRecord

SETUP = """
import torch
from torch import nn

def setup():
    model = nn.ModuleDict({"gate": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})
    return torch.optim.AdamW(model.parameters(), weight_decay=0.1), model
"""


def model() -> nn.Module:
    return nn.ModuleDict({"gate": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})


def audited(**more: object) -> Audit:
    made = model()
    found: Audit = td.audit(torch.optim.AdamW(made.parameters(), weight_decay=0.1), model=made, **more)
    return found


def test_parameters_that_are_meant_so_are_left_out_by_pattern() -> None:
    """Names go, and a finding without any name goes with them."""
    assert [one.names for one in audited()] == [("gate.bias",), ("norm.weight", "norm.bias")]
    (left,) = audited(ignore={"WD101": ["gate.*", "*.bias"]})
    assert left.names == ("norm.weight",)
    assert audited(ignore={"WD1": ["*"]}).findings == () == audited(ignore=["WD1"]).findings
    assert audited().filter(ignore={"WD101": "*.bias"}).findings == (left,)
    with pytest.raises(PlanError, match="WD199"):
        audited(ignore={"WD199": ["*"]})


def test_severities_can_be_said() -> None:
    """The longest prefix wins; `.ok` follows."""
    assert [one.severity for one in audited(severity={"WD1": "error", "WD101": "info"})] == ["info", "info"]
    assert audited(severity={"WD101": "info"}).ok and not audited(severity={"WD1": "error"}).ok
    with pytest.raises(PlanError, match="loud"):
        audited(severity={"WD101": "loud"})


def test_a_baseline_of_an_audit_knows_parameters() -> None:
    known = Baseline.from_json(Baseline.of(audited().findings).to_json())
    assert audited().without(known).findings == ()
    assert len(audited(ignore={"WD101": ["norm.bias"]}).without(known)) == 1, "other parameters are another finding"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "meant.py").write_text(SETUP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["audit", *words])


def test_the_command_keeps_what_is_known_and_reads_pyproject(project: Path) -> None:
    assert run("meant:setup").exit_code == 1 and "recipe torch or" in run("meant:setup").stderr
    assert run("meant:setup", "--baseline", "known.json", "--update-baseline").exit_code == 0
    assert run("meant:setup", "--baseline", "known.json").exit_code == 0
    table = '[tool.torchdecay.audit]\nignore = {WD101 = ["gate.*", "norm.*"]}\n'
    (project / "pyproject.toml").write_text(table)
    assert run("meant:setup").exit_code == 0
    assert run("meant:setup", "--ignore", "WD2").exit_code == 1, "what is typed wins"
    (project / "pyproject.toml").write_text("[tool.torchdecay.audit]\nfix = true\n")
    assert run("meant:setup").exit_code == 2


def test_the_command_explains_lists_and_writes_sarif(project: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert CATALOG["WD101"].why in run("--explain", "WD101").output
    assert ALARMS["WD602"].why in run("--explain", "WD602").output and "Mended:" in run("--explain", "wd501").output
    assert run("--list-rules").output.count("\n") == len(CATALOG)
    body = json.loads(run("meant:setup", "--format", "sarif").stdout)
    jsonschema.validate(body, SCHEMA)
    places = [one["locations"][0]["logicalLocations"] for one in body["runs"][0]["results"]]
    names = [[one["fullyQualifiedName"] for one in some] for some in places]
    assert names == [["gate.bias"], ["norm.weight", "norm.bias"]]
    assert run().exit_code == 2


def test_alarms_have_codes_and_are_findings() -> None:
    """Every kind that the monitor raises has a code of its own."""
    source = (Path(td.__file__).parent / "observe" / "monitor" / "alarms.py").read_text()
    assert all(f'"{kind}"' in source for kind in CODES) and len(CODES) == len(ALARMS)
    event = Event(step=3, kind="lost", group="a", more=("b",), what="decay took nothing.", why="Why.", fix="Fix.")
    found = History(events=(event,)).findings
    assert event.code == "WD602" and found.codes == ("WD602",) and found[0].names == ("a", "b") and not found.ok
    assert found.filter(ignore={"WD602": ["a", "b"]}).ok and json.loads(found.to_sarif())["runs"][0]["results"]


def alarmed(**more: object) -> tuple[History, list[str]]:
    """A training in which decay takes half of two groups per step, and what `on_alarm` was told."""
    made, told = model(), list[str]()
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.5, weight_decay=1.0)
    with td.Monitor(optimizer, model=made, on_alarm=lambda one: told.append(str(one)), **more) as monitor:
        for param in made.parameters():
            param.grad = torch.ones_like(param)
        optimizer.step()
    return monitor.history, told


def test_alarms_are_left_out_by_code_and_group_and_take_other_severities(tmp_path: Path) -> None:
    """What is meant so is neither told nor kept; a severity stays in the file."""
    history, told = alarmed()
    assert [one.groups for one in history.events] == [("gate", "bias", "norm")] and len(told) == 1
    history, told = alarmed(ignore={"WD607": ["norm", "b*"]}, severity={"WD6": "error"}, path=tmp_path / "run.jsonl")
    assert [one.groups for one in history.events] == [("gate",)] and "norm" not in told[0]
    assert [one.severity for one in td.History.load(tmp_path / "run.jsonl").findings] == ["error"]
    for ignore in (["WD607"], {"WD6": ["*"]}):
        assert alarmed(ignore=ignore)[0].events == () and alarmed(ignore=ignore)[1] == []
    for wrong in ({"ignore": ["WD101"]}, {"severity": {"WD607": "loud"}}):
        with pytest.raises(PlanError):
            alarmed(**wrong)


def test_what_watches_a_script_follows_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of audit and monitor, each for its own; a wrong one is a note, and the script goes on."""
    monkeypatch.chdir(tmp_path)
    pyproject = tmp_path / "pyproject.toml"
    made = model()
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.5, weight_decay=1.0)
    for param in made.parameters():
        param.grad = torch.ones_like(param)

    def watched(text: str) -> RunRecord:
        pyproject.write_text(text)
        with td.watch() as seen:
            optimizer.step()
        return seen.record

    (seen,) = watched('[tool.torchdecay.monitor]\nseverity = {WD6 = "error"}\n').seen
    assert [one.severity for one in seen.history.findings] == ["error"] and "WD101" in seen.audit.codes
    (seen,) = watched('[tool.torchdecay.monitor]\nignore = ["WD607"]\n[tool.torchdecay.audit]\nignore = ["WD"]\n').seen
    assert seen.history.events == () and seen.audit.findings == ()
    record = watched("[tool.torchdecay.monitor]\nignroe = []\n")
    assert any('Nearest: "ignore"' in note for note in record.summary.notes) and record.seen[0].history.events


def test_a_recipe_judges_in_place_of_the_standard() -> None:
    """Norm gains that decay on purpose are no finding under Moonlight's recipe; without one the nearest is named."""
    assert audited(recipe="moonlight").findings == () == audited(recipe=td.policies.torch).findings
    assert [one.code for one in audited(recipe="timm")] == ["WD113"]
    assert "recipe torch or torchtitan" in audited().nearest
    made = model()
    groups = td.param_groups(made, 0.1, rules=[td.rule("norm.bias"), *td.policies.timm])
    found = td.audit(torch.optim.AdamW(groups), model=made)
    assert found.nearest.endswith(", but for 1 parameter")
    with pytest.raises(PlanError, match="moonlight"):
        audited(recipe="moonligth")
    with pytest.raises(PlanError, match="model="):
        td.audit(torch.optim.AdamW(made.parameters()), recipe="timm")
