"""Tests that other libraries have of their own optimizers and resumed runs, with a plan attached to every optimizer.

`make peers` puts the sources of those that leave their tests out of the wheel into the environment. transformers and
Lightning have no tests in either: what they document is on the pages, and runs there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers
SOURCES = Path(sys.prefix) / "sources"
# A parameter in two groups has no plan, since it would decay twice; and `step` of an attached optimizer is patched,
# as by torch's schedulers, which its copies are not.
NOT_ASKED = ("optimizer.state_dict()['param_groups'][-1]", "assert getPublicAttr(optimizer) ==")
TIMM = "(factory and not kwargs and (sgdw or lambw)) or lookahead_load or adahessian or muon_load or (resume and sgdw)"


def run(library, file, decay, folder, chosen):
    """Their tests in a process of their own: how many passed, failed, and how many plans were attached."""
    found = sorted(SOURCES.glob(f"{library}-*/tests/{file}"))
    if not found:
        pytest.skip(f"the sources of {library} are not here: make peers fetches them")
    lines = found[-1].read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / file).write_text("".join(line for line in lines if not any(one in line for one in NOT_ASKED)), "utf-8")
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")])
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "plans_everywhere", "-p", "no:cacheprovider", "-k", chosen, file],
        cwd=folder, env=os.environ | {"PYTHONPATH": path, "DECAY": decay}, capture_output=True, text=True, timeout=300,
    ).stdout  # fmt: skip
    counted = [re.search(pattern, said) for pattern in (r"(\d+) passed", r"(\d+) failed", r"plans attached: (\d+)")]
    return [int(one[1]) if one else 0 for one in counted], said


def test_timms_tests_of_its_optimizers_hold_under_a_plan(tmp_path):
    """What their groups say, carried out by us: convergence, states that are saved and loaded, casts, copies."""
    (passed, failed, attached), said = run("timm", "test_optim.py", "own", tmp_path, TIMM)
    assert passed >= 10 and not failed and attached > 50, said


def test_accelerates_tests_of_resumed_runs_hold_under_a_plan(tmp_path):
    """With a decay that counts its steps, attached to the optimizer that its wrapper steps."""
    chosen = "can_resume_training and safetensors"
    (passed, failed, attached), said = run("accelerate", "test_state_checkpointing.py", "ramp", tmp_path, chosen)
    assert passed == 3 and not failed and attached == 6, said


def test_a_plan_that_is_not_what_the_groups_say_is_seen_by_timms_tests(tmp_path):
    """The seeded fault."""
    (_, failed, _), said = run("timm", "test_optim.py", "ramp", tmp_path, "novograd_decoupled")
    assert failed == 4, said
