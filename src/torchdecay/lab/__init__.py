"""Trying it: tasks, one training loop, comparisons."""

from torchdecay.lab.choices import ByHand
from torchdecay.lab.compare import Progress, compare
from torchdecay.lab.example import WorkedExample, worked_example
from torchdecay.lab.results import Comparison, LineScan, TrainingRun
from torchdecay.lab.sweep import sweep
from torchdecay.lab.sweep_results import Sweep
from torchdecay.lab.sweep_run import SweepProgress
from torchdecay.lab.task import Data, Task
from torchdecay.lab.tasks.registry import task_named
from torchdecay.lab.training import train

__all__ = [
    "ByHand",
    "Comparison",
    "Data",
    "LineScan",
    "Progress",
    "Sweep",
    "SweepProgress",
    "Task",
    "TrainingRun",
    "WorkedExample",
    "compare",
    "sweep",
    "task_named",
    "train",
    "worked_example",
]
