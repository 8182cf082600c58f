"""What is worth saying about a course, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchdecay.observe.forecast.course import Course
from torchdecay.observe.forecast.predictability import Prediction, is_paid, low_dtypes, visible
from torchdecay.observe.fractions import timescale
from torchdecay.observe.pulls import Pulled
from torchdecay.plans.decay import Site
from torchdecay.plans.groups import MARK


@dataclass(frozen=True)
class Remark:
    """One thing worth knowing before the run.

    Attributes:
        kind: "too weak", "within an epoch", "sign flip", "diverges", "swings", "rounded away", "rounding is paid",
            "above the peak", "not at work", "bound", "a part" or "unknown".
        text: one sentence.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def remarks_on(
    pulled: Pulled,
    dtypes: Sequence[str],
    course: Course | None,
    rates: Sequence[float] | None,
    prediction: Prediction,
    why: str,
    steps_per_epoch: int | None,
) -> Iterator[Remark]:
    """All remarks on one group, the gravest first."""
    if pulled.wiring == "not attached":
        planned = str(pulled.values[MARK]).removeprefix("not attached: ")
        yield Remark("not at work", f"{planned} was planned and never attached; call td.attach(optimizer, plan).")
    elif pulled.wiring == "hooks lost":
        yield Remark("not at work", "a plan was attached, and its hooks are gone; call td.attach(optimizer, plan).")
    if prediction == "unknown":
        yield Remark("unknown", f"{why}.")
    if course is None or pulled.decay is None:
        return
    yield from _flips(course)
    yield from _rounding(pulled, dtypes, course)
    if pulled.peak is not None and rates is not None and max(rates) > pulled.peak * (1 + 1e-12):
        text = f"lr reaches {max(rates):g}, above max_lr={pulled.peak:g} that the decay is scaled by."
        yield Remark("above the peak", text)
    if prediction == "at most":
        yield Remark("bound", f"this much at most: {why}.")
    if course.stride > 1:
        text = f"told from {len(course.pulls):,} of the steps, evenly taken; what a schedule does in between is not."
        yield Remark("a part", text)
    yield from _pace(course, steps_per_epoch)


def _flips(course: Course) -> Iterator[Remark]:
    worst = round(course.worst * course.stride)
    largest = course.pulls[course.worst]
    if course.swings:
        through = "momentum carries a weight without gradient through zero and back"
        if min(course.fractions) < 0.0 or max(course.fractions) > 2.0:
            yield Remark("diverges", f"{through}, further each time.")
        else:
            yield Remark("swings", f"{through}: what a step takes, and the half-life, are of how far it swings.")
    elif largest > 2.0:
        yield Remark("diverges", f"step {worst:,} takes {largest:.3g} of each weight: it flips its sign and grows.")
    elif largest > 1.0:
        yield Remark("sign flip", f"step {worst:,} takes {largest:.3g} of each weight: it flips its sign.")


def _rounding(pulled: Pulled, dtypes: Sequence[str], course: Course) -> Iterator[Remark]:
    lost = [dtype for dtype in low_dtypes(dtypes) if 0.0 < course.largest < visible(dtype)]
    if not lost:
        return
    much = f"no step takes more than {course.largest:.2g}, and {lost[0]} shows no less than {visible(lost[0]):.2g}"
    if is_paid(pulled):
        yield Remark("rounding is paid", f"{much}; td.attach keeps what is owed and pays it.")
        return
    at_site = pulled.site in (Site.BEFORE, Site.AFTER)
    cure = "td.attach with td.decoupled keeps what is owed and pays it" if at_site else "float32 weights show it"
    yield Remark("rounded away", f"{much}, so a weight without gradient stays where it is; {cure}.")


def _pace(course: Course, steps_per_epoch: int | None) -> Iterator[Remark]:
    num_steps = round(course.stride * len(course.fractions))
    scale = timescale(course.mean_fraction)
    if scale > num_steps:
        has = f"the run has {num_steps:,}"
        slow = f"in {num_steps:,} steps nothing is taken at all"
        yield Remark(
            "too weak", f"{slow}." if math.isinf(scale) else f"its time scale is {scale:,.0f} steps, and {has}."
        )
    elif steps_per_epoch is not None and scale < steps_per_epoch:
        text = f"weights forget in {scale:,.0f} steps, and an epoch has {steps_per_epoch:,}."
        yield Remark("within an epoch", text)
