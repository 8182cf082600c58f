"""What pulls: regularizers R as values, each with its value, gradient and proximal step on one tensor.

These are the definitions. The fast versions on lists of tensors are in `torchdecay.apply.kernels`, and are tested
against these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchdecay.arguments import check_number, check_word, store
from torchdecay.encoding import Opaque, open_type, value_type
from torchdecay.errors import DecayError
from torchdecay.plans.granularity import WORDS, Per, dims_of

if TYPE_CHECKING:
    from torch import Tensor

    Threshold = float | Tensor


@open_type
class Regularizer:
    """A function R of one tensor whose gradient is the direction of the pull.

    A subclass is a frozen dataclass with three methods, for x of any shape:

    * `value(x)`: R(x), a 0-d tensor;
    * `gradient(x)`: ∇R(x), of x's shape;
    * `prox(z, tau)`: argmin over p of τ·R(p) + ½‖p − z‖², of z's shape; τ ≥ 0 is a float or elementwise.

    `symbol` is how equations name R; `smooth` says whether R has a gradient everywhere, at zeros too;
    `elementwise` whether gradient and prox of a part of x are the part of gradient and prox; `curvature` is the
    largest part of x that its gradient is, so that a step of 1 over that leaves nothing, and a larger one flips signs.
    """

    symbol: str = "R"
    smooth: bool = True
    elementwise: bool = True
    curvature: float = 0.0

    @property
    def form(self) -> Regularizer:
        """This regularizer without how hard it pulls."""
        return self

    def value(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def gradient(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        raise NotImplementedError


@value_type
@dataclass(frozen=True)
class CustomRegularizer(Regularizer):
    """R(x) = function(x), a 0-d tensor; ∇R(x) is autograd's. It has no proximal step: derive a class for one."""

    function: Callable[..., Any]
    elementwise = False

    @property
    def symbol(self) -> str:  # type: ignore[override]
        """How equations name it."""
        return f"{self!r}(θ)"

    def value(self, x: Tensor) -> Tensor:
        found: Tensor = self.function(x)
        if getattr(found, "shape", None) != ():
            raise DecayError(
                f"the regularizer {self!r} returned {type(found).__name__} of shape {getattr(found, 'shape', None)}.",
                "R of a tensor is one number; the weights were left as they were.",
                "Return a 0-d tensor: x.abs().sum(), say.",
            )
        return found

    def gradient(self, x: Tensor) -> Tensor:
        import torch

        with torch.enable_grad():
            own = x.detach().requires_grad_()
            value = self.value(own)
            found = torch.autograd.grad(value, own, allow_unused=True)[0] if value.requires_grad else None
        if found is None:
            raise DecayError(
                f"the regularizer {self!r} has no gradient: what it returned does not depend on its tensor.",
                "Its pull is that gradient; the weights were left as they were.",
                "Compute it from x by operations of torch, without detach(), item() or no_grad().",
            )
        return found

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


def as_regularizer(value: Any) -> Any:
    """A Regularizer as it is, any function of a tensor as `CustomRegularizer`."""
    plain = callable(value) and not isinstance(value, (type, Regularizer, Opaque))
    return CustomRegularizer(value) if plain else value


@value_type
@dataclass(frozen=True)
class L2(Regularizer):
    """R(x) = ½‖x‖², ∇R(x) = x, prox = z/(1 + τ)."""

    symbol = "½‖θ‖²"
    curvature = 1.0

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
    smooth = False

    def value(self, x: Tensor) -> Tensor:
        return x.abs().sum()

    def gradient(self, x: Tensor) -> Tensor:
        return x.sgn()

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        return z.sgn() * (z.abs() - tau).clamp_(min=0)


