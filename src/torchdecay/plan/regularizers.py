"""What pulls: regularizers R as values, each with its value, gradient and proximal step on one tensor.

These are the definitions. The fast versions on lists of tensors are in `torchdecay.apply.kernels`, and are tested
against these.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchdecay.plan.codec import value_type
from torchdecay.plan.ranges import check_number

Threshold = float | Tensor


class Regularizer:
    """A function R of one tensor whose gradient is the direction of the pull.

    A subclass is a frozen dataclass with three methods, for x of any shape:

    * `value(x)`: R(x), a 0-d tensor;
    * `gradient(x)`: ∇R(x), of x's shape;
    * `prox(z, tau)`: argmin over p of τ·R(p) + ½‖p − z‖², of z's shape; τ ≥ 0 is a float or elementwise.

    `symbol` is how equations name R.
    """

    symbol: str = "R"

    def value(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def gradient(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        raise NotImplementedError


@value_type
@dataclass(frozen=True)
class L2(Regularizer):
    """R(x) = ½‖x‖², ∇R(x) = x, prox = z/(1 + τ)."""

    symbol = "½‖θ‖²"

    def value(self, x: Tensor) -> Tensor:
        return x.abs().square().sum() / 2

    def gradient(self, x: Tensor) -> Tensor:
        return x

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        return z / (1 + tau)


@value_type
@dataclass(frozen=True)
class L1(Regularizer):
    """R(x) = Σ|x|, ∇R(x) = sign x, prox = sign(z)·max(|z| − τ, 0)."""

    symbol = "‖θ‖₁"

    def value(self, x: Tensor) -> Tensor:
        return x.abs().sum()

    def gradient(self, x: Tensor) -> Tensor:
        return torch.sgn(x)

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        return torch.sgn(z) * (z.abs() - tau).clamp_(min=0)


@value_type
@dataclass(frozen=True)
class ElasticNet(Regularizer):
    """R(x) = l1·Σ|x| + l2·½‖x‖²; prox = sign(z)·max(|z| − τ·l1, 0)/(1 + τ·l2)."""

    l1: float
    l2: float
    symbol = "(l₁‖θ‖₁ + ½l₂‖θ‖²)"

    def __post_init__(self) -> None:
        check_number(self.l1, "elastic_net l1")
        check_number(self.l2, "elastic_net l2")

    def value(self, x: Tensor) -> Tensor:
        return self.l1 * L1().value(x) + self.l2 * L2().value(x)

    def gradient(self, x: Tensor) -> Tensor:
        return self.l1 * torch.sgn(x) + self.l2 * x

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        return L1().prox(z, tau * self.l1) / (1 + tau * self.l2)


@value_type
@dataclass(frozen=True)
class Huber(Regularizer):
    """R(x) = Σ x²/2 where |x| ≤ δ, else δ(|x| − δ/2): quadratic near 0, linear far out.

    ∇R(x) = clamp(x, −δ, δ); prox = z/(1 + τ) where |z| ≤ (1 + τ)δ, else z − τδ·sign z.
    """

    delta: float = 1.0
    symbol = "H_δ(θ)"

    def __post_init__(self) -> None:
        check_number(self.delta, "huber delta", open_minimum=True)

    def value(self, x: Tensor) -> Tensor:
        size = x.abs()
        return torch.where(size <= self.delta, size.square() / 2, self.delta * (size - self.delta / 2)).sum()

    def gradient(self, x: Tensor) -> Tensor:
        return x.clamp(-self.delta, self.delta)

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        # z·τ/(1 + τ) is the quadratic part's displacement; beyond (1 + τ)δ it has reached its cap τδ.
        step = z * (tau / (1 + tau))
        cap = tau * self.delta
        if isinstance(cap, Tensor):
            return z - torch.minimum(torch.maximum(step, -cap), cap)
        return z - step.clamp(-cap, cap)
