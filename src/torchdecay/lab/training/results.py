"""Results as frozen values: what each run measured, and what a comparison of runs says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torchdecay.errors import TaskError, need
from torchdecay.lab.training.planned_and_measured import PlannedAndMeasured
from torchdecay.printing import words_of
from torchdecay.records import JsonRecord
from torchdecay.text import nearest, repr_quoted

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.statistics import Best, Contrast

Curve = tuple[float, ...]


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
        line: the loss along a line through the solution.
        acting: what decay was to do, forecast before the training, and what a monitor saw it do; None where nobody
            looked, as in sweeps.
    """

    label: str
    decay: str
    seed: int
    steps: tuple[int, ...]
    train_loss: Curve
    test_loss: Curve
    weight_norm: Curve
    gradient_norm: Curve
    seconds: float
    train_score: Curve | None = None
    test_score: Curve | None = None
    validation_loss: Curve | None = None
    validation_score: Curve | None = None
    line: LineScan | None = None
    acting: PlannedAndMeasured | None = None

    def final(self, curve: str) -> float:
        """The last point of a curve, "test_loss" say; "gap" is final test loss − final train loss.

        Raises:
            TaskError: a name that is no curve, or a curve that this task does not have.
        """
        if curve == "gap":
            return self.test_loss[-1] - self.train_loss[-1]
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
    """One line of a plan's table: a parameter, whether it decays, and why.

    Attributes:
        name: the parameter.
        shape: sizes.
        role: what it is for.
        decay: its decay, printed; "" when spared.
        reason: the rule that decided, in words.
    """

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


@dataclass(frozen=True, kw_only=True)
class Comparison(JsonRecord, kind="comparison"):
    """The same task trained with several decays and seeds.

    Attributes:
        task: the task's name.
        title: one line.
        step_name: what the x axis counts, "epoch" or "step".
        score_name: what the score is called; "" without one.
        labels: the decays in the order they were asked for.
        runs: the finished runs.
        plans: for each label that was started, who decays and why.
        seeds: the seeds that were asked for.
        facts: what to know about task and data, as (what, value) pairs for people.
        notes: sentences that a reader should know.
        chance_loss: the test loss below which no model can be expected to get, where known.
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
    labels: tuple[str, ...]
    runs: tuple[TrainingRun, ...]
    score_name: str = ""
    plans: Mapping[str, PlanSummary] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    chance_loss: float | None = None
    noise: bool = False
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    @property
    def measure(self) -> str:
        """The curve that decides: a score where there is one, on validation rows where there are some."""
        part = "validation" if any(run.validation_loss is not None for run in self.runs) else "test"
        return f"{part}_{'score' if self.score_name else 'loss'}"

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the deciding measure is better: so for scores, not for losses."""
        return bool(self.score_name)

    @property
    def baseline(self) -> str | None:
        """The label to compare with: the first without decay, else the first."""
        finished = [label for label in self.labels if self.of(label)]
        bare = [label for label in finished if self.of(label)[0].decay == "none"]
        return next(iter([*bare, *finished]), None)

    def of(self, label: str) -> tuple[TrainingRun, ...]:
        """The finished runs with this decay, one per seed.

        Raises:
            TaskError: the comparison has no such label.
        """
        if label not in self.labels:
            raise TaskError(
                f"the comparison has no {repr_quoted(label)}.",
                f"It has {', '.join(self.labels)}.",
                nearest(label, self.labels),
            )
        return tuple(run for run in self.runs if run.label == label)

    def final(self, label: str, curve: str) -> Curve:
        """The last point of a curve for each seed; "gap" is test loss − train loss.

        Raises:
            TaskError: an unknown label or curve.
        """
        return tuple(run.final(curve) for run in self.of(label))

    def mean_and_spread(self, label: str, curve: str) -> tuple[float, float | None]:
        """Mean over seeds, and the standard deviation over seeds (n − 1); None with a single seed.

        Raises:
            TaskError: an unknown label or curve, or no finished run.
        """
        from torchdecay.lab.comparisons.statistics import mean, spread

        values = self.final(label, curve)
        if not values:
            raise TaskError(f"no run of {repr_quoted(label)} was finished.")
        return mean(values), spread(values)

    @property
    def best(self) -> Best | None:
        """The decay with the best mean, its t interval, and which others can't be told from it.

        Chosen on validation rows where the task has them. Chosen on test rows, the winner's own number
        flatters it. None when no run was finished.
        """
        from torchdecay.lab.comparisons.statistics import best

        return best(self)

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Each decay against the baseline, seed by seed."""
        from torchdecay.lab.comparisons.statistics import contrasts

        return contrasts(self)

    def with_command(self, command: str) -> Comparison:
        """A copy that carries the command that made it."""
        return replace(self, command=command)

    def to_frame(self) -> Any:
        """A pandas DataFrame: one line per run and step, a column per curve.

        Raises:
            MissingExtra: pandas is not installed.
        """
        pandas = need("pandas", "lab")
        curves = [name for name in CURVES if any(getattr(run, name) is not None for run in self.runs)]
        head = ["label", "decay", "seed", self.step_name]
        lines = [
            [run.label, run.decay, run.seed, step, *(getattr(run, name)[i] for name in curves)]
            for run in self.runs
            for i, step in enumerate(run.steps)
        ]
        return pandas.DataFrame(lines, columns=[*head, *curves])

    def __str__(self) -> str:
        return words_of(self)
