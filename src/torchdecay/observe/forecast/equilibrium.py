"""Where weights that only have a direction come to rest: rotation per step, size, and the time to get there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from torchdecay.errors import UnitError
from torchdecay.observe.pulls import Pulled
from torchdecay.optimizers import formulas
from torchdecay.optimizers.cards import has_trait, update_of
from torchdecay.optimizers.updates import Update

Rule = Literal["AdamW", "SGD", "Lion", "Muon"]
_RULES: Mapping[Update, Rule] = {formulas.SGD: "SGD", formulas.ADAM: "AdamW", formulas.LION: "Lion"}


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    r"""What a scale-invariant weight, one that a norm follows, comes to when gradients are noise.

    Decay shortens it, updates lengthen it, and at rest both are equal. With f the fraction that decay takes per step:

    $$\begin{aligned}
    \text{AdamW} &: \text{rotation} = \sqrt{2f\,\tfrac{1-\beta_1}{1+\beta_1}}, \quad
                    \|w\| = \sqrt{\eta C/(2\lambda)} \\
    \text{SGD}   &: \text{rotation} = \sqrt{2\eta\lambda/(1+\mu)}, \quad
                    \|w\| = \left(\tfrac{\eta\,G^2}{2\lambda(1-\mu)}\right)^{1/4} \\
    \text{Lion}  &: \text{rotation} = \sqrt{\pi f K}, \quad \|w\| = \sqrt{\eta C/(\pi\lambda K)}, \quad
                    K = (1-\beta_1)^2 + \beta_1^2\tfrac{1-\beta_2}{1+\beta_2} \\
    \text{Muon}  &: \text{rotation} \approx \sqrt{2f/S}, \quad \|w\| \approx \|u\|\sqrt{\eta S/(2\lambda)}, \quad
                    S = \tfrac{(\sum h)^2}{\sum h^2}
    \end{aligned}$$

    with C elements, G² the mean of (‖g‖·‖w‖)², h the momentum's response to one gradient, and ‖u‖² about the rank times
    the square of Muon's adjustment. Muon's are only about: simulated, norms are .65 to .85 of this and rotations
    1.03 to 1.25 times it, square matrices at the far end, for small singular values turn with every gradient.
    The time to get there is about 1/(2f) steps. All of this holds while 1/f is long beside what the moments remember,
    1/(1 − β) steps.

    Reference: Rotational Equilibrium: How Weight Decay Balances Learning Across Neural Networks, arXiv 2305.17212.

    Attributes:
        rule: whose equations.
        lr: the learning rate that this is for.
        fraction: f.
        rotation: radians per step.
        rms: ‖w‖/√C; None for SGD, whose norm depends on the gradients, and for Muon (see `norm`).
        gain: for SGD: ‖w‖⁴ over G²; for Muon: ‖w‖² over ‖u‖².
        num_steps: 1/(2f).
        adjusted: for Muon: the group's `adjust_lr_fn`.
    """

    rule: Rule
    lr: float
    fraction: float
    rotation: float
    rms: float | None
    gain: float | None
    num_steps: float
    adjusted: str = ""

    def norm(
        self, num_elements: int, *, gradient_norm: float | None = None, shape: Sequence[int] | None = None
    ) -> float:
        """‖w‖ of a weight at rest.

        Args:
            num_elements: C.
            gradient_norm: for SGD: G, the root mean square of ‖g‖·‖w‖, which does not depend on the size of w.
            shape: for Muon: rows and columns.

        Raises:
            UnitError: SGD without `gradient_norm`, or Muon without a `shape` of two numbers.
        """
        if self.rule == "Muon" and self.gain is not None:
            if shape is None or len(shape) != 2:
                raise UnitError("the norm at rest under Muon depends on rows and columns.", fix="Give shape=w.shape.")
            rows, columns = shape
            ratio = max(1.0, rows / columns) if self.adjusted == "original" else 0.04 * max(rows, columns)
            return math.sqrt(self.gain * min(rows, columns) * ratio)
        if self.rms is not None:
            return self.rms * math.sqrt(num_elements)
        if gradient_norm is None or self.gain is None:
            raise UnitError(
                "the norm at rest under SGD depends on the gradients.",
                fix="Give gradient_norm=, the root mean square of ‖g‖·‖w‖ over some steps.",
            )
        return float((self.gain * gradient_norm**2) ** 0.25)


def equilibrium(pulled: Pulled, values: Mapping[str, Any], *, lr: float, pull: float) -> Equilibrium | None:
    """The equilibrium of weights under plain L2 at a learning rate and `Pulled.amount`; None where none is known.

    `values` are those of its group then.
    """
    if pulled.decay is None or not pulled.decay.is_plain_l2 or not (lr > 0.0 and 0.0 < pull < 1.0):
        return None
    if has_trait(pulled.optimizer, "orthogonal"):
        return _of_muon(values, lr, pull)
    update = update_of(pulled.optimizer, values)
    spread = None
    with suppress(TypeError, ValueError, IndexError, ZeroDivisionError):
        # Not of betas that are no pair of numbers, nor of a momentum of 1.
        spread = None if update is None else update.spread(values)
    if update is None or spread is None or (pulled.is_coupled and not update.is_linear):
        return None
    # A gradient moves the weight by lr·total in all, in steps with the sum of squares lr²·squares.
    total, squares = spread
    if not total > 0.0:
        # With dampening=1 nothing follows the first gradient.
        return None
    fraction = pull * total if pulled.is_coupled else pull
    square = (lr * total) ** 2 / (2.0 * fraction)
    return Equilibrium(
        rule=_RULES[update],
        lr=lr,
        fraction=fraction,
        rotation=math.sqrt(2.0 * fraction * squares) / total,
        rms=None if update.is_linear else math.sqrt(square),
        gain=square if update.is_linear else None,
        num_steps=1.0 / (2.0 * fraction),
    )


def _of_muon(values: Mapping[str, Any], lr: float, pull: float) -> Equilibrium | None:
    """Of an update whose size no gradient changes, and whose direction is the momentum's."""
    kept = float(values.get("momentum", 0.0))
    if not 0.0 <= kept < 1.0:
        return None
    # What a gradient adds to the momentum in each step from its own on, in units of 1 − μ.
    squares = 1.0 / (1.0 - kept**2)
    if values.get("nesterov"):
        squares = (1.0 + kept) ** 2 + kept**4 / (1.0 - kept**2)
    steps = 1.0 / ((1.0 - kept) ** 2 * squares)
    return Equilibrium(
        rule="Muon",
        lr=lr,
        fraction=pull,
        rotation=math.sqrt(2.0 * pull / steps),
        rms=None,
        gain=lr**2 * steps / (2.0 * pull),
        num_steps=1.0 / (2.0 * pull),
        adjusted=values.get("adjust_lr_fn") or "original",
    )
