"""The audit of popular training snippets tells the truth: what each file says of itself, and nothing once mended."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import torchdecay as td

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "audit"
SNIPPETS = ("nanogpt", "hf_trainer", "timm_like", "detectron2_like", "lightning_like", "lora", "muon_split", "fsdp")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(name: str) -> tuple[str, ...]:
    """The codes in the line `Found:` of a snippet's docstring."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    found = re.search(r"^Found: (.+)$", text, re.MULTILINE)
    assert found is not None, f"{name}.py does not say what is found in it"
    return tuple(found[1].split(", "))


def audited(made: Any) -> td.Audit:
    return td.audit(**made) if isinstance(made, dict) else td.audit(made[0], model=made[1])


def test_all_eight_are_here() -> None:
    """A new file has to be listed."""
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SNIPPETS)


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name != "fsdp"])
def test_a_snippet_has_what_it_says_and_its_mended_form_has_nothing(name: str) -> None:
    """No code more, none less; without the mistake no error and no warning is left."""
    if name == "lora":
        pytest.importorskip("peft")
    torch.manual_seed(0)
    module = load(name)
    found = audited(module.setup())
    assert tuple(sorted(found.codes)) == told(name), str(found)
    mended = audited(module.fixed())
    assert mended.ok, str(mended)


@pytest.mark.distributed
def test_sharded_over_two_processes(tmp_path: Path) -> None:
    """Each process finds the same."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "fsdp.py"), str(tmp_path)], capture_output=True, text=True, env=env, timeout=240
    )
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        wrong, mended = (tmp_path / f"{rank}.txt").read_text().split("\n")
        assert tuple(sorted(wrong.split(","))) == told("fsdp") and mended == ""
    assert "It moves nothing of this model" in done.stdout


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_docs_walk_through_it(name: str) -> None:
    """Each snippet has a section in docs/audit.md that names the same codes and the file."""
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    sections = re.split(r"^### ", page, flags=re.MULTILINE)
    mine = [section for section in sections if f"`examples/audit/{name}.py`" in section.split("\n##")[0]]
    assert len(mine) == 1
    assert tuple(sorted(set(re.findall(r"\bWD\d{3}\b", mine[0])))) == told(name)
