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
