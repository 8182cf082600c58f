"""The page of the demo: real trainings, and then the worked example, its matrices tinted by their values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.errors import TaskError
from torchdecay.reports.article import Page
from torchdecay.reports.comparison import sentences
from torchdecay.reports.comparison.page import article_of
from torchdecay.text import listed

if TYPE_CHECKING:
    from torchdecay.lab.comparisons.comparison import Comparison
    from torchdecay.lab.example import Update, WorkedExample


@dataclass(frozen=True)
class Cell:
    """One number: as text, whether it is negative, and how strong its tint is, in percent."""

    text: str
    negative: bool
    tint: int


@dataclass(frozen=True)
class Matrix:
    """A matrix under its name, and the sign that joins it to the one before."""

    name: str
    rows: tuple[tuple[Cell, ...], ...]
    sign: str = ""


@dataclass(frozen=True)
class Step:
    """The start, or one weight decay: what it is, and matrices below each other, each row of them with its label."""

    heading: str
    words: str
    rows: tuple[tuple[str, tuple[Matrix, ...]], ...]


def steps_of(example: WorkedExample) -> tuple[Step, ...]:
    """Arrange the worked example for a page: the start, then each weight decay."""
    start = _matrices(("", "w before the step", example.weights), ("", "x", example.inputs))
    first = Step("One step by hand", verdict(example), (("The start", start),))
    return (first, *(_step(example, update) for update in example.updates))


def page_of(example: WorkedExample) -> Page:
    """The page of the worked example by itself."""
    return demo_page(example, ())


def verdict(example: WorkedExample) -> str:
    """What the step does, in a few sentences."""
    return (
        f"Twenty weights w and three inputs x; the loss is sum(x @ w) = {example.updates[0].loss:.4f}. One step of SGD "
        f"with learning rate {example.lr:g} moves every weight by the learning rate times two gradients: that of the "
        "loss, and that of the penalty. Both are taken with respect to the weights."
    )


def demo_page(example: WorkedExample, comparisons: Sequence[Comparison]) -> Page:
    """One page of the worked example and several comparisons, whose tasks' names become those of files."""
    articles = tuple(map(article_of, comparisons))
    names = [one.id for one in articles]
    if len(set(names)) != len(names) or "example" in names:
        raise TaskError(
            f"the page was given comparisons called {listed(names)}.",
            "Their names become the names of files.",
            "Give each task a name of its own.",
        )
    numbers = {
        f"{name}.json": one.to_json(verdict=sentences.verdict(one))
        for name, one in zip(names, comparisons, strict=True)
    }
    return Page(
        title="Weight decay, seen at work",
        description="Real trainings, with decay and without; then one step by hand, number by number.",
        articles=articles,
        example=steps_of(example),
        numbers={**numbers, "example.json": example.to_json()},
    )


def _step(example: WorkedExample, update: Update) -> Step:
    wd, lr = update.weight_decay, f"{example.lr:g}"
    gradients = [("", "d(loss)/dw", update.loss_gradient)]
    terms = [("", "w", example.weights), ("−", f"{lr} · d(loss)/dw", update.loss_step)]
    heading = "Without decay"
    words = "Only the gradient of the loss moves the weights: all of one row alike, large ones and small ones."
    if wd:
        gradients.append(("", f"d(penalty)/dw = {wd:g} · w", update.decay_term))
        terms.append(("−", f"{lr} · d(penalty)/dw", update.decay_step))
        heading = f"Weight decay {wd:g}"
        words = (
            f"The penalty is {wd:g}/2 · Σw² = {update.penalty:.4f}. Its gradient is {wd:g} · w: a pull toward zero "
            "that grows with the weight."
        )
    terms.append(("=", "w after the step", update.weights))
    rows = (("The two gradients", _matrices(*gradients)), ("The step", _matrices(*terms)))
    return Step(heading, words, rows)


def _matrices(*named: tuple[str, str, Sequence[Sequence[float]]]) -> tuple[Matrix, ...]:
    """Matrices whose cells are tinted on one common scale."""
    largest = max(abs(value) for _, _, values in named for row in values for value in row) or 1.0
    return tuple(
        Matrix(name=name, rows=tuple(tuple(_cell(value, largest) for value in row) for row in values), sign=sign)
        for sign, name, values in named
    )


def _cell(value: float, largest: float) -> Cell:
    text = f"{value:.4f}"
    text = text[1:] if text == "-0.0000" else text
    return Cell(
        text=text.replace("-", "−"),
        negative=value < 0,
        tint=round(30 * (abs(value) / largest)) if math.isfinite(value / largest) else 0,
    )
