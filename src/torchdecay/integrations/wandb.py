"""Weights & Biases: a monitor's records as charts over its own steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchdecay.errors import ApplyError, need
from torchdecay.observe.monitor.series import Event


class WandB:
    """Writes what a `torchdecay.Monitor` records into a run of Weights & Biases.

    Each quantity of each group is a metric "decay/group/quantity" over "decay/step", the monitor's own count; alarms
    are alerts. The run's step is left to you: a record joins the row that is being made, one in each, so that no row
    of yours is refused for a step that ran ahead. Records that find no row are written when the monitor is closed.

    Args:
        run: what `wandb.init` returned; None takes the run that is active.
        prefix: what the names begin with.

    Raises:
        MissingExtra: wandb is not installed.
        ApplyError: no run is active.

    Example:
        >>> from torchdecay.integrations.wandb import WandB
        >>> with td.Monitor(optimizer, writers=[WandB(wandb.init())]):  # doctest: +SKIP
        ...     train()
    """

    def __init__(self, run: Any = None, *, prefix: str = "decay") -> None:
        self._run = need("wandb", "wandb").run if run is None else run
        if self._run is None:
            raise ApplyError("no run of wandb is active.", fix="Call wandb.init(...) first, or pass WandB(run).")
        self._prefix, self._step = prefix, f"{prefix}/step"
        self._waiting: list[dict[str, float]] = []
        self._row: int | None = None
        self._run.define_metric(self._step, hidden=True)
        self._run.define_metric(f"{prefix}/*", step_metric=self._step)

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Write one record, or keep it where the row has one already."""
        self._waiting.append({f"{self._prefix}/{name}": value for name, value in values.items()} | {self._step: step})
        if self._run.step != self._row:
            self._row = self._run.step
            self._run.log(self._waiting[0], commit=False)
            del self._waiting[0]

    def alarm(self, event: Event) -> None:
        """Write one alarm."""
        self._run.alert(title=f"{self._prefix}: {event.kind}", text=str(event))

    def close(self) -> None:
        """Write what has waited, in rows of its own; the run stays open."""
        if self._waiting and self._run.step == self._row:
            # The row that is being made has a record.
            self._run.log({}, commit=True)
        for record in self._waiting:
            self._run.log(record)
        self._waiting = []
