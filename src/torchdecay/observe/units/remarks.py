"""What of a case lies outside what the source of a suggestion looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchdecay.observe.run import Run
from torchdecay.observe.units.coupling import Kind
from torchdecay.observe.units.scaling_rules import tokens_per_parameter
from torchdecay.plans.decay import Decay, Site

SIZES = (111e6, 3.3e9)
"""Parameters of the models that arXiv 2505.13738 trained."""
RATIOS = (10, 1000)
"""Tokens per parameter beyond which this package calls its power law a guess."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a rule may look at. `facts` are what `facts_of` knows of the run, and its peak learning rate."""

    run: Run
    lr: float
    curve: Sequence[float]
    facts: Mapping[str, float]
    kind: Kind | None
    embedding_share: float
    known: tuple[float | Decay, Run, int | None] | None

    @property
    def tokens_per_parameter(self) -> float:
        """Of the whole run."""
        return tokens_per_parameter(self.facts)


def of_timescale(case: Case) -> Iterator[str]:
    """For the rule of the time scale."""
    per_epoch = case.facts["steps_per_epoch"]
    if case.facts["steps"] <= per_epoch:
        yield (
            "the run sees its data no more than once, so that the lower bound of the time scale, one epoch, says "
            "nothing; for a language model give tokens_per_sample"
        )
    elif per_epoch < 10:
        yield (
            f"an epoch has {per_epoch:g} steps: at the upper end a weight forgets within {per_epoch:g} steps, which is "
            "hardly training; begin at the lower end"
        )
    yield from _other_optimizer(case.kind)


def of_power_law(case: Case) -> Iterator[str]:
    """For the power law in tokens per parameter."""
    facts, curve, ratio = case.facts, case.curve, case.tokens_per_parameter
    size = facts["num_params"]
    if not SIZES[0] <= size <= SIZES[1]:
        yield f"{size:,.0f} parameters lie outside the {SIZES[0]:,.0f} to {SIZES[1]:,.0f} that the law was fitted on"
    if not RATIOS[0] <= ratio <= RATIOS[1]:
        yield f"{ratio:.3g} tokens per parameter: outside {RATIOS[0]} to {RATIOS[1]:,} the law is a guess"
    epochs = facts["steps"] / facts["steps_per_epoch"] if "steps_per_epoch" in facts else 1.0
    if epochs > 1:
        yield f"the data is seen {epochs:.3g} times; the law was fitted on data seen once"
    if curve and curve[-1] > 0.1 * max(curve):
        yield "the learning rate ends above a tenth of its peak; the law was fitted with one that falls linearly"
    if case.embedding_share > 0.2:
        yield f"{case.embedding_share:.0%} of the parameters are embeddings, which count here as all others do"
    yield from _other_optimizer(case.kind)


def _other_optimizer(kind: Kind | None) -> Iterator[str]:
    if kind is not None and kind.name != "AdamW":
        yield f"the source looked at AdamW, not at {kind.name}"


def general(case: Case, value: float, *, is_mixed: bool) -> Iterator[str]:
    """For every rule."""
    kind, curve = case.kind, case.curve
    if "tokens_per_step" in case.facts:
        yield (
            "a base model that is to be fine-tuned may want more than its own loss does: larger decay in pretraining "
            "gained more from fine-tuning, even where the base model was worse (arXiv 2602.11137)"
        )
    if is_mixed:
        yield "groups have learning rates of their own; the value is for the largest of them"
    if kind is not None and kind.site is Site.GRADIENT and not kind.plain:
        yield (
            f"{kind.name}'s own weight_decay is coupled and means something else: carry this value out with "
            "td.attach and td.decoupled"
        )
    mean = sum(curve) / len(curve) if curve else 0.0
    if curve and mean < 0.9 * max(curve):
        yield (
            f"the learning rate is on average {mean / max(curve):.0%} of its peak, at which time scales are counted "
            "here: over the run weights forget that much more slowly"
        )
    if value > 1:
        yield "values above 1 are usual where runs are short: what counts is the time scale"
