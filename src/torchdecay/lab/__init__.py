"""Trying it: tasks, one training loop, comparisons."""

from torchdecay.lab.comparisons.compare import Progress, compare
from torchdecay.lab.directions.direction import direction
from torchdecay.lab.directions.hypergradient import Hypergradient, hypergradient
from torchdecay.lab.directions.result import Direction
from torchdecay.lab.engines.engine import Engine
from torchdecay.lab.example import WorkedExample, worked_example
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.sweeps.run import SweepProgress
from torchdecay.lab.sweeps.sweep import sweep
from torchdecay.lab.tasks.registry import task_named
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.contenders import ByHand
from torchdecay.lab.training.planned_and_measured import GroupCourse, PlannedAndMeasured
from torchdecay.lab.training.results import Comparison, LineScan, TrainingRun
from torchdecay.lab.training.train import train

__all__ = [
    "ByHand",
    "Comparison",
    "Data",
    "Direction",
    "Engine",
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
