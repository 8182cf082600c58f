"""When decay acts in the runs of a job, by the record that `torchdecay run` wrote or the learning rate that is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import torchdecay as td
from torchdecay.lab.jobs.command import Command
from torchdecay.lab.jobs.record import RECORD, SUMMARY, applied_in
from torchdecay.lab.sweeps.arrivals import Arrivals, acting_share
from torchdecay.lab.sweeps.meaning import said_by
from torchdecay.lab.sweeps.search import Search
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.results import TrainingRun
from torchdecay.lab.training.trial import Trial


@pytest.fixture
def applied(tmp_path: Path) -> Command:
    """A command whose run under `--apply` with 1 took 90 steps, at a learning rate of 0.01."""
    job = Command(["sh"], metric=r"loss (\S+)", folder=tmp_path)
    record = job.runs / "1" / RECORD
    record.mkdir(parents=True)
    optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2, bias=False).parameters(), lr=0.01, weight_decay=1)
    (record / "forecast-2.json").write_text(td.forecast(optimizer, run=td.Run(steps=1000)).to_json())
    optimizers = [{"number": 2, "steps": 90, "applied": "decoupled:1"}, {"number": 1, "steps": 5, "applied": ""}]
    (record / SUMMARY).write_text(json.dumps({"ended": True, "optimizers": optimizers}))
    (job.runs / "2" / RECORD).mkdir(parents=True)
    (job.runs / "2" / RECORD / SUMMARY).write_text("{")
    return job


def test_the_record_of_a_run_says_when_decay_has_acted_and_its_half_life(applied: Command) -> None:
    """1/(2·lr·λ) steps, as a share of the run; another coefficient by its own size."""
    assert acting_share(applied, 1) == pytest.approx(50 / 90)
    assert acting_share(applied, 10) == pytest.approx(5 / 90)
    assert applied_in(applied.folder) == {}
    meaning = said_by(applied.applied["decoupled:1"].forecast, "1", 90)
    assert meaning.half_life == pytest.approx(69, abs=0.1)
    assert meaning.total_shrink == pytest.approx(1 - 0.99**90)


@pytest.mark.parametrize(("middle", "rungs"), [(10, (1, 3)), (1, (5,)), (0.1, ())])
def test_rungs_wait_until_decay_has_acted(applied: Command, middle: float, rungs: tuple[int, ...]) -> None:
    """Of nine metrics a ninth and a third; where it never acts in the run nothing is stopped."""
    whole = TrainingRun(label="0", decay="none", seed=0, steps=tuple(range(9)), seconds=0, validation_loss=(1.0,) * 9)
    bare, some = (Trial(contender=as_contender(value), seed=0, value=value) for value in (None, 1))
    arrivals = Arrivals(applied, lambda: {bare: whole}, middle)
    better = Trial(contender=as_contender(2), seed=0, value=2)
    assert all(arrivals.goes_on(better, count, 1.0) for count in range(1, 10))
    assert tuple(count for count in range(1, 10) if not arrivals.goes_on(some, count, 0.0)) == rungs


def test_a_learning_rate_says_which_rungs_rank_noise(tmp_path: Path) -> None:
    code = "import sys; print('loss', sys.argv[1])"
    job = Command([sys.executable, "-S", "-c", code, "{value}"], metric=r"loss (\S+)", folder=tmp_path, lr=0.01)
    found = sweep(job, values=[0.1, 10], search=Search(values=[1], kind="halving"))
    assert "= 50 steps at the middle value, 5 at the strongest and 500 at the weakest" in found.why_rungs
