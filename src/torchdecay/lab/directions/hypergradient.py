"""`hypergradient`: which way each group's coefficient should move, by implicit differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.arguments import check_count, check_number
from torchdecay.errors import TaskError
from torchdecay.lab.directions.conjugate import solve
from torchdecay.lab.directions.fixed_point import pulls_of
from torchdecay.lab.training.groups import members_of
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import parameters_by_name
from torchdecay.text import listed, repr_quoted

Loss = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Slope:
    """How the validation loss answers to one group's coefficient.

    Attributes:
        group: its name.
        names: the parameters.
        slope: dV/d ln λ: below 0, more decay would lower the validation loss.
    """

    group: str
    names: tuple[str, ...]
    slope: float


@dataclass(frozen=True, kw_only=True)
class Hypergradient:
    """The slope of the validation loss in each group's log-coefficient, and how far to trust it.

    Attributes:
        slopes: one per group.
        loss: the validation loss.
        residual: ‖Aq − ∇V‖/‖∇V‖ of the linear system that was solved.
        iterations: Hessian products that it took.
        converged: whether the residual is within ten times the tolerance, with positive curvature throughout.
        curvature: the least that was met along a direction, damping left out; at most 0: no minimum.
        unrest: ‖∇L + Λw‖/‖Λw‖: 0 where training has come to rest, which is what the slopes assume.
        damping: what was added to the diagonal.
    """

    slopes: tuple[Slope, ...]
    loss: float
    residual: float
    iterations: int
    converged: bool
    curvature: float
    unrest: float
    damping: float

    def __iter__(self) -> Iterator[Slope]:
        return iter(self.slopes)

    def __getitem__(self, group: str) -> float:
        for one in self.slopes:
            if one.group == group:
                return one.slope
        raise TaskError(f"there is no group {repr_quoted(group)}.", f"Groups: {listed(s.group for s in self.slopes)}.")


def hypergradient(
    model: nn.Module,
    plan: Plan,
    train_loss: Loss,
    validation_loss: Loss,
    *,
    optimizer: Optimizer | None = None,
    groups: Mapping[str, Any] | None = None,
    damping: float = 0.0,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Hypergradient:
    r"""The gradient of the validation loss with respect to each group's log-coefficient, at the end of a run.

    $$\frac{dV}{d \ln \lambda_g} = -\lambda_g\, w_g^\top q_g, \qquad
      (\nabla^2 L + \Lambda + \delta I)\, q = \nabla V$$

    V is the validation loss, L the training loss, w the weights, λ_g the coefficient of group g, Λ the diagonal of
    the coefficients by weight, δ the damping. This holds where training has come to rest, ∇L + Λw = 0; how far it is
    from that stands in `unrest`. Decay in the gradient or in the loss comes to rest there under any optimizer;
    decoupled decay does under SGD, with momentum as if the coefficient were multiplied by 1 − momentum. Under AdamW
    it does not, and is refused. It differs from trying a second value in that no further run is needed, and every
    group is answered at once.

    The system is solved by conjugate gradients on products with the Hessian. They need a minimum: where the curvature
    is not positive the search ends, `converged` is False, and damping larger than the negative curvature helps, at
    the price of slopes that are biased toward a single gradient step.

    Args:
        model: as trained, in eval mode unless the losses should see dropout.
        plan: who decays: plain L2 toward zero without a schedule.
        train_loss: takes nothing, returns the loss over the training rows at the model's weights, without the decay.
        validation_loss: the same over the validation rows.
        optimizer: the one that trained the model; needed for native, decoupled and their like.
        groups: {name: selector}, the first that picks a parameter has it; None takes the model's top-level modules.
        damping: δ, at least 0.
        tolerance: of the residual; None is 1e-10 for weights in float64, else 1e-4.
        max_iterations: Hessian products, at least 1.

    Raises:
        TaskError: no decay, a decay without a known place of rest, losses that do not depend on the model, or
            parameters that decay and are in no group.
        PlanError: a group that picks nothing.

    Example:
        >>> import torchdecay as td
        >>> from torchdecay.lab import hypergradient
        >>> from torchdecay.lab.tasks import ridge
        >>> model, data = ridge.model(), ridge.data(0)
        >>> _ = model.weight.data.copy_(ridge.solution(0, 4.0))
        >>> def loss(rows):
        ...     return ridge.half_mse(model(rows[0]), rows[1])
        >>> found = hypergradient(
        ...     model, td.plan(model, td.coupled(4.0)), lambda: loss(data.train), lambda: loss(data.validation)
        ... )
        >>> found.converged, found["weight"] > 0
        (True, True)

    Reference: Optimizing millions of hyperparameters by implicit differentiation, arXiv 1911.02590.
    """
    damping = check_number(damping, "damping")
    max_iterations = check_count(max_iterations, "max_iterations")
    pulls = pulls_of(model, plan, optimizer)
    members = members_of(model, pulls, groups)
    tensors = parameters_by_name(model)
    params = [param for param in model.parameters() if param.requires_grad]
    weights = _flat([param.detach() for param in params])
    if tolerance is None:
        tolerance = 1e-10 if weights.dtype == torch.float64 else 1e-4
    tolerance = check_number(tolerance, "tolerance", open_minimum=True)
    by_id = {id(tensors[name]): pull for name, pull in pulls.items()}
    strength = _flat([torch.full_like(param, by_id.get(id(param), 0.0), requires_grad=False) for param in params])
    with torch.enable_grad():
        held_out = validation_loss()
        slope = _flat(_gradient(held_out, params, "validation_loss"))
        gradient = _gradient(train_loss(), params, "train_loss", create_graph=True)

    def product(vector: Tensor) -> Tensor:
        pushed = torch.autograd.grad(
            gradient,
            params,
            _split(vector, params),
            retain_graph=True,
            materialize_grads=True,
            allow_unused=True,
        )
        return _flat(pushed) + (strength + damping) * vector

    solved = solve(product, slope, tolerance=tolerance, max_iterations=max_iterations)
    pull = strength * weights
    parts = {id(param): part for param, part in zip(params, _split(pull * solved.x, params), strict=True)}
    return Hypergradient(
        slopes=tuple(
            Slope(group=group, names=names, slope=-sum(float(parts[id(tensors[name])].sum()) for name in names))
            for group, names in members.items()
        ),
        loss=float(held_out.detach()),
        residual=solved.residual,
        iterations=solved.iterations,
        converged=solved.converged,
        curvature=solved.curvature - damping,
        unrest=float((_flat(gradient).detach() + pull).norm() / pull.norm()),
        damping=damping,
    )


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _split(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = torch.split(vector, [one.numel() for one in like])
    return [part.view_as(one) for part, one in zip(parts, like, strict=True)]


def _gradient(loss: Tensor, params: Sequence[Tensor], name: str, *, create_graph: bool = False) -> tuple[Tensor, ...]:
    if not isinstance(loss, Tensor) or loss.ndim != 0 or not loss.requires_grad:
        raise TaskError(
            f"{name}() gives no loss that depends on the model.",
            fix="Return a 0-d tensor that was computed from the model's weights, outside torch.no_grad().",
        )
    return torch.autograd.grad(loss, params, create_graph=create_graph, materialize_grads=True, allow_unused=True)
