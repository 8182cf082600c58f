"""A progress bar with the time left, on stderr; where that is no terminal, a line for each finished run."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.compare import Progress
    from torchdecay.lab.sweeps.run import SweepProgress


class Bar:
    """Takes the `Progress` of a comparison, and in `sweep` that of a sweep; a context manager.

    Args:
        title: what is running.
    """

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        self._title = title
        self._is_terminal = console.is_terminal
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=None)

    def __call__(self, progress: Progress) -> None:
        """Move the bar."""
        what = f"{self._title}: {progress.label}, seed {progress.seed}"
        line = f"{what}: done ({progress.steps_done / progress.steps_planned:.0%} of all)"
        self._move(what, progress.steps_done, progress.steps_planned, line if progress.run_is_done else "")

    def sweep(self, progress: SweepProgress) -> None:
        """Move the bar of a sweep, with the best so far."""
        best = f", best so far {progress.best} {progress.best_value:.3g}" if progress.best else ""
        what = f"{self._title}: {progress.runs_done} of {progress.runs_planned} runs{best}"
        line = f"{self._title}: {progress.label}, seed {progress.seed}: done ({what.partition(': ')[2]})"
        self._move(what, progress.steps_done, progress.steps_planned, line if progress.run_is_done else "")

    def _move(self, what: str, done: int, planned: int, line: str) -> None:
        self._bar.update(self._task, description=what, completed=done, total=planned)
        if not self._is_terminal and line:
            click.echo(line, err=True)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
