"""What decides at each step how hard, and which elements: controllers and gates, as values.

The state that they keep and the arithmetic are in `torchdecay.apply.runtimes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchdecay.arguments import check_count, check_number, check_word, store
from torchdecay.encoding import value_type
from torchdecay.plans.granularity import Per, check_per


class Gate:
    """Decides at each step which elements the pull acts on. `symbol` is how equations name that."""

    symbol: str = ""


@value_type
@dataclass(frozen=True)
class Cautious(Gate):
    """Let the pull act only where it agrees with the update: 1[u⊙θ ≥ 0], u being the optimizer's own update.

    `zero_update` says what happens where the update is exactly 0: "decay" (≥, as the paper) or "spare" (>).
    """

    zero_update: Literal["decay", "spare"] = "decay"

    def __post_init__(self) -> None:
        check_word(self.zero_update, "zero_update", ("decay", "spare"))

    @property
    def symbol(self) -> str:  # type: ignore[override]
        """How equations name it."""
        return "1[u⊙θ ≥ 0]" if self.zero_update == "decay" else "1[u⊙θ > 0]"


class RowGate(Gate):
    """Decides by rows, the slices of a tensor along its first dimension: for tables with sparse gradients."""


@value_type
@dataclass(frozen=True)
class TouchedRows(RowGate):
    """Let the pull act only on rows that the step's gradient touches: its indices, or where a dense one is not 0."""

    symbol = "1[row in g]"


@value_type
@dataclass(frozen=True)
class LazyRows(RowGate):
    """Pull every row at every step, but do the work when a row is touched: all that it owes then, at once.

    What rows owe is kept as one number per row, and paid by `handle.flush()`. Equations do not name it, since in the
    end it is the pull without a gate.
    """


Rows = Literal["all", "touched", "lazy"]
ROW_GATES: dict[Rows, RowGate | None] = {"all": None, "touched": TouchedRows(), "lazy": LazyRows()}
"""What a preset's `rows=` means."""


def as_gate(rows: Rows) -> RowGate | None:
    """The gate that a preset's `rows=` means."""
    check_word(rows, "rows", ROW_GATES)
    return ROW_GATES[rows]


class Controller:
    """Sets what the coefficient is multiplied by, at each step, from what it may see.

    `symbol` is how equations name the multiplier, and `most` is the largest one, None where the optimizer or the
    weights decide that; what each one sees and keeps is said by the class.
    """

    symbol: str = "m_t"
    most: float | None = None


@value_type
@dataclass(frozen=True)
class Stable(Controller):
    """m = 1/√v̄ for the Adam family, (1 − dampening)/(1 − momentum) for SGD.

    v̄ is the mean of this step's bias-corrected second moment over all elements of all groups. Sees gradients and
    optimizer state; keeps nothing.
    """

    symbol = "(1/√v̄)"


@value_type
@dataclass(frozen=True)
class GradientNormRatio(Controller):
    """m̄ ← (1 − beta)·m̄ + beta·‖g‖/‖θ‖ over all its parameters together, from 0. Keeps one number."""

    beta: float = 0.9
    symbol = "m̄"

    def __post_init__(self) -> None:
        store(self, beta=check_number(self.beta, "adaptive beta", maximum=1.0, open_minimum=True))


@value_type
@dataclass(frozen=True)
class GradientSigmoid(Controller):
    """m = 2/(1 + e^(−α·g̃)) elementwise, g̃ = (|g| − mean)/std per tensor. Sees gradients; keeps nothing."""

    alpha: float = 4.0
    symbol = "2σ(α·g̃)"
    most = 2.0

    def __post_init__(self) -> None:
        store(self, alpha=check_number(self.alpha, "ada_decay alpha"))


@value_type
@dataclass(frozen=True)
class Multiplier(Controller):
    """Lagrange multiplier of the constraint R(θ) ≤ κ: μ ← max(0, μ + ρ·(R(θ) − κ)). Keeps μ and κ per tensor.

    κ is `bound` ("fixed"), `bound`·R(θ₀) ("initial"), or R(θ) when `warmup_steps` steps are over ("warmup"). With
    `per_element` ρ is the coefficient over the tensor's number of elements (but not for `Deviation`), else the
    coefficient itself.
    """

    kind: Literal["fixed", "initial", "warmup"]
    bound: float = 1.0
    warmup_steps: int = 0
    per_element: bool = True
    symbol = "μ"

    def __post_init__(self) -> None:
        check_word(self.kind, "kind", ("fixed", "initial", "warmup"))
        store(self, bound=check_number(self.bound, "constrained bound"))
        least = 1 if self.kind == "warmup" else 0
        store(self, warmup_steps=check_count(self.warmup_steps, "constrained warmup_steps", minimum=least))


@value_type
@dataclass(frozen=True)
class NormRatio(Controller):
    """m = 1 − ratio·‖θ₀‖/‖θ‖ per slice: shrinks what is longer than its target, lengthens what is shorter."""

    ratio: float = 1.0
    per: Per | None = "tensor"
    symbol = "(1 − r‖θ₀‖/‖θ‖)"
    most = 1.0

    def __post_init__(self) -> None:
        store(self, ratio=check_number(self.ratio, "norm_control ratio"))
        check_per(self.per, "norm_control")


@value_type
@dataclass(frozen=True)
class Projection(Controller):
    """m = clip((‖q − ref‖ − ‖p − ref‖)/‖q − ref‖, 0, 1) per tensor where −⟨g, p − ref⟩ < 0, else 0.

    p is the weight before the update, q after it. Sees gradients; keeps nothing.
    """

    symbol = "clip((‖q − ref‖ − ‖p − ref‖)/‖q − ref‖, 0, 1)"
    most = 1.0


@value_type
@dataclass(frozen=True)
class BySpectrum(Controller):
    """m from `low` to `high`, linear in the tail exponent α of each matrix's spectrum, smallest α to largest.

    α = 1 + m/(Σ_{j≥i} ln λⱼ − m·ln λᵢ) over the upper half of λ = σ², by Hill's estimator; measured every
    `every_steps` steps. Matrices with fewer than `min_values` singular values keep 1. Keeps one number per tensor.
    """

    low: float = 2 / 3
    high: float = 3.0
    every_steps: int = 500
    min_values: int = 50
    symbol = "m(α)"

    def __post_init__(self) -> None:
        store(self, low=check_number(self.low, "by_spectrum low"))
        store(self, high=check_number(self.high, "by_spectrum high", minimum=self.low))
        store(self, every_steps=check_count(self.every_steps, "by_spectrum every_steps"))
        store(self, min_values=check_count(self.min_values, "by_spectrum min_values", minimum=2))

    @property
    def most(self) -> float:  # type: ignore[override]
        """That of the lightest tail, or of what is not measured."""
        return max(self.high, 1.0)
