"""`Contender`: one of those that a comparison compares, from what people type or pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from torchdecay.arguments import check_number
from torchdecay.errors import DecayError, TaskError
from torchdecay.plans.decay import Decay, as_decay
from torchdecay.plans.forms.l2 import coupled
from torchdecay.plans.plan import Plan
from torchdecay.plans.spelling import parse_decay
from torchdecay.text import nearest, repr_quoted


@dataclass(frozen=True)
class ByHand:
    """Decay written into a training loop by hand: after backward, before the step, grad += wd·w.

    What people write when they have no library. It equals `coupled(wd)`, and a comparison of the two shows it.

    Args:
        wd: at least 0.

    Raises:
        DecayError: wd is negative, NaN, infinite or not a number.

    Example:
        >>> ByHand(0.1)
        by_hand(0.1)
    """

    wd: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "wd", check_number(self.wd, "by_hand"))

    def __repr__(self) -> str:
        return f"by_hand({self.wd:g})"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One contender: its name in tables and charts, and what it puts into training.

    That is a Decay for the task's rules, a whole Plan, `ByHand`, or None for no decay.
    """

    label: str
    what: Plan | Decay | ByHand | None

    @property
    def decay(self) -> Decay | None:
        """The decay to plan with; of a plan its own."""
        if isinstance(self.what, ByHand):
            return coupled(self.what.wd)
        return self.what.decay if isinstance(self.what, Plan) else self.what

    @property
    def printed(self) -> str:
        """The decay as it prints; "none" without."""
        if self.what is None or (isinstance(self.what, Plan) and all(row.decay is None for row in self.what.rows)):
            return "none"
        return f"plan with {self.what.decay!r}" if isinstance(self.what, Plan) else repr(self.what)

    @cached_property
    def key(self) -> str:
        """Text that no other contender has: labels may be given twice, and a plan prints its own decay only."""
        if not isinstance(self.what, Plan):
            return self.printed
        return f"{self.printed} {hashlib.sha256(self.what.to_json(opaque=True).encode()).hexdigest()[:12]}"


BARE = Contender(label="none", what=None)
ContenderLike: TypeAlias = "Contender | Plan | Decay | ByHand | float | str | None"


def as_contender(value: ContenderLike, label: str | None = None) -> Contender:
    """A contender from a spelling, a number, a Decay, a Plan, `ByHand` or None."""
    if isinstance(value, Contender):
        return value
    what: Any = value
    if isinstance(value, str):
        what = _parse(value)
        label = label or value.strip().lower() if what is None else label or value.strip()
    elif not isinstance(value, (Plan, ByHand)):
        what = as_decay(value)
    made = Contender(label=label or "", what=what)
    return made if made.label else Contender(label=made.printed, what=what)


def as_contenders(contenders: Mapping[str, ContenderLike] | Sequence[ContenderLike]) -> tuple[Contender, ...]:
    """Contenders with distinct labels, in order."""
    if isinstance(contenders, Mapping):
        made = tuple(as_contender(value, label) for label, value in contenders.items())
    elif isinstance(contenders, (str, Plan, Decay, ByHand)) or not isinstance(contenders, Sequence):
        raise TaskError(
            f"the decays to compare are {contenders!r}.",
            fix="Give a list, [None, td.decoupled(0.1)], or a mapping of labels to decays.",
        )
    else:
        made = tuple(as_contender(value) for value in contenders)
        first: dict[str, str] = {}
        for one in made:
            if (other := first.setdefault(one.key, one.label)) != one.label:
                raise TaskError(
                    f"the decays {repr_quoted(other)} and {repr_quoted(one.label)} are the same.",
                    "It would be trained twice.",
                    "Name it once, or give both labels of their own: {label: decay, ...}.",
                )
    if not made:
        raise TaskError("there is no decay to compare.", fix='Name at least one, "none" and "decoupled:0.1" say.')
    labels = [contender.label for contender in made]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise TaskError(
            f"the decay {repr_quoted(twice)} is asked for twice.",
            "Its runs could not be told apart.",
            "Name it once, or give both labels of their own: {label: decay, ...}.",
        )
    return made


def _parse(text: str) -> Decay | ByHand | None:
    name, _, value = text.strip().partition(":")
    if name != "by_hand":
        if hint := nearest(name, ["by_hand"]):
            raise DecayError(f"unknown decay {repr_quoted(text)}.", fix=hint)
        return parse_decay(text)
    try:
        return ByHand(float(value))
    except ValueError as error:
        if isinstance(error, DecayError):
            raise
        raise DecayError(f"the decay {repr_quoted(text)} has no number.", fix='Write "by_hand:0.1".') from error
