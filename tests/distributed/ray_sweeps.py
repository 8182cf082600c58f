"""Sweeps on a Ray that is started here, in a process of their own; what came of them goes into a file for the tests.

python ray_sweeps.py FOLDER
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sweeping import halves, network, task  # noqa: E402
from torchdecay.lab.engines import serial  # noqa: E402
from torchdecay.lab.engines.ray import engine  # noqa: E402
from torchdecay.lab.engines.ray.cluster import connected  # noqa: E402
from torchdecay.lab.jobs.command import Command  # noqa: E402
from torchdecay.lab.tasks.task import Data, Task  # noqa: E402
from torchdecay.lab.training.contenders import as_contender  # noqa: E402
from torchdecay.lab.training.trial import Assignment, Keep, Trial  # noqa: E402
from torchdecay.plans.forms.l2 import decoupled  # noqa: E402

FOLDER = Path(sys.argv[1] if __name__ == "__main__" else ".")
STEPS, LAST_PASS = 60, 30


def trial(value: float, seed: int = 0) -> Trial:
    return Trial(contender=as_contender(decoupled(value)), seed=seed, value=value)


class Killed(nn.Module):
    """The network; counts its passes in training, and the first to reach a certain one waits to be killed."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self.inner, self.folder, self.passes = network(), folder, 0
        self.name = uuid.uuid4().hex

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.folder is not None:
            self.passes += 1
            (self.folder / f"passes-{self.name}").write_text(str(self.passes))
            if self.passes == LAST_PASS and self._is_first():
                time.sleep(60)
        return self.inner(x)

    def _is_first(self) -> bool:
        assert self.folder is not None
        try:
            mine = os.open(self.folder / "pid.new", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        os.write(mine, str(os.getpid()).encode())
        os.rename(self.folder / "pid.new", self.folder / "pid")
        (self.folder / "pid.new").touch()
        return True


def kill(folder: Path) -> None:
    while not (folder / "pid").exists():
        time.sleep(0.02)
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


def rows(seed: int) -> Data:
    if seed == 7:
        raise RuntimeError("no such rows")
    return halves(seed)


def killed(folder: Path | None) -> Task:
    # A lambda that closes over something, as a script of one's own has.
    return task(model=lambda: Killed(folder), data=rows, num_steps=STEPS, eval_every=2)


def going(rung: int, measures: Mapping[Trial, float]) -> frozenset[Trial]:
    """The better half of those that are there."""
    ranked = sorted(measures, key=lambda one: -measures[one])
    return frozenset(ranked[: (len(ranked) + 1) // 2])


class Unloadable:
    def __call__(self) -> Any:
        return network()

    def __reduce__(self) -> Any:
        return __import__, ("no_such_module_anywhere",)


def outcomes(run: Callable[..., None], task: Task, trials: list[Trial], **options: Any) -> dict[str, Any]:
    """What each trial came to, the steps that were told, the error that ended it."""
    found: dict[str, Any] = {}
    steps: list[int] = []
    error, started = "", time.perf_counter()
    lock = threading.Lock()  # does not pickle, as a caller's open store does not

    def on_run(trial: Trial, outcome: Any) -> None:
        with lock:
            found[trial.key] = outcome

    try:
        told: dict[str, Any] = {"on_run": on_run, "on_step": steps.append}
        told |= {name: options.pop(name) for name in ("on_run", "keep", "goes_on") if name in options}
        run(Assignment(task=task, trials=trials, **told), **options)
    except (Exception, KeyboardInterrupt) as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"found": found, "steps": sum(steps), "error": error, "seconds": time.perf_counter() - started}


def command(folder: Path) -> Command:
    """A command that is asked to end in the middle where its value is above 2."""
    code = (
        "import signal, sys, time\nsignal.signal(15, lambda *a: (open(sys.argv[2] + '/asked', 'w'), sys.exit(0)))\n"
        "value = float(sys.argv[1])\nfor e in range(4): print(f'loss={value - e}', flush=True); time.sleep(0.3)"
    )
    words = [sys.executable, "-S", "-E", "-c", code, "{value}", "{out}", "{seed}"]
    return Command(words, metric=r"loss=(\S+)", folder=folder)


def goes_on(trial: Trial, count: int, metric: float) -> bool:
    return count < 2 or (trial.value or 0) < 2


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us in the background ignores it
    four = [trial(0.1), trial(1.0), trial(1.0, seed=1), trial(3.0)]
    told: dict[str, Any] = {
        "serial": outcomes(serial.run, killed(None), [*four, trial(1.0, seed=7)]),
        "halving serial": outcomes(serial.run, task(), four[::-1]),
        "command serial": outcomes(serial.run, command(FOLDER / "here"), four, goes_on=goes_on),
    }
    started = time.perf_counter()
    with connected(None, num_cpus=2, runtime_env=None, timeout=10):
        told["seconds to start"] = time.perf_counter() - started
        threading.Thread(target=kill, args=(FOLDER,), daemon=True).start()
        told["killed"] = outcomes(engine.run, killed(FOLDER), [*four, trial(1.0, seed=7)], checkpoint_seconds=0.0)
        told["passes"] = [int(file.read_text()) for file in FOLDER.glob("passes-*")]
        told["halving"] = outcomes(engine.run, task(), four[::-1], keep=Keep((4, 8), going), workers=1)
        told["command"] = outcomes(engine.run, command(FOLDER / "there"), four, goes_on=goes_on, workers=2)
        told["asked"] = [path.parent.name for path in FOLDER.glob("there/runs/*/asked")]
        told["unusable"] = outcomes(engine.run, task(model=Unloadable()), four[:1])
        told["resources"] = outcomes(engine.run, task(), four, num_gpus=4)
        told["interrupt"] = interrupted(four)
        told["still there"] = engine_is_there()
    told["ended"] = not engine_is_there()
    (FOLDER / "told").write_bytes(pickle.dumps(told))


def interrupted(trials: list[Trial]) -> dict[str, Any]:
    """Ctrl-C some time after the first run is finished, while the others go on."""
    found: dict[str, Any] = {}

    def on_run(trial: Trial, outcome: Any) -> None:
        found[trial.key] = outcome
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    slow = task(model=Sleeps, num_steps=20)
    return outcomes(engine.run, slow, trials, workers=1, on_run=on_run) | {"found": found}


class Sleeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return self.inner(x)


def engine_is_there() -> bool:
    import ray

    return bool(ray.is_initialized())


if __name__ == "__main__":
    main()
