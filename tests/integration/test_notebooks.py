"""The notebooks run in a real kernel, and every result shows itself there: once, as HTML, on one screen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers
ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def kernel():
    """What notebooks are run by."""
    for library in ("nbclient", "ipykernel"):
        pytest.importorskip(library, reason=f"{library} is not installed")


def executed(notebook, folder):
    import nbclient

    client = nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(folder)}})
    return client.execute(env=os.environ | {"PYTHONPATH": str(ROOT / "src")})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_its_results(path, tmp_path):
    """Results are HTML in the notebook's own colors; nothing is printed beside them, and nothing is endless."""
    import nbformat

    assert len(NOTEBOOKS) == 2
    source = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in source.cells), "a notebook is kept without outputs"
    for cell in executed(source, tmp_path).cells:
        outputs = [one for one in cell.get("outputs", ()) if one.output_type != "stream"]
        last = (cell.source.splitlines() or [""])[-1]
        if cell.cell_type != "code" or not (last.isidentifier() or last.startswith("td.") or last.endswith("history")):
            continue
        (shown,) = outputs
        html = shown.data.get("text/html") or shown.data["image/svg+xml"]
        assert "<pre" in html or "<table" in html or "<svg" in html
        assert "max-height: 70vh" in html or "<svg" in html
        assert len(shown.data["text/plain"]) < 5000
        assert not any(one.output_type == "stream" and one.name == "stdout" for one in cell.outputs)


def test_a_table_is_text_where_text_is_asked_for(tmp_path):
    """`str` is not empty and shows nothing; `print` prints once."""
    import nbformat

    source = """
import torch, torchdecay as td
plan = td.plan(torch.nn.Linear(2, 2), 0.1)
text = str(plan.table())
assert "weight" in text and "bias" in text, repr(text)
assert str(td.inspect(torch.optim.SGD(plan.param_groups(torch.nn.Linear(2, 2)), lr=0.1)))
plan.table()
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    (shown,) = executed(notebook, tmp_path).cells[0].outputs
    assert shown.output_type == "execute_result" and "<table" in shown.data["text/html"]


TRAINING = """%%decay every_steps=5
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.LayerNorm(4))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
for _ in range(12):
    model(torch.randn(16, 8)).square().mean().backward()
    optimizer.step()
"last"
"""


def test_a_training_cell_shows_its_table_and_its_page_in_place(tmp_path):
    """What it makes stays in the notebook; a slip is a line, and a cell that fails is shown once and ends the run."""
    import nbformat

    cells = ["%load_ext torchdecay", TRAINING, "len(optimizer.state)", "%%decay every=5\n1", "%%decay\nx = 1"]
    cells += ["%unload_ext torchdecay", "%%decay\n1", "%load_ext torchdecay"]
    cells += ["%%decay\noptimizer.step()\nraise ValueError('mine')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    for expected in (3, 6):
        notebook.cells[expected].metadata["tags"] = ["raises-exception"]
    with pytest.raises(Exception, match="mine"):
        executed(notebook, tmp_path)
    _, trained, kept, slip, idle, unloaded, gone, _, failed = (one.outputs for one in notebook.cells)
    assert not unloaded and "`%%decay` not found" in gone[0].text
    last, table, audit, page = trained
    assert last.data["text/plain"] == "'last'" and kept[0].data["text/plain"] == "4"
    assert "decoupled(0.1)" in table.data["text/html"] and "<table>" in table.data["text/html"]
    assert "WD101" in audit.data["text/html"]
    assert page.data["text/html"].startswith("<div><iframe srcdoc=")
    for said in ("12 steps of AdamW", "Planned and realized", "td.watch(apply="):
        assert said in page.data["text/html"]
    assert "UsageError" in slip[0].text and "every_steps" in slip[0].text and len(slip) == 1
    assert idle[0].text == "torchdecay: no optimizer took a step in this cell. Nothing to show.\n"
    first, *_, again = [one for one in failed if one.output_type == "error"]
    assert "mine" in "".join(first.traceback) and len(first.traceback) > 1
    assert again.traceback == ["The cell under %%decay failed: see above."]
