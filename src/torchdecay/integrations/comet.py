"""Comet: a monitor's records as metrics of an experiment, its alarms as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchdecay.observe.monitor.series import Event


class Comet:
    """Writes what a `torchdecay.Monitor` records into an experiment of Comet.

    Each quantity of each group is a metric "decay/group/quantity" at the monitor's step; alarms are texts. The
    experiment's own step stays what it was, so that what you log without one keeps its place.

    Args:
        experiment: what `comet_ml.start` returned, or any of its experiments.
        prefix: what the names begin with.

    Example:
        >>> from torchdecay.integrations.comet import Comet
        >>> with td.Monitor(optimizer, writers=[Comet(comet_ml.start())]):  # doctest: +SKIP
        ...     train()
    """

    def __init__(self, experiment: Any, *, prefix: str = "decay") -> None:
        self._experiment, self._prefix = experiment, prefix

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Write one record."""
        own = self._experiment.curr_step
        self._experiment.log_metrics({f"{self._prefix}/{name}": value for name, value in values.items()}, step=step)
        self._experiment.set_step(own)

    def alarm(self, event: Event) -> None:
        """Write one alarm."""
        own = self._experiment.curr_step
        self._experiment.log_text(str(event), step=event.step, metadata={"kind": event.kind})
        self._experiment.set_step(own)
