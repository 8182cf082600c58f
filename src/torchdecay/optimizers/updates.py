"""What an optimizer's update is made of, as a value, and what is asked of it: its sign, its size, its course."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

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
        divisor_of: from group and state to what a step divided its gradient by before the moment took it; None where
            moments are of plain gradients.
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
    divisor_of: Callable[[Group, State], Tensor] | None = None
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
        """By how much the step that comes multiplies its own gradient, where that is linear."""
        terms = self.terms(group, {}, 1)
        if self.fading is None or not terms.moment:
            return 1.0
        # The buffer begins as the first gradient.
        fresh = 1.0 if is_first else self.fading(group)[1]
        return terms.gradient + terms.moment * fresh

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
