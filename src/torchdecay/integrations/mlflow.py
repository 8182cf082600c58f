"""MLflow: a monitor's records as metrics of a run, its alarms as tags."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from torchdecay.errors import ApplyError, need
from torchdecay.observe.monitor.series import Event


class MLflow:
    """Writes what a `torchdecay.Monitor` records into a run of MLflow.

    Each quantity of each group is a metric "decay/group/quantity"; what MLflow does not allow in names is "_". The
    alarms of a kind are a tag "decay/alarm/kind", the first of them.

    Args:
        run_id: the run; None takes the one that is active.
        prefix: what the names begin with.

    Raises:
        MissingExtra: MLflow is not installed.
        ApplyError: no run is active.

    Example:
        >>> from torchdecay.integrations.mlflow import MLflow
        >>> with mlflow.start_run(), td.Monitor(optimizer, writers=[MLflow()]):  # doctest: +SKIP
        ...     train()
    """

    def __init__(self, run_id: str | None = None, *, prefix: str = "decay") -> None:
        mlflow: Any = need("mlflow", "mlflow")
        if run_id is None and (active := mlflow.active_run()) is None:
            raise ApplyError("no run of MLflow is active.", fix="Write with mlflow.start_run(): ... around it.")
        self._run_id = active.info.run_id if run_id is None else run_id
        self._client: Any = mlflow.MlflowClient()
        self._entity, self._prefix = mlflow.entities.Metric, prefix
        self._told: set[str] = set()

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Write one record, in one request."""
        now = int(time.time() * 1000)
        metrics = [self._entity(self._name(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def alarm(self, event: Event) -> None:
        """Write the first alarm of its kind."""
        if event.kind not in self._told:
            self._told.add(event.kind)
            self._client.set_tag(self._run_id, self._name(f"alarm/{event.kind}"), str(event)[:5000])

    def _name(self, name: str) -> str:
        return re.sub(r"[^\w\-. :/]", "_", f"{self._prefix}/{name}")[:250]
