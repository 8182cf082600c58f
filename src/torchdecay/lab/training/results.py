"""What a training leaves behind, as frozen values: curves, who decayed, or why it failed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from traceback import format_exception

from torchdecay.arguments import check_lengths
from torchdecay.errors import TaskError
from torchdecay.lab.training.planned_and_measured import Curve, PlannedAndMeasured
from torchdecay.printing import words_of
from torchdecay.records import JsonRecord
from torchdecay.tables import Shown
from torchdecay.text import describe_error, nearest, repr_quoted


@dataclass(frozen=True, kw_only=True)
class LineScan:
    """The loss along a straight line through a solution: θ(α) = α·θ* for the weights that rules let decay.

    All other parameters stay as they are, so α = 1 is the solution and α = 0 has those weights at zero.

    Attributes:
        alphas: points on the line, ascending.
        train_loss: loss on the training rows, one number per point.
        test_loss: loss on the test rows.
        squared_norm: ‖θ*‖², so that λ/2·α²·‖θ*‖² is the L2 penalty for any λ.
        penalty: the decay's own penalty λ·R(α·θ*); for a run without decay that of an L2 decay of a size that
            can be seen; None where the decay is the gradient of no penalty.
        note: what the penalty is, or why there is none.
    """

    alphas: Curve
    train_loss: Curve
    test_loss: Curve
    squared_norm: float
    penalty: Curve | None = None
    note: str = ""

    def __post_init__(self) -> None:
        curves = ("alphas", "train_loss", "test_loss", "penalty")
        check_lengths("the line scan", {name: getattr(self, name) for name in curves})

    @property
    def total(self) -> Curve | None:
        """Training loss plus penalty, or None without a penalty."""
        if self.penalty is None:
            return None
        return tuple(loss + pull for loss, pull in zip(self.train_loss, self.penalty, strict=True))

    @property
    def loss_minimum(self) -> float:
        """α where the training loss is least, among the points of the scan."""
        return self._lowest(self.train_loss)

    @property
    def test_minimum(self) -> float:
        """α where the test loss is least, among the points of the scan."""
        return self._lowest(self.test_loss)

    @property
    def total_minimum(self) -> float | None:
        """α where training loss plus penalty is least, or None without a penalty."""
        return None if self.total is None else self._lowest(self.total)

    def _lowest(self, curve: Curve) -> float:
        # NaN compares false with everything, so it is kept out of the race by hand.
        return min(zip(curve, self.alphas, strict=True), key=lambda point: (point[0] != point[0], point[0]))[1]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One training: curves, all as long as `steps`. Entry i was measured after `steps[i]` updates.

    Of a job there is one curve: its metric, as validation_loss, or as validation_score where more of it is better.

    A run that diverged has NaN or infinities in its curves; `to_json` writes those as "NaN" and "Infinity".

    Attributes:
        label: which decay, as the comparison calls it.
        decay: the decay as it prints, "decoupled(0.1)"; "none" without.
        seed: seed of data, initial weights and the order of rows.
        steps: number of updates done, ascending; the first is 0, before any.
        train_loss, test_loss, validation_loss: mean loss over all rows of that part, without any penalty.
        train_score, test_score, validation_score: the task's score there; None without.
        weight_norm: ‖θ‖ over the weights that the task's rules let decay, whether or not they do in this run.
        gradient_norm: ‖g‖ over all trainable parameters, of the loss alone, on the rows of the next step.
        seconds: wall time of the training, without the line scan.
        unfinished: whether it was under way when everything was stopped; its curves end where it was.
        stopped: whether halving ended it, of a job, which has no length by which that could be seen.
        line: the loss along a line through the solution.
        planned_and_measured: what decay was to do, forecast before the training, and what a monitor saw it do; None
            where nobody looked, as in sweeps.
    """

    label: str
    decay: str
    seed: int
    steps: tuple[int, ...]
    seconds: float
    unfinished: bool = False
    stopped: bool = False
    train_loss: Curve | None = None
    test_loss: Curve | None = None
    weight_norm: Curve | None = None
    gradient_norm: Curve | None = None
    train_score: Curve | None = None
    test_score: Curve | None = None
    validation_loss: Curve | None = None
    validation_score: Curve | None = None
    line: LineScan | None = None
    planned_and_measured: PlannedAndMeasured | None = None

    def __post_init__(self) -> None:
        check_lengths("the run", {name: getattr(self, name) for name in ("steps", *CURVES)})

    def reached(self, num_steps: int) -> bool:
        """Whether it is a whole run, of so many steps."""
        return not self.stopped and self.steps[-1] >= num_steps

    def final(self, curve: str) -> float:
        """The last point of a curve, "test_loss" say; "gap" is final test loss − final train loss.

        Raises:
            TaskError: a name that is no curve, or a curve that this task does not have.
        """
        if curve == "gap":
            return self.final("test_loss") - self.final("train_loss")
        values = getattr(self, curve, None) if curve in CURVES else None
        if values is None:
            known = [name for name in CURVES if getattr(self, name) is not None]
            raise TaskError(
                f"the run has no curve {repr_quoted(curve)}.",
                f"It has gap, {', '.join(known)}.",
                nearest(curve, known),
            )
        return float(values[-1])