@value_type
@dataclass(frozen=True)
class ElasticNet(Regularizer):
    """R(x) = l1·Σ|x| + l2·½‖x‖²; prox = sign(z)·max(|z| − τ·l1, 0)/(1 + τ·l2)."""

    l1: float
    l2: float
    symbol = "(l₁‖θ‖₁ + ½l₂‖θ‖²)"
    smooth = False

    def __post_init__(self) -> None:
        store(self, l1=check_number(self.l1, "elastic_net l1"))
        store(self, l2=check_number(self.l2, "elastic_net l2"))

    @property
    def curvature(self) -> float:  # type: ignore[override]
        return self.l2

    @property
    def form(self) -> Regularizer:
        return ElasticNet(0.0, 0.0)

    def value(self, x: Tensor) -> Tensor:
        return self.l1 * L1().value(x) + self.l2 * L2().value(x)

    def gradient(self, x: Tensor) -> Tensor:
        return self.l1 * x.sgn() + self.l2 * x

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
    curvature = 1.0

    def __post_init__(self) -> None:
        store(self, delta=check_number(self.delta, "huber delta", open_minimum=True))

    def value(self, x: Tensor) -> Tensor:
        size = x.abs()
        return (size.square() / 2).where(size <= self.delta, self.delta * (size - self.delta / 2)).sum()

    def gradient(self, x: Tensor) -> Tensor:
        return x.clamp(-self.delta, self.delta)

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        # z·τ/(1 + τ) is the quadratic part's displacement; beyond (1 + τ)δ it has reached its cap τδ.
        step = z * (tau / (1 + tau))
        cap: Any = tau * self.delta
        return z - step.clamp(-cap, cap)


@value_type
@dataclass(frozen=True)
class SquaredNorm(Regularizer):
    """R(x) = ‖x‖², without the ½ of `L2`; ∇R(x) = 2x, prox = z/(1 + 2τ)."""

    symbol = "‖θ‖²"
    curvature = 2.0

    def value(self, x: Tensor) -> Tensor:
        import torch

        norm: Tensor = torch.linalg.vector_norm(x)
        return norm.square()

    def gradient(self, x: Tensor) -> Tensor:
        return 2 * x

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        return z / (1 + 2 * tau)


@value_type
@dataclass(frozen=True)
class Deviation(Regularizer):
    """R(x) = the standard deviation of x's n elements around their mean (population); it leaves the mean alone.

    ∇R(x) = (x − mean)/(n·R); prox moves every element toward the mean by τ/(n·std), at most all the way.
    """

    symbol = "std(θ)"
    elementwise = False

    def value(self, x: Tensor) -> Tensor:
        unit, _, _, deviation = self._in_units(x)
        return unit * deviation

    def gradient(self, x: Tensor) -> Tensor:
        _, _, offset, deviation = self._in_units(x)
        return (offset / (x.numel() * deviation)).where(deviation > 0, x.new_zeros(()))

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        import torch

        unit, mean, offset, deviation = self._in_units(z)
        share = (1 - tau / unit / (z.numel() * deviation).clamp(min=torch.finfo(z.dtype).tiny)).clamp(min=0)
        return unit * (mean + offset * share)

    def _in_units(self, x: Tensor) -> tuple[Tensor, ...]:
        """The size of x, and in units of it mean, offsets and deviation: squares of 1e20 would be infinite."""
        import torch

        unit = x.detach().abs().max().clamp(min=torch.finfo(x.dtype).tiny)
        mean = (x / unit).mean()
        offset = x / unit - mean
        return unit, mean, offset, offset.square().mean().sqrt()


