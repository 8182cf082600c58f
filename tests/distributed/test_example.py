"""The example of the docs, as people start it: by torchrun, on two processes, then on one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torchdecay as td

SCRIPT = Path(__file__).parents[2] / "examples" / "distributed" / "train.py"


def started(ranks, *words):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_it_goes_on_from_two_processes_on_one(tmp_path):
    """The second run begins at the step at which the first ended, and the monitor's file at the one after it."""
    assert "steps 0 to 40, weights shrunk by 0." in started(2, SCRIPT, tmp_path)
    assert "steps 40 to 80, weights shrunk by 0." in started(1, SCRIPT, tmp_path)
    assert td.History.load(tmp_path / "from-0.jsonl").steps[-1] == 40
    assert td.History.load(tmp_path / "from-40.jsonl").steps == (41, 50, 60, 70, 80)


def test_it_runs_under_torchdecay_run(tmp_path):
    """One page of two processes."""
    said = started(2, "-m", "torchdecay", "run", "--out", tmp_path / "page", SCRIPT, tmp_path / "run")
    assert re.search("steps 0 to 40", said)
    assert (tmp_path / "page" / "index.html").exists()
