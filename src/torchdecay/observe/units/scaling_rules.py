"""Rules by which weight decay follows the run and the width, each with its source."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torchdecay.observe.units import sources
from torchdecay.observe.units.sources import Source

TPP_EXPONENT = 0.527
"""The best time scale, as a share of the run, falls as (tokens per parameter)^−0.527 (arXiv 2505.13738)."""

Facts = Mapping[str, float]
"""What is known of a run: steps, steps_per_epoch, tokens_per_step, num_params."""


@dataclass(frozen=True)
class Rule:
    """What stays the same when a run changes.

    Attributes:
        name: what `rescale` calls it.
        keeps: what it keeps, in words.
        formula: how f, the fraction of each weight that a step removes, goes along.
        needs: what must be known of both runs.
        level: facts → a number that f is proportional to.
        source: who says so.
    """

    name: str
    keeps: str
    formula: str
    needs: tuple[str, ...]
    level: Callable[[Facts], float]
    source: Source


def tokens_per_parameter(facts: Facts) -> float:
    """Tokens of the whole run per parameter of the model."""
    return facts["tokens_per_step"] * facts["steps"] / facts["num_params"]


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "timescale_epochs",
            "the time scale in epochs",
            "f ∝ 1/steps per epoch",
            ("steps_per_epoch",),
            lambda facts: 1 / facts["steps_per_epoch"],
            sources.TIMESCALE,
        ),
        Rule(
            "timescale_runs",
            "the time scale as a share of the run",
            "f ∝ 1/steps",
            ("steps",),
            lambda facts: 1 / facts["steps"],
            sources.POWER_LINES,
        ),
        Rule(
            "tokens_per_parameter",
            "the time scale at its power law",
            "f ∝ (tokens per parameter)^0.527/steps",
            ("steps", "tokens_per_step", "num_params"),
            lambda facts: math.pow(tokens_per_parameter(facts), TPP_EXPONENT) / facts["steps"],
            sources.POWER_LINES,
        ),
        Rule(
            "normalized",
            "the normalized weight decay",
            "f ∝ 1/√steps",
            ("steps",),
            lambda facts: 1 / math.sqrt(facts["steps"]),
            sources.DECOUPLED,
        ),
        Rule(
            "rotation",
            "the rotation per step of scale-invariant weights",
            "f stays",
            (),
            lambda facts: 1.0,
            sources.EQUILIBRIUM,
        ),
    )
}


@dataclass(frozen=True)
class WidthRule:
    """How a decoupled λ follows the width in one source, and how the learning rate does meanwhile."""

    name: str
    exponent: float
    lr_exponent: float
    source: Source


WIDTHS = (
    WidthRule("width", 1.0, -1.0, sources.TIMESCALE),
    WidthRule("square_root", 0.5, -1.0, sources.SQUARE_ROOT),
    # Of an independent λ, which is the fraction itself, it is ∝ 1/width.
    WidthRule("inverse", 0.0, -1.0, sources.TRANSFER),
)
"""The sources disagree, and none has shown the others wrong."""
