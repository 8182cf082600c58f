"""A progress bar with the time left, on stderr; where that is no terminal, a line for each finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torchdecay.lab.engines.runs import Progress


class Bar:
    """Takes the `Progress` of a comparison or a sweep; a context manager."""

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
        best = f", best so far {progress.best} {progress.best_value:.3g}" if progress.best else ""
        far = f"{progress.runs_done} of {progress.runs_planned} runs{best}"
        self._bar.update(
            self._task, description=f"{self._title}: {far}", completed=progress.steps_done, total=progress.steps_planned
        )
        if progress.run_is_done and not self._is_terminal:
            ended = "diverged (NaN or infinite)" if progress.diverged else "done"
            became = f"failed: {progress.failure}" if progress.failure else ended
            click.echo(f"{self._title}: {progress.label}, seed {progress.seed}: {became} ({far})", err=True)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
