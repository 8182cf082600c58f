"""Trying it: tasks, one training loop, comparisons."""

from torchdecay.lab.acting import GroupCourse, PlannedAndMeasured
from torchdecay.lab.choices import ByHand
from torchdecay.lab.compare import Progress, compare
from torchdecay.lab.direction import direction
from torchdecay.lab.direction_results import Direction
from torchdecay.lab.example import WorkedExample, worked_example
from torchdecay.lab.hypergradient import Hypergradient, hypergradient
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
    "Direction",
    "GroupCourse",
    "Hypergradient",
    "LineScan",
    "PlannedAndMeasured",
    "Progress",
    "Sweep",
    "SweepProgress",
    "Task",
    "TrainingRun",
    "WorkedExample",
    "compare",
    "direction",
    "hypergradient",
    "sweep",
    "task_named",
    "train",
    "worked_example",
]
