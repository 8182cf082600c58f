"""TensorBoard: a monitor's records as scalars, its alarms as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchdecay.errors import need
from torchdecay.observe.monitor.series import Event


class TensorBoard:
    """Writes what a `torchdecay.Monitor` records into TensorBoard's event files.

    Each quantity of each group is a scalar "decay/group/quantity"; alarms are text under "decay/alarms".

    Args:
        log_dir: where the event files go; or a SummaryWriter of your own, which stays open.
        prefix: what the tags begin with.

    Raises:
        MissingExtra: TensorBoard is not installed.

    Example:
        >>> import tempfile, torch, torchdecay as td
        >>> from torchdecay.integrations.tensorboard import TensorBoard
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
        >>> with td.Monitor(optimizer, writers=[TensorBoard(tempfile.mkdtemp())]):
        ...     model(torch.randn(8, 4)).sum().backward()
        ...     optimizer.step()
    """

    def __init__(self, log_dir: str | Path | Any, *, prefix: str = "decay") -> None:
        self._prefix = prefix
        self._owns = isinstance(log_dir, (str, Path))
        self._writer: Any = log_dir
        if self._owns:
            need("tensorboard", "tensorboard")
            module = need("torch.utils.tensorboard", "tensorboard")
            self._writer = module.SummaryWriter(str(log_dir))

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Write one record."""
        for name, value in values.items():
            self._writer.add_scalar(f"{self._prefix}/{name}", value, step)
        # What was written is then there when the process is killed.
        self._writer.flush()

    def alarm(self, event: Event) -> None:
        """Write one alarm."""
        self._writer.add_text(f"{self._prefix}/alarms", f"**{event.kind}** {event}", event.step)
        self._writer.flush()

    def close(self) -> None:
        """No more records; a SummaryWriter of the user's own stays open."""
        if self._owns:
            self._writer.close()
