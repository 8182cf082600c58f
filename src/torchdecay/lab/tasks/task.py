"""`Task`: what is trained, as one value: data, model, loss, optimizer and how long."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchdecay.arguments import check_count
from torchdecay.errors import TaskError
from torchdecay.plans.policies import STANDARD

Rows: TypeAlias = tuple[Tensor, Tensor]
ROWS_AT_ONCE = 4096


def adamw(groups: list[dict[str, Any]]) -> Optimizer:
    """AdamW at learning rate 1e-3: a task's optimizer unless it names another."""
    return AdamW(groups, lr=1e-3)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Inputs and targets, one row per example along the first dimension.

    Attributes:
        train: (x, y) that the optimizer sees.
        test: (x, y) that it never sees.
        validation: (x, y) for choosing between decays; None leaves only the test rows to go by.

    Raises:
        TaskError: a part that is no pair of tensors, is empty, or whose x and y differ in length.

    Example:
        >>> import torch
        >>> x, y = torch.randn(30, 4), torch.zeros(30)
        >>> Data(train=(x[:20], y[:20]), test=(x[20:], y[20:])).sizes
        {'train': 20, 'test': 10}
    """

    train: Rows
    test: Rows
    validation: Rows | None = None

    def __post_init__(self) -> None:
        for part, rows in self.parts.items():
            if not (isinstance(rows, (tuple, list)) and len(rows) == 2 and all(isinstance(t, Tensor) for t in rows)):
                raise TaskError(
                    f"Data's {part} is of type {type(rows).__name__}.",
                    fix=f"Give {part}=(x, y), two tensors.",
                )
            x, y = rows
            if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
                raise TaskError(
                    f"Data's {part} has x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}.",
                    "Row i of x belongs to entry i of y.",
                    "Give them the same first size.",
                )
            if len(x) == 0:
                raise TaskError(f"Data's {part} has no rows.", fix="Give it at least one.")

    @property
    def parts(self) -> dict[str, Rows]:
        """The parts that are there, by name."""
        parts = {"train": self.train, "test": self.test}
        return parts if self.validation is None else parts | {"validation": self.validation}

    @property
    def sizes(self) -> dict[str, int]:
        """Number of rows of each part."""
        return {part: len(x) for part, (x, _) in self.parts.items()}


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that a comparison of decays trains, except the decay.

    `torchdecay compare module:function` runs the Task that your function returns. `model`, `loss` and
    `score` are functions of tensors only: they keep no state between calls.

    Args:
        name: a short word, for files and tables: letters, digits, _, - and .
        data: takes a seed, returns `Data`; the same seed gives the same data.
        model: takes nothing, returns a fresh model; called after `torch.manual_seed(seed)`.
        loss: (outputs, targets) to a 0-d tensor, the mean over rows.
        num_steps: optimizer steps, at least 1.
        title: one line for the page; the name where empty.
        optimizer: takes parameter groups, returns an optimizer; AdamW at lr 1e-3 by default. The decays
            under comparison own `weight_decay`.
        scheduler: takes the optimizer, returns a learning-rate scheduler that is stepped after every step.
        batch_size: rows per step, in an order drawn anew each epoch, whole batches only; None is all rows.
        eval_every: steps from one point of the curves to the next.
        score: (outputs, targets) to a float, more is better; None leaves the loss as the only measure.
        score_name: what the score is called.
        num_threads: CPU threads to train with; None leaves torch's. A small network is fastest with one, and
            several on a busy machine wait for each other.
        rules: who decays; see `torchdecay.plan`. A rule with a decay of its own keeps it in every run.
        seeds: seeds of a comparison when none are named.
        decays: decays of a comparison when none are named, as typed on the command line.
        chance_loss: the loss on new rows below which no model can be expected to get, where known.
        noise: whether the labels are noise, so that nothing can be learned.
        notes: sentences that a reader of the results should know.
        trunk: where runs go on from, by seed and multiplier of the learning rate; a sweep with `fork_at` makes it.

    Raises:
        TaskError: something that is not callable, or a number outside its range.

    Example:
        >>> import torch, torchdecay as td
        >>> from torchdecay.lab.tasks.task import Data, Task
        >>> def data(seed):
        ...     x = torch.randn(60, 8, generator=torch.Generator().manual_seed(seed))
        ...     y = (x[:, :1] > 0).float()
        ...     return Data(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
        >>> task = Task(
        ...     name="halves",
        ...     data=data,
        ...     model=lambda: torch.nn.Linear(8, 1),
        ...     loss=torch.nn.functional.binary_cross_entropy_with_logits,
        ...     num_steps=20,
        ... )
        >>> task.measure
        'loss'
    """

    name: str
    data: Callable[[int], Data]
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    num_steps: int
    title: str = ""
    optimizer: Callable[[list[dict[str, Any]]], Optimizer] = adamw
    scheduler: Callable[[Optimizer], LRScheduler] | None = None
    batch_size: int | None = None
    eval_every: int = 10
    score: Callable[[Tensor, Tensor], float] | None = None
    score_name: str = "score"
    num_threads: int | None = None
    rules: Iterable[Any] = STANDARD
    seeds: Sequence[int] = (0, 1, 2)
    decays: Sequence[str] = ("none", "decoupled:0.1")
    chance_loss: float | None = None
    noise: bool = False
    notes: Sequence[str] = ()
    trunk: Mapping[tuple[int, float], Mapping[str, Any]] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w.-]*", self.name):
            raise TaskError(
                f"a task is called {self.name!r}.",
                "Its name becomes that of files.",
                "Use letters, digits, _, - and . only; the title may say anything.",
            )
        for field in ("data", "model", "loss", "optimizer", "scheduler", "score"):
            value = getattr(self, field)
            if not callable(value) and not (value is None and field in ("scheduler", "score")):
                raise TaskError(
                    f"the task {self.name!r} has a {field} of type {type(value).__name__}.",
                    fix=f"Give a function, {field}=lambda ...: ...",
                )
        for field in ("num_steps", "eval_every", "batch_size", "num_threads"):
            value = getattr(self, field)
            if value is not None or field in ("num_steps", "eval_every"):
                check_count(value, f"{field} of the task {self.name!r}", error=TaskError)
        if not self.seeds or not self.decays:
            raise TaskError(f"the task {self.name!r} has no default seeds or decays.", fix="Name at least one of each.")

    @property
    def measure(self) -> str:
        """What decides between decays: the score's name, or "loss"."""
        return self.score_name if self.score is not None else "loss"

    @property
    def step_name(self) -> str:
        """What one step is called: an epoch where every step sees all rows."""
        return "epoch" if self.batch_size is None else "step"


