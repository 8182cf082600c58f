"""Ray Tune set to work: its search, scheduler, stopper and callbacks are a dealer's, and it says nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

from torchdecay.lab.engines.process import packed
from torchdecay.lab.engines.ray.cluster import check_resources, environment
from torchdecay.lab.engines.ray.dealing import Dealer
from torchdecay.lab.engines.ray.worker import INDEX, work
from torchdecay.lab.training.trial import Assignment, Keep

# Nothing is written but our own checkpoints, workers stay in the caller's folder, and Ctrl-C is ours.
SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}


def tune_all(
    part: Assignment,
    counted: int,
    *,
    cpus: float,
    gpus: float,
    workers: int | None,
    storage: str | None,
    checkpoint_seconds: float,
    scheduler: Any,
    keep: Keep | None = None,
) -> None:
    """Run the trials and return when all have an outcome; steps up to `counted` were told in an earlier round.

    The options are those of the engine; with `keep`, who goes on is decided without waiting.

    Raises:
        TaskError: the task does not pickle, workers can't use it, or no node has the resources of a trial.
    """
    import ray
    from ray import tune

    task, trials = part.task, list(part.trials)
    if not trials:
        return
    check_resources(cpus, gpus)
    dealer = Dealer(part, counted, keep)
    is_alone = sum(node["Alive"] for node in ray.nodes()) == 1
    function = tune.with_parameters(
        work,
        payload=packed(task, (task, trials)),
        folders=(os.getcwd(), *sys.path),
        num_steps=task.num_steps,
        rungs=() if keep is None else keep.rungs,
        every_point=scheduler is not None,
        checkpoint_seconds=checkpoint_seconds if is_alone or storage else None,
    )
    search, halving, progress, stopper = _parts(dealer)
    with _quiet(), environment(**SETTINGS), _folder(storage) as (place, name):
        tune.run(
            tune.with_resources(function, {"cpu": cpus, "gpu": gpus}),
            name=name,
            search_alg=search,
            num_samples=len(trials),
            max_concurrent_trials=workers,
            scheduler=scheduler or halving,
            callbacks=[progress],
            stop=stopper,
            storage_path=place,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            max_failures=1,
            raise_on_failed_trial=False,
            reuse_actors=True,
            verbose=0,
        )
    if dealer.error is not None:
        raise dealer.error


def _parts(dealer: Dealer) -> tuple[Any, Any, Any, Any]:
    """Search, scheduler, callback and stopper as Tune wants them."""
    from ray.tune import Stopper
    from ray.tune.progress_reporter import TrialProgressCallback
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler
    from ray.tune.search import Searcher

    class Search(Searcher):  # type: ignore[misc]
        def suggest(self, trial_id: str) -> Any:
            index = dealer.next()
            return Searcher.FINISHED if index is None else {INDEX: index}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None: ...

        # Tune would save its search now and then: a sweep's is in the store.
        def save(self, checkpoint_path: str) -> None: ...

        def restore(self, checkpoint_path: str) -> None: ...

    class Halving(FIFOScheduler):  # type: ignore[misc]
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
            goes_on = dealer.goes_on(trial.config[INDEX], result)
            return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    # Tune prints each result unless it is given a callback of this class.
    class Progress(TrialProgressCallback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            dealer.take(trial.config[INDEX], result)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            dealer.stopped(trial.config[INDEX])

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            dealer.died(trial.config[INDEX], str(trial.error_msg or ""))

    class Stop(Stopper):  # type: ignore[misc]
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return dealer.error is not None

    return Search(metric="measure", mode="max"), Halving(), Progress(), Stop()


@contextlib.contextmanager
def _folder(storage: str | None) -> Iterator[tuple[str, str]]:
    """Where checkpoints are, and the name of ours there; gone afterwards."""
    name = f"torchdecay-{uuid.uuid4().hex[:12]}"
    if storage is None:
        with tempfile.TemporaryDirectory(prefix="torchdecay-", ignore_cleanup_errors=True) as folder:
            yield folder, name
        return
    from pyarrow import fs

    kind, path = fs.FileSystem.from_uri(storage if "://" in storage else os.path.abspath(storage))
    try:
        yield storage if "://" in storage else os.path.abspath(storage), name
    finally:
        with contextlib.suppress(OSError):
            kind.delete_dir(f"{path}/{name}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray tells of what is handled here."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray(\.|$)")
            yield
    finally:
        logger.setLevel(before)