CURVES = (
    "train_loss", "test_loss", "validation_loss", "train_score", "test_score", "validation_score",
    "weight_norm", "gradient_norm",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """One line of a plan's table; decay is "" when spared, reason the rule that decided, in words."""

    name: str
    shape: tuple[int, ...]
    role: str
    decay: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PlanSummary:
    """What one decay did to whom.

    Attributes:
        label: which decay, as the comparison calls it.
        decay: as it prints; "none" without.
        equation: the pull as one line of mathematics; "" without decay.
        summary: one sentence of counts.
        rows: one per trainable parameter.
        how: how it was carried out, in words: by the optimizer itself, by hook, as a penalty, by hand.
    """

    label: str
    decay: str
    equation: str
    summary: str
    rows: tuple[PlannedRow, ...]
    how: str = ""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that did not finish, and why.

    Attributes:
        label: which decay.
        seed: which seed.
        message: what went wrong.
        traceback: where it was raised, as Python prints it; "" where nothing was recorded.
    """

    label: str
    seed: int
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, label: str, seed: int, error: BaseException) -> Failure:
        """What an error makes of a run."""
        said = describe_error(error, where=True)
        if isinstance(error, SystemExit):
            said += "; sys.exit ends a run as failed: return, or raise what went wrong"
        return cls(label=label, seed=seed, message=said, traceback="".join(format_exception(error)))


@dataclass(frozen=True, kw_only=True, repr=False)
class Trainings(Shown, JsonRecord):
    """What many trainings of one task left behind: what every result of the lab has.

    Attributes:
        task: the task's name.
        title: one line.
        step_name: what the x axis counts, "epoch" or "step".
        score_name: what the score is called; "" without one, and then the loss decides.
        metric: what the only measure of a job is called; "" for a task.
        runs: the finished runs.
        seeds: the seeds that were asked for.
        facts: what to know about task and data, as (what, value) pairs for people.
        notes: sentences that a reader should know.
        noise: whether the labels are noise.
        failures: runs that did not finish.
        interrupted: whether it was stopped before all runs were done.
        command: the command that repeats it; "" when made in Python.
        versions: of torchdecay, torch, Python and the platform.
        created: when, ISO 8601.
    """

    task: str
    title: str
    step_name: str
    score_name: str = ""
    metric: str = ""
    runs: tuple[TrainingRun, ...]
    seeds: tuple[int, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    noise: bool = False
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    @cached_property
    def _by_label(self) -> Mapping[str, list[TrainingRun]]:
        found: dict[str, list[TrainingRun]] = {}
        for run in self.runs:
            found.setdefault(run.label, []).append(run)
        return found

    def require_each_once(self) -> None:
        """Refuse the same run twice, which would count as two seeds.

        Raises:
            TaskError: with its label and its seed.
        """
        counts = Counter((run.label, run.seed) for run in self.runs)
        if twice := next((key for key, count in counts.items() if count > 1), None):
            raise TaskError(f"the run of {repr_quoted(twice[0])} with seed {twice[1]} is there twice.")

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the deciding measure is better: so for scores, not for losses."""
        return bool(self.score_name)

    def __str__(self) -> str:
        return words_of(self)

    def __repr__(self) -> str:
        # Its fields are every number of every run.
        return str(self)


def common_seeds(done: Iterable[Iterable[int]]) -> frozenset[int]:
    """The most seeds that two have in common, given the seeds of each, and of those what most have.

    Another seed is another difficulty, so means over other seeds can't be set against each other.

    Example:
        >>> sorted(common_seeds([{0, 1, 2}, {0, 1}, {0}]))
        [0, 1]
    """
    sets = [frozenset(seeds) for seeds in done]
    shared = {one & other for one, other in itertools.combinations(sets, 2)} - {frozenset()}
    return max(
        shared or set(sets), key=lambda seeds: (len(seeds), sum(seeds <= one for one in sets)), default=frozenset()
    )
