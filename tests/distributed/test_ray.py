"""Real Ray with two workers on this machine: the same numbers, through kills, failures and Ctrl-C."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from torchdecay.lab.training.results import Failure, TrainingRun

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills a worker by a signal")
Told = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What the sweeps of `ray_sweeps.py` came to."""
    return ran("ray_sweeps.py", tmp_path_factory.mktemp("sweeps"))


def ran(script: str, folder: Path) -> Told:
    """What a script that starts a Ray has left in the folder, and what it printed."""
    pytest.importorskip("ray", reason="NOT TESTED: the engine ray; pip install 'torchdecay[ray]'")
    # Short, since sockets in it have names of a hundred characters at most.
    home = Path("/tmp") / f"td-ray-{os.getpid()}"
    home.mkdir()
    here = Path(__file__).parent
    paths = [str(here.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"RAY_TMPDIR": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    words = [*alone(), sys.executable, str(here / script), str(folder)]
    try:
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return pickle.loads((folder / "told").read_bytes()) | {"printed": done.stdout}
    finally:
        shutil.rmtree(home, ignore_errors=True)


def alone() -> list[str]:
    """A network of its own where that is allowed: Ray binds the machine's address, which others may reach."""
    words = ["unshare", "--net", "bash", "-c", 'ip link set lo up && exec "$@"', "-"]
    try:
        is_allowed = subprocess.run([*words, "true"], capture_output=True, timeout=20).returncode == 0
    except OSError:
        is_allowed = False
    return words if is_allowed else []


def numbers(outcomes: Told) -> dict[str, Any]:
    """The outcomes without wall times and without where exactly a worker raised."""
    found = outcomes["found"].items()
    return {key: numbers_of(one) if isinstance(one, TrainingRun) else one.message for key, one in found}


def numbers_of(run: TrainingRun) -> TrainingRun:
    return dataclasses.replace(run, seconds=0.0)


def test_ray_is_serial_to_the_bit_though_a_worker_is_killed(told: Told) -> None:
    """Two workers, one killed in the middle of a run: every number is that of one run after the other."""
    assert numbers(told["killed"]) == numbers(told["serial"]) and told["killed"]["error"] == ""
    assert len(told["killed"]["found"]) == 5


def test_what_a_worker_raises_comes_back_and_the_rest_goes_on(told: Told) -> None:
    """The run whose rows can't be made is recorded with where it was raised."""
    failed = [one for one in told["killed"]["found"].values() if isinstance(one, Failure)]
    assert [one.seed for one in failed] == [7]
    assert "no such rows" in failed[0].message and "in rows" in failed[0].traceback


def test_a_killed_run_goes_on_from_its_checkpoint(told: Told) -> None:
    """The steps before the kill are not done again: besides every run's own passes there are those since it."""
    whole = 4 * 61
    assert len(told["passes"]) == 5
    assert whole < sum(told["passes"]) <= whole + 4


def test_steps_are_told_once(told: Told) -> None:
    """Progress of the second try counts from where the first was."""
    assert told["killed"]["steps"] == 4 * 60


def test_halving_stops_runs_as_they_arrive(told: Told) -> None:
    """Who is stopped keeps the curves so far; who goes on ends as if alone; and no one waits for the last."""
    runs, whole = told["halving"]["found"], told["halving serial"]["found"]
    assert told["halving"]["error"] == "" and set(runs) == set(whole)
    for key, one in runs.items():
        count = len(one.steps)
        assert (one.steps, one.test_loss) == (whole[key].steps[:count], whole[key].test_loss[:count])
    ends = {key: one.steps[-1] for key, one in runs.items()}
    # One worker: they arrive in order, so the rule can be replayed on the whole runs.
    assert ends == replayed(list(whole), whole)
    assert {18} < set(ends.values()) <= {4, 8, 18}


def replayed(order: list[str], whole: dict[str, TrainingRun]) -> dict[str, int]:
    ends: dict[str, int] = {}
    reached: dict[int, list[float]] = {4: [], 8: []}
    for key in order:
        for rung, measures in reached.items():
            measure = -whole[key].test_loss[whole[key].steps.index(rung)]
            measures.append(measure)
            if sorted(measures, reverse=True).index(measure) >= (len(measures) + 1) // 2:
                ends[key] = rung
                break
        else:
            ends[key] = 18
    return ends


def test_commands_run_in_workers_and_are_asked_to_end(told: Told) -> None:
    """As one after the other here; what is not to go on gets SIGTERM, and its metrics so far are its outcome."""
    assert told["command"]["error"] == "" and told["command"]["steps"] == 4
    assert numbers(told["command"]) == numbers(told["command serial"])
    ends = {key: (one.stopped, len(one.steps)) for key, one in told["command"]["found"].items()}
    assert sorted(ends.values()) == [(False, 4)] * 3 + [(True, 2)] and told["asked"] == ["3-seed-0"]


def test_ctrl_c_keeps_what_is_finished(told: Told) -> None:
    """A KeyboardInterrupt passes through Tune, after the finished runs were handed over."""
    assert told["interrupt"]["error"].startswith("KeyboardInterrupt")
    assert 1 <= len(told["interrupt"]["found"]) < 4


def test_what_can_not_run_is_told(told: Told) -> None:
    """A task that workers can't import, and a GPU that no node has, end it at once with what to do."""
    assert "a worker can't use the task" in told["unusable"]["error"] and "working_dir" in told["unusable"]["error"]
    assert "no node has that many" in told["resources"]["error"] and told["resources"]["found"] == {}


def test_ray_is_quiet_and_ends_with_who_started_it(told: Told) -> None:
    """Only the killed worker is spoken of; a Ray that was there stays, ours is shut down."""
    assert told["printed"].count("A worker died") == 1 and len(told["printed"].splitlines()) == 1
    assert told["still there"] and told["ended"]


def test_a_node_that_is_lost_loses_no_run(tmp_path: Path) -> None:
    """Two nodes, one killed in the middle of a run: it goes on from its checkpoint on the other, to the same bits."""
    told = ran("ray_nodes.py", tmp_path)
    left, lost = told["nodes"]
    assert left != lost and told["ended"] == -signal.SIGKILL
    swept, serial = ({(run.label, run.seed): numbers_of(run) for run in told[way].runs} for way in ("ray", "serial"))
    assert swept == serial and len(swept) == 8 and told["ray"].failures == ()
    # Every run once, and none has begun again: two steps are between checkpoints.
    with sqlite3.connect(tmp_path / "sweep.db") as store:
        keys = store.execute("SELECT value_json FROM trial_user_attributes WHERE key = 'key'").fetchall()
        assert len(set(keys)) == len(keys) == 8
        assert store.execute("SELECT state, COUNT(*) FROM trials GROUP BY state").fetchall() == [("COMPLETE", 8)]
    assert (lost, 30) in told["tries"]
    assert len(told["tries"]) == 9 and 8 * 61 < sum(passes for _, passes in told["tries"]) <= 8 * 61 + 4