@value_type
@dataclass(frozen=True)
class Spectral(Regularizer):
    """R(x) = ½σ₁², σ₁ being the largest singular value of x as a matrix of shape (first dimension, rest).

    ∇R(x) = σ₁u₁v₁ᵀ; prox = x − σ₁·τ/(1 + τ)·u₁v₁ᵀ while σ₁/(1 + τ) stays the largest. Vectors and scalars count as
    one column, so that R = ½‖x‖² there.
    """

    symbol = "½σ₁(θ)²"
    curvature = 1.0
    elementwise = False

    def value(self, x: Tensor) -> Tensor:
        import torch

        norm: Tensor = torch.linalg.matrix_norm(_matrix(x), 2)
        return norm.square() / 2

    def gradient(self, x: Tensor) -> Tensor:
        return self.gradients([x])[0]

    def gradients(self, several: Sequence[Tensor]) -> list[Tensor]:
        """∇R of several tensors of one shape."""
        import torch

        u, s, vh = _svd(torch.stack([_matrix(x) for x in several]))
        first = (s[:, :1] * u[:, :, 0])[:, :, None] * vh[:, :1, :]
        return list(first.reshape(len(several), *several[0].shape).unbind())

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        import torch

        u, s, vh = _svd(_matrix(z))
        # The largest values are lowered to one level t with Σ(s − t)₊ = τ·t; t lies between two neighbors.
        sums = s.cumsum(0)
        levels = sums / (torch.arange(1, len(s) + 1, dtype=s.dtype, device=s.device) + tau)
        following = torch.cat([s[1:], s.new_zeros(1)])
        level = levels[(levels >= following).nonzero()[0, 0]]
        lowered: Tensor = (u * s.clamp(max=level)) @ vh
        return lowered.reshape(z.shape)


@value_type
@dataclass(frozen=True)
class GroupLasso(Regularizer):
    """R(x) = Σ‖x_s‖ over the slices x_s of x; prox = max(1 − τ/‖z_s‖, 0)·z_s, which leaves whole slices exactly 0.

    `per` says which: "row", "column", or "expert" (see `torchdecay.plans.granularity`).
    """

    per: Per = "row"
    symbol = "Σ‖θ_s‖"
    smooth = False
    elementwise = False

    def __post_init__(self) -> None:
        check_word(self.per, "group_lasso per", WORDS[1:])

    def value(self, x: Tensor) -> Tensor:
        return self._norms(x).sum()

    def gradient(self, x: Tensor) -> Tensor:
        norms = self._norms(x)
        return (x / norms).where(norms > 0, x.new_zeros(()))

    def prox(self, z: Tensor, tau: Threshold) -> Tensor:
        norms = self._norms(z)
        # Of what is all zeros nothing is left, and a threshold of 0 leaves what is there.
        return z * (1 - tau / norms.where(norms > 0, 1.0)).clamp(min=0)

    def _norms(self, x: Tensor) -> Tensor:
        import torch

        found: Tensor = torch.linalg.vector_norm(x, dim=dims_of(self.per, x.dim()), keepdim=True)
        return found


@value_type
@dataclass(frozen=True)
class PNorm(Regularizer):
    """R(x) = Σ|x|^p; ∇R(x) = p·|x|^(p−2)·x. Its step goes by the gradient at x, the weights before the update.

    θ ← z/(1 + τ·p·|x|^(p−2)): of p below 2, which has no finite gradient at 0, a weight that is 0 stays 0, and small
    ones go there. `step(z, x, tau)` is that.
    """

    p: float
    symbol = "‖θ‖ₚᵖ"
    smooth = False

    def __post_init__(self) -> None:
        store(self, p=check_number(self.p, "p_norm p", open_minimum=True))

    def value(self, x: Tensor) -> Tensor:
        return x.abs().pow(self.p).sum()

    def gradient(self, x: Tensor) -> Tensor:
        return (self.p * x.abs().pow(self.p - 2) * x).where(x != 0, x.new_zeros(()))

    def step(self, z: Tensor, x: Tensor, tau: Threshold) -> Tensor:
        """The step from z, where x are the weights before the update."""
        return z / (1 + tau * self.p * x.abs().pow(self.p - 2))


def _svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    # Of what is not finite nothing has singular values; torch would raise in the middle of a step.
    u, s, vh = torch.linalg.svd(torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0), full_matrices=False)
    return u, s, vh


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], -1) if x.dim() > 1 else x.reshape(-1, 1)
