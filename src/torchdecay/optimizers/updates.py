"""The update of each optimizer class as a formula over gradient and state: one for its sign, its size and its course.

Each formula is tested against real steps. Which class has which stands in `torchdecay.optimizers.cards`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

from torchdecay.errors import ApplyError
from torchdecay.optimizers.elementwise import Columns, Elementwise

if TYPE_CHECKING:
    from torch import Tensor

Group = Mapping[str, Any]
State = Mapping[str, Any]


@dataclass(frozen=True)
class Terms:
    r"""The numbers of one update: u = η·(a·g + b·m)·q/(√v + e), with m and v as the step leaves them.

    Attributes:
        gradient: a.
        moment: b.
        settled: a·g + b·m of a gradient that stays, in units of that gradient.
        gain: q.
        eps: e; None where nothing is divided.
    """

    gradient: float
    moment: float
    settled: float = 1.0
    gain: float = 1.0
    eps: float | None = None


@dataclass(frozen=True, kw_only=True)
class Update:
    """How a class makes its update u, in θ ← θ − u, of gradient and state.

    Attributes:
        moment: the state's key of the first moment m, "" without one.
        moved: from the group to the function that takes gradient and moment to the moment after the step.
        fading: from the group to the part of the moment that a step leaves, and the part of the gradient that it adds.
        divisor: the state's key of what an update is divided by as it is; "" where the terms tell.
        terms: from group, state and how many steps ahead of the state, to the numbers of that step.
        signs: instead of those, where the sign of the update follows in another way from group, state, gradient and
            weight; takes them to `Elementwise`.
        is_whole: whether the terms give the update whole, and not its sign alone.
        reads: what the whole update needs: keys of the state, and "grad".
        is_linear: whether an update is made of gradients with factors that no gradient has a part in.
        spread: from the group to what one gradient moves a weight by in all, and to the sum of the squares of what it
            moves it by in each step, in units of the learning rate, gradients being noise; None where not known.
        fits: whether the formula holds for this optimizer and group, where the class alone does not tell.
    """

    moment: str = ""
    moved: Callable[[Group], Callable[[Tensor, Tensor], Tensor]] | None = None
    fading: Callable[[Group], tuple[float, float]] | None = None
    divisor: str = ""
    terms: Callable[[Group, State, int], Terms] = lambda group, state, ahead: Terms(1.0, 0.0)
    signs: Callable[[Group, State, Tensor, Tensor], Elementwise] | None = None
    is_whole: bool = False
    reads: tuple[str, ...] = ()
    is_linear: bool = False
    spread: Callable[[Group], tuple[float, float] | None] = lambda group: None
    fits: Callable[[Any, Group], bool] = lambda optimizer, group: True

    def all_coming_signs(
        self, group: Group, states: Sequence[State], grads: Sequence[Tensor], params: Sequence[Tensor]
    ) -> list[Columns]:
        """Numbers with the signs of the update that comes next, zeros included, of several parameters.

        Those that have taken as many steps share their function. Gradients are as the update rule sees them.
        """
        if self.signs is not None:
            signs = map(self.signs, repeat(group), states, grads, params)
            return [
                Columns([i], one.of, tuple([t] if t.dim() else t for t in one.tensors)) for i, one in enumerate(signs)
            ]
        moved, found = None if self.moved is None else self.moved(group), []
        for places in _counted_alike(states, self.moment):
            terms, some = self.terms(group, states[places[0]], 1), [grads[i] for i in places]
            moments: list[Any] = [states[i].get(self.moment) for i in places]
            if moved is None or moments[0] is None or not terms.moment:
                # Both parts of a first step have the gradient's signs.
                found.append(Columns(places, _itself, (some,)))
            elif not terms.gradient:
                found.append(Columns(places, moved, (some, moments)))
            else:
                share = number(terms.moment / terms.gradient)
                found.append(Columns(places, partial(_shared, moved), (some, moments, share)))
        return found

    def step_size(self, group: Group, state: State) -> float | Elementwise:
        """The s for which a gradient g that stays moves a weight by lr·s·g, by the state that a step has left."""
        terms = self.terms(group, state, 0)
        if terms.eps is None:
            return float(terms.settled)
        gain, eps = number(terms.settled * terms.gain), number(terms.eps)
        return Elementwise(_size, (second_moment(group, state), gain, eps))

    def step_sizes(self, group: Group, states: Sequence[State]) -> float | list[Columns]:
        """`step_size` for several parameters; those that have taken as many steps share their numbers."""
        found = []
        for places in _counted_alike(states, self.moment):
            size = self.step_size(group, states[places[0]])
            if not isinstance(size, Elementwise):
                return size
            found.append(
                Columns(places, size.of, ([second_moment(group, states[i]) for i in places], *size.tensors[1:]))
            )
        return found

    def divided(self, group: Group, state: State, moment: Tensor) -> Tensor:
        """U of a part of the moment after the step that left this state, as a new tensor."""
        terms = self.terms(group, state, 0)
        return self._divided(group, state, terms, moment * terms.moment)

    def prompt(self, group: Group, *, is_first: bool) -> float:
        """The part of what a gradient that stays comes to in the end that it comes to at once, where that is linear."""
        terms = self.terms(group, {}, 1)
        if self.fading is None or not terms.moment:
            return 1.0
        # The buffer begins as the first gradient.
        fresh = 1.0 if is_first else self.fading(group)[1]
        return (terms.gradient + terms.moment * fresh) / terms.settled if terms.settled else math.inf

    def taken(self, group: Group, state: State, grad: Tensor | None) -> Tensor:
        """U of the step that left this state, as a new tensor; `grad` as the step saw it, where the update reads it."""
        terms = self.terms(group, state, 0)
        parts = [] if grad is None or not terms.gradient else [grad * terms.gradient]
        parts += [state[self.moment] * terms.moment] if terms.moment else []
        return self._divided(group, state, terms, parts[0] if len(parts) == 1 else parts[0].add_(parts[1]))

    def _divided(self, group: Group, state: State, terms: Terms, update: Tensor) -> Tensor:
        update.mul_(float(group["lr"]))
        if self.divisor:
            return update.div_(state[self.divisor])
        if terms.eps is None:
            return update
        return update.div_(second_moment(group, state).sqrt().add_(terms.eps)).mul_(terms.gain)


def _counted_alike(states: Sequence[State], moment: str) -> list[list[int]]:
    """Places of states that are alike in all that terms turn on, and in whether they have a moment yet."""
    found: dict[Any, list[int]] = {}
    counts = zip(*(numbers([state.get(key, 0.0) for state in states]) for key in ("step", "mu_product")), strict=True)
    for place, (count, state) in enumerate(zip(counts, states, strict=True)):
        found.setdefault((count, state.get(moment) is None), []).append(place)
    return list(found.values())


def _shared(moved: Callable[[Tensor, Tensor], Tensor], g: Tensor, m: Tensor, share: Tensor) -> Tensor:
    return g + moved(g, m) * share


def _itself(grad: Tensor) -> Tensor:
    return grad


def _size(v: Tensor, gain: Tensor, eps: Tensor) -> Tensor:
    return gain / v.sqrt().add_(eps)


def numbers(values: list[Any]) -> list[float]:
    """Numbers that may stand in tensors, as Python's own: in one call where all do alike."""
    import torch

    if type(values[0]) is torch.Tensor and len({(type(one), getattr(one, "device", None)) for one in values}) == 1:
        found: list[float] = torch.stack(values).tolist()
        return found
    return [float(one) for one in values]


def number(value: float) -> Tensor:
    """A number that changes from step to step, for `Elementwise`."""
    import torch

    return torch.tensor(value, dtype=torch.float64)


def second_moment(group: Group, state: State) -> Tensor:
    """What the Adam family divides by the root of."""
    found: Tensor = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    return found


def settled(group: Group, momentum: float | None = None) -> float:
    r"""By how much SGD's momentum multiplies a gradient that stays: (1 − dampening)/(1 − momentum).

    With Nesterov's too, where torch lets dampening be 0 alone: 1 + momentum/(1 − momentum) is the same.

    Args:
        group: the parameter group.
        momentum: instead of the group's; from 1 on nothing settles, and the factor is infinite.
    """
    momentum = _number(group, "momentum") if momentum is None else momentum
    if not momentum:
        return 1.0
    return (1.0 - _number(group, "dampening")) / (1.0 - momentum) if momentum < 1.0 else math.inf


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
RMSPROP = Update(signs=_rmsprop_signs)
ASGD = Update(signs=_asgd_signs)
LION = Update(signs=_lion_signs, spread=_lion_spread, fits=_is_plain_lion)
