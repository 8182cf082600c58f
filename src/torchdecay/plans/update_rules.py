"""What becomes of the optimizer's update: rules that set the norm of a weight, or of its step, as values.

With W before the step, ηu the update that the optimizer took, and N(x) = x/‖x‖. The arithmetic is in
`torchdecay.apply.update_rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torchdecay.arguments import check_number, check_word, store
from torchdecay.encoding import value_type
from torchdecay.plans.granularity import Per, check_per

Radius = float | Literal["initial", "current"]
"""A norm: a number, that at attach, or that before the step."""


@dataclass(frozen=True)
class UpdateRule:
    """What weights W, of which the optimizer made W − ηu, become instead.

    Attributes:
        word: the name of the form, for messages.
        per: the slices that have a norm each; None is each expert of three dimensions, else the tensor.
        symbol: how equations name what W becomes.
        keeps_copy: whether it takes a copy of the weights before the step.
        needs_norm: whether a weight that is all zeros would stay so.
    """

    per: Per | None = None
    word = ""
    symbol = "W"
    keeps_copy = False
    needs_norm: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_per(self.per, self.word)


@dataclass(frozen=True)
class Sphere(UpdateRule):
    """Of which W has the norm `radius`, R, after every step."""

    radius: Radius = "initial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.radius, str):
            check_word(self.radius, f"{self.word} radius, where it is no number,", ("initial", "current"))
        else:
            store(self, radius=check_number(self.radius, f"{self.word} radius", open_minimum=True))

    @property
    def needs_norm(self) -> bool:  # type: ignore[override]
        """Not where the norm is a number."""
        return isinstance(self.radius, str)


@value_type
@dataclass(frozen=True)
class Hyperball(Sphere):
    """W ← R·N(W − ηR·N(u)): the weight's norm is R, and η the length of a step over it."""

    word = "hyperball"
    symbol = "R·N(W − η·R·N(u))"
    keeps_copy = True


@value_type
@dataclass(frozen=True)
class NormProjection(Sphere):
    """W ← R·N(W − ηu): the step as the optimizer takes it, then the norm R."""

    word = "projection"
    symbol = "R·N(W − η·u)"


@value_type
@dataclass(frozen=True)
class RadialBrake(UpdateRule):
    """‖W′‖ = ‖W‖ + s·(‖W − ηu‖ − ‖W‖), along W − ηu: s is `outward` where the step makes W longer, else `inward`."""

    outward: float = 0.5
    inward: float = 1.0
    word = "radial_brake"
    symbol = "(‖W‖ + s·(‖W − η·u‖ − ‖W‖))·N(W − η·u)"

    def __post_init__(self) -> None:
        super().__post_init__()
        store(self, outward=check_number(self.outward, "radial_brake outward", maximum=1.0))
        store(self, inward=check_number(self.inward, "radial_brake inward", maximum=1.0))


@value_type
@dataclass(frozen=True)
class RelativeUpdate(UpdateRule):
    """W ← W − η·(‖W‖/‖u‖)·u: η is the length of a step over that of the weight, which may change."""

    word = "relative_update"
    symbol = "W − η·(‖W‖/‖u‖)·u"
    keeps_copy = True
    needs_norm = True
