"""The update of each optimizer class as a formula over gradient and state.

Each formula is tested against real steps. Which class has which stands in `torchdecay.optimizers.cards`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from torchdecay.errors import ApplyError
from torchdecay.optimizers.elementwise import Elementwise
from torchdecay.optimizers.updates import Group, State, Terms, Update

if TYPE_CHECKING:
    from torch import Tensor


def settled(group: Group, momentum: float | None = None) -> float:
    r"""By how much SGD's momentum multiplies a gradient that stays: (1 − dampening)/(1 − momentum).

    With Nesterov's too, where torch lets dampening be 0 alone: 1 + momentum/(1 − momentum) is the same.

    A momentum that is given counts instead of the group's; from 1 on nothing settles, and the factor is infinite.
    """
    momentum = _number(group, "momentum") if momentum is None else momentum
    if not momentum:
        return 1.0
    return (1.0 - _number(group, "dampening")) / (1.0 - momentum) if momentum < 1.0 else math.inf


class Pace(NamedTuple):
    """What a coupled decay comes to under SGD, once momentum has settled.

    Attributes:
        fraction: of each weight without gradient, per step; where weights swing, of how far they do.
        swings: whether they go through zero and back, again and again.
    """

    fraction: float
    swings: bool = False


def pace(group: Group, pull: float, momentum: float | None = None) -> Pace:
    r"""What SGD takes of a weight without gradient, per step, of a coupled decay λ, once momentum has settled.

    Weight and buffer follow a linear recursion, which its root ρ of the largest size carries on:

    $$\begin{aligned}
    \rho^2 - \big(1 + \mu - \eta\lambda(1 - d)\big)\rho + \mu &= 0 \\
    \rho^2 - \big(1 + \mu - \eta\lambda(1 + \mu)\big)\rho + \mu(1 - \eta\lambda) &= 0 \quad (\text{Nesterov})
    \end{aligned}$$

    The fraction is 1 − ρ, for small ηλ about ηλ(1 − d)/(1 − μ). Complex roots swing, and shrink by |ρ|.

    Args:
        group: the parameter group.
        pull: ηλ.
        momentum: μ, instead of the group's.
    """
    momentum = _number(group, "momentum") if momentum is None else momentum
    if not momentum or not pull:
        return Pace(pull)
    fresh = 1.0 - _number(group, "dampening")
    trace, product, both = 1.0 + momentum - pull * fresh, momentum, pull * fresh
    if group.get("nesterov"):
        trace, product = 1.0 + momentum - pull * (1.0 + momentum * fresh), momentum * (1.0 - pull)
        both = pull * (1.0 + momentum * (fresh - 1.0))
    half, square = trace / 2.0, trace * trace / 4.0 - product
    if square < 0.0:
        return Pace(1.0 - math.sqrt(product), swings=True)
    root = math.sqrt(square)
    if half <= 0.0:
        return Pace(1.0 - half + root, swings=True)
    # The product of 1 − ρ of both roots is `both`: so no digits are lost, where the other root is not near 1 as well.
    return Pace(both / (1.0 - half + root) if momentum < 1.0 else 1.0 - half - root)


def _number(group: Group, key: str) -> float:
    value = group.get(key) or 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ApplyError(
            f"the group's {key} is {value!r}, of type {type(value).__name__}.",
            "The optimizer's next step would fail on it.",
            "Give it a number.",
        ) from None


def _sgd(group: Group, state: State, ahead: int) -> Terms:
    momentum = _number(group, "momentum")
    if not momentum:
        return Terms(1.0, 0.0)
    nesterov = bool(group["nesterov"])
    return Terms(1.0 if nesterov else 0.0, momentum if nesterov else 1.0, settled(group))


def _sgd_moved(group: Group) -> Callable[[Tensor, Tensor], Tensor]:
    momentum, fresh = _number(group, "momentum"), 1 - _number(group, "dampening")
    return lambda g, m: m * momentum + g * fresh


def _sgd_fading(group: Group) -> tuple[float, float]:
    return _number(group, "momentum"), 1.0 - _number(group, "dampening")


def _average_fading(group: Group) -> tuple[float, float]:
    return _betas(group)[0], 1.0 - _betas(group)[0]


def _sgd_spread(group: Group) -> tuple[float, float]:
    momentum = _number(group, "momentum")
    if group.get("nesterov"):
        return settled(group), (1.0 + momentum) ** 2 + momentum**4 / (1.0 - momentum**2)
    fresh = 1.0 - _number(group, "dampening") if momentum else 1.0
    return settled(group), fresh**2 / (1.0 - momentum**2)


def _averaged(group: Group) -> Callable[[Tensor, Tensor], Tensor]:
    weight = 1 - _betas(group)[0]
    return lambda g, m: m.lerp(g.to(m.dtype), weight)


def _adam(group: Group, state: State, ahead: int) -> Terms:
    beta1, beta2 = _betas(group)
    step = _step(state, ahead)
    root = math.sqrt(_filled(beta2, step))
    return Terms(0.0, 1.0 / _filled(beta1, step), gain=root, eps=float(group["eps"]) * root)


def _adamax(group: Group, state: State, ahead: int) -> Terms:
    return Terms(0.0, 1.0 / _filled(_betas(group)[0], _step(state, ahead)))


def _adam_spread(group: Group) -> tuple[float, float] | None:
    beta1 = _betas(group)[0]
    return None if group.get("amsgrad") else (1.0, (1.0 - beta1) / (1.0 + beta1))


def _radam(group: Group, state: State, ahead: int) -> Terms:
    """RAdam divides once it has seen enough, by a rectified root to which eps is added before its bias is corrected."""
    beta1, beta2 = _betas(group)
    step = _step(state, ahead)
    filled, longest = _filled(beta2, step), 2 / (1 - beta2) - 1
    length = longest - 2 * step * (1 - filled) / filled
    of_moment = 1.0 / _filled(beta1, step)
    if length <= 5:
        return Terms(0.0, of_moment)
    rectified = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
    return Terms(0.0, of_moment, gain=rectified * math.sqrt(filled), eps=float(group["eps"]))


def _nadam(group: Group, state: State, ahead: int) -> Terms:
    """NAdam takes a part of the gradient itself, and of the moment as much as the next step would."""
    beta1, beta2 = _betas(group)
    step, decay = _step(state, ahead), float(group["momentum_decay"])
    now, following = (beta1 * (1 - 0.5 * 0.96 ** (at * decay)) for at in (step, step + 1))
    product = float(state.get("mu_product", 1.0)) * (now if ahead else 1.0)
    of_gradient, of_moment = (1 - now) / (1 - product), following / (1 - product * following)
    root = math.sqrt(_filled(beta2, step))
    lasting = of_gradient + of_moment * _filled(beta1, step)
    return Terms(of_gradient, of_moment, lasting, gain=root, eps=float(group["eps"]) * root)


def _rmsprop_signs(group: Group, state: State, grad: Tensor, param: Tensor) -> Elementwise:
    momentum: float = group["momentum"]
    buffer = state.get("momentum_buffer")
    if not momentum or buffer is None:
        return Elementwise(lambda g: g, (grad,))
    alpha, eps, centered = float(group["alpha"]), float(group["eps"]), bool(group["centered"])
    averages = (state["grad_avg"],) if centered else ()

    def direction(g: Tensor, b: Tensor, square: Tensor, *average: Tensor) -> Tensor:
        square = square * alpha + g * g * (1 - alpha)
        if centered:
            square = square - average[0].lerp(g, 1 - alpha).square()
        return b * momentum + g / (square.sqrt() + eps)

    return Elementwise(direction, (grad, buffer, state["square_avg"], *averages))


def _rmsprop(group: Group, state: State, ahead: int) -> Terms:
    momentum = _number(group, "momentum")
    return Terms(0.0, 1.0, 1 / (1 - momentum) if momentum < 1 else math.inf) if momentum else Terms(1.0, 0.0)


def _rmsprop_divisor(group: Group, state: State) -> Tensor:
    square: Tensor = state["square_avg"]
    if group["centered"]:
        square = square.addcmul(state["grad_avg"], state["grad_avg"], value=-1)
    return square.sqrt().add_(float(group["eps"]))


def _asgd_signs(group: Group, state: State, grad: Tensor, param: Tensor) -> Elementwise:
    lambd = float(group["lambd"])
    return Elementwise(lambda g, p: g + p * lambd, (grad, param.detach()))


def _lion_signs(group: Group, state: State, grad: Tensor, param: Tensor) -> Elementwise:
    moment, weight = state.get("exp_avg"), 1 - group["betas"][0]
    if moment is None:
        return Elementwise(lambda g: g, (grad,))
    return Elementwise(lambda g, m: m * (1 - weight) + g * weight, (grad, moment))


def _lion_spread(group: Group) -> tuple[float, float]:
    """A sign turns with a gradient by √(2/π) over the size of what it is the sign of."""
    beta1, beta2 = _betas(group)
    noise = (1.0 - beta1) ** 2 + beta1**2 * (1.0 - beta2) / (1.0 + beta2)
    return math.sqrt(2.0 / (math.pi * noise)), 1.0


def _is_plain_lion(optimizer: Any, group: Group) -> bool:
    """Lion comes from many libraries, mostly as sign(β₁m + (1 − β₁)g) over one moment called exp_avg.

    Some mask or center what they take the sign of, by keys of the group.
    """
    plain = all(group.get(key, False) is False for key in ("cautious", "cautious_factor", "use_gc"))
    states = [set(state) for state in optimizer.state.values()]
    known = all("exp_avg" in keys and "exp_avg_sq" not in keys for keys in states)
    return plain and "betas" in group and known


def _betas(group: Group) -> tuple[float, float]:
    return float(group["betas"][0]), float(group["betas"][1])


def _step(state: State, ahead: int) -> float:
    return float(state.get("step", 0)) + ahead


def _filled(beta: float, step: float) -> float:
    """How much of an average that began at 0 has been filled: 1 − βᵗ."""
    return 1 - math.pow(beta, step)


_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
SGD = Update(
    moment="momentum_buffer",
    moved=_sgd_moved,
    fading=_sgd_fading,
    terms=_sgd,
    is_whole=True,
    reads=("grad",),
    is_linear=True,
    spread=_sgd_spread,
)
_AVERAGED: dict[str, Any] = {
    "moment": "exp_avg", "moved": _averaged, "fading": _average_fading, "is_whole": True,
}  # fmt: skip
ADAM = Update(**_AVERAGED, terms=_adam, reads=_MOMENTS, spread=_adam_spread)
RADAM = Update(**_AVERAGED, terms=_radam, reads=_MOMENTS)
NADAM = Update(**_AVERAGED, terms=_nadam, reads=("grad", *_MOMENTS, "mu_product"))
ADAMAX = Update(
    moment="exp_avg", moved=_averaged, fading=_average_fading, terms=_adamax, reads=("exp_inf",), divisor="exp_inf"
)
GRADIENT = Update()
RMSPROP = Update(
    moment="momentum_buffer",
    fading=lambda group: (_number(group, "momentum"), 1.0),
    divisor_of=_rmsprop_divisor,
    terms=_rmsprop,
    signs=_rmsprop_signs,
)
ASGD = Update(signs=_asgd_signs)
LION = Update(signs=_lion_signs, spread=_lion_spread, fits=_is_plain_lion)
