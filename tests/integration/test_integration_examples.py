"""The examples of the frameworks run as they are, and what they return is what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import torchdecay as td

pytestmark = pytest.mark.peers
FOLDER = Path(__file__).parents[2] / "examples" / "integrations"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_trains_with_the_decay_that_it_asks_for(path, tmp_path, monkeypatch):
    """Each has a `main` that returns the history of what decay did."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as missing:
        if (missing.name or "torchdecay").partition(".")[0] == "torchdecay":
            raise
        pytest.skip(f"{missing.name} is not installed")
    history = module.main()
    assert isinstance(history, td.History) and not history.events
    planned = history.shrink("weight")
    assert planned.realized[-1] > 0