def data_of(task: Task, seed: int) -> Data:
    """The task's data for a seed."""
    made = task.data(seed)
    if not isinstance(made, Data):
        raise TaskError(
            f"the task {task.name!r} made data of type {type(made).__name__}.",
            fix="Let data(seed) return torchdecay.lab.Data(train=(x, y), test=(x, y)).",
        )
    return made


def model_of(task: Task, seed: int) -> nn.Module:
    """A fresh model, initialized from the seed; the global random state is left as the model left it."""
    torch.manual_seed(seed)
    made = task.model()
    if not isinstance(made, nn.Module):
        raise TaskError(
            f"the task {task.name!r} made a model of type {type(made).__name__}.",
            fix="Let model() return a torch.nn.Module.",
        )
    return made


def measures(task: Task, outputs: Tensor, targets: Tensor) -> tuple[float, float | None]:
    """Loss and score of some outputs; the score is None where the task has none."""
    score = None if task.score is None else float(task.score(outputs, targets))
    return float(task.loss(outputs, targets)), score


def evaluate(task: Task, model: nn.Module, rows: Rows) -> tuple[float, float | None]:
    """Loss and score of the model on some rows, in eval mode; the model's mode is put back."""
    x, y = rows
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            # In pieces for the sake of memory; joined before the loss, because a score need not be a mean over rows.
            return measures(task, torch.cat([model(piece) for piece in torch.split(x, ROWS_AT_ONCE)]), y)
    finally:
        model.train(was_training)
