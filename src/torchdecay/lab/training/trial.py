"""`Trial`: one run of a sweep before it is run; `Assignment`: trials to run, and who wants to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torchdecay.errors import TaskError
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import Contender
from torchdecay.lab.training.results import Failure, TrainingRun


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run to make: a decay, a seed, and a multiplier of the learning rate.

    Attributes:
        contender: what puts the decay into training, and its label.
        seed: for data, weights and order.
        value: the coefficient under sweep; None for the run without decay and for group-wise trials.
        values: group-wise coefficients, as (group, coefficient) pairs.
        lr_scale: multiplies the learning rate of every group of the task's optimizer before a scheduler sees it.
        watched: whether a monitor looks on and the loss is scanned along a line, as comparisons show.
    """

    contender: Contender
    seed: int
    value: float | None = None
    values: tuple[tuple[str, float], ...] = ()
    lr_scale: float = 1.0
    watched: bool = False

    def __hash__(self) -> int:
        # A whole plan hashes slowly, and engines look trials up all the time.
        return hash(self.key)

    @property
    def is_bare(self) -> bool:
        """Whether it is a run without decay."""
        return self.value is None and not self.values

    @property
    def key(self) -> str:
        """Stable text that names this run and no other of its sweep."""
        groups = ", ".join(f"{name}={value!r}" for name, value in self.values)
        label = f"{self.contender.label} = " if self.watched else ""
        return f"{label}{groups or self.contender.key} | seed {self.seed} | lr x {self.lr_scale!r}"


@dataclass(frozen=True)
class Keep:
    """Successive halving: at certain steps, ascending and below the task's own, those that are not chosen stop.

    `choose` takes the rung and each living trial's deciding measure there (more is better: a loss comes negated), and
    returns the trials that go on.
    """

    rungs: tuple[int, ...]
    choose: Callable[[int, Mapping[Trial, float]], frozenset[Trial]]


GoesOn = Callable[[Trial, int, float], bool]
"""Whether a run of a job goes on, from how many metrics it has told and the last of them, more being better."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Trials to run, and who wants to know.

    Attributes:
        task: what to train.
        trials: which runs.
        on_run: called in the process of the sweep with each trial and its outcome, as soon as it has finished or
            failed, in any order.
        on_step: called with a number of steps when so many more have been done.
        keep: stops some trials at rungs; None lets all go on.
        goes_on: asked at each metric of a run of a job.
        claim: asked right before a trial starts; False where somebody else runs it or has run it.
    """

    task: Task | Job
    trials: Sequence[Trial]
    on_run: Callable[[Trial, TrainingRun | Failure], None]
    on_step: Callable[[int], None] = lambda n: None
    keep: Keep | None = None
    goes_on: GoesOn = lambda trial, count, metric: True
    claim: Callable[[Trial], bool] = lambda trial: True

    @property
    def training(self) -> Task:
        """The task, where it is one.

        Raises:
            TaskError: it is a job, which trains in its own way.
        """
        if isinstance(self.task, Job):
            raise TaskError(
                f"{self.task.name} trains in its own way, so its runs can't be one model.",
                fix="Use the engine serial, process or ray.",
            )
        return self.task


def as_seeds(seeds: Iterable[int] | int) -> tuple[int, ...]:
    """Distinct seeds, from seeds or from how many."""
    made = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not made:
        raise TaskError(f"seeds is {seeds!r}, so there is nothing to run.", fix="Ask for at least one.")
    wrong = [s for s in made if isinstance(s, bool) or not isinstance(s, int) or not 0 <= s < 2**63]
    if wrong or len(set(made)) != len(made):
        raise TaskError(
            f"seeds is {list(made)}.",
            "Each must be a whole number from 0 up, and there once.",
            "Write seeds=3 or seeds=[0, 1, 2].",
        )
    return made
