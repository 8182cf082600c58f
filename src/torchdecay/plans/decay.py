"""`Decay`: one pull on a parameter, as a value with independent axes."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torchdecay.arguments import check_number, store
from torchdecay.encoding import Opaque, value_type
from torchdecay.errors import DecayError
from torchdecay.plans.controllers import Controller, Gate, LazyRows, RowGate
from torchdecay.plans.granularity import Per
from torchdecay.plans.presets import spell
from torchdecay.plans.references import Average, Mask, Reference, as_mask, as_reference
from torchdecay.plans.regularizers import L2, CustomRegularizer, ElasticNet, Regularizer, as_regularizer
from torchdecay.plans.schedules import Constant, Schedule, as_schedule
from torchdecay.plans.update_rules import UpdateRule
from torchdecay.text import nearest


@value_type
class Site(enum.Enum):
    """Where the pull enters the step."""

    LOSS = "loss"
    GRADIENT = "gradient"
    BEFORE = "before"
    AFTER = "after"
    NATIVE = "native"


@value_type
class Scale(enum.Enum):
    """c_t: what multiplies the coefficient at learning rate η_t with peak η_max."""

    ONE = "1"
    LR = "η"
    LR_RATIO = "η/η_max"
    LR_SQUARED = "η²/η_max"

    def factor(self, lr: float, max_lr: float | None) -> float:
        """c_t; 0 at learning rate 0, whatever the peak."""
        if self is Scale.ONE:
            return 1.0
        if self is Scale.LR:
            return lr
        if lr == 0.0:
            return 0.0
        if max_lr is None:
            raise DecayError(f"the scale {self.value} needs max_lr, the peak learning rate, which is not known here.")
        ratio = lr / max_lr
        return ratio if self is Scale.LR_RATIO else lr * ratio

    @property
    def needs_max_lr(self) -> bool:
        """Whether c_t depends on η_max."""
        return self in (Scale.LR_RATIO, Scale.LR_SQUARED)


@value_type
@dataclass(frozen=True, kw_only=True)
class Decay:
    r"""One pull: coefficient × schedule × scale of a regularizer, toward a reference, at a site, through a gate.

    With gradient g, the optimizer's own update u (learning rate included), learning rate η_t with peak η_max,
    λ_t = coefficient · schedule(t), and mask M:

    $$\begin{aligned}
    \text{LOSS}     &: L + \lambda_t R(\theta - \mathrm{ref}) \\
    \text{GRADIENT} &: g \leftarrow g + \lambda_t M \odot \nabla R(\theta - \mathrm{ref}) \\
    \text{BEFORE}   &: \theta \leftarrow \theta - c_t \lambda_t M \odot \nabla R(\theta - \mathrm{ref}),
                       \text{ then } \theta \leftarrow \theta - u \\
    \text{AFTER}    &: \theta \leftarrow \theta - u, \text{ then the pull, or its proximal step} \\
    \text{NATIVE}   &: \text{whatever this optimizer does with its own weight\_decay}
    \end{aligned}$$

    The presets (`td.decoupled`, `td.l1`, ...) make the common ones; the axes make the rest. A Decay is frozen,
    compares by value and prints as the preset that it equals.

    Args:
        coefficient: λ, at least 0 and finite.
        site: where the pull enters the step.
        scale: c_t, for the sites BEFORE and AFTER.
        regularizer: R, ½‖·‖² by default; any function of a tensor that returns R as a 0-d tensor, or a frozen dataclass
            derived from `torchdecay.plans.regularizers.Regularizer`. Plans save such as `module:qualname`.
        reference: where the pull leads; None is zero.
        schedule: multiplier over the steps really taken.
        max_lr: η_max for the scales that need it; None takes each group's own peak.
        proximal: AFTER only: take the proximal step of R in place of its gradient step.
        gate: which elements the pull acts on, decided at each step.
        controller: what sets the coefficient at each step.
        mask: entries of each tensor that take part; None is all.
        update: AFTER only, in place of a pull: what becomes of the update. λ_t, from 0 to 1, is then the share of that
            in what the weights become; the rest is the step as the optimizer took it.

    Raises:
        DecayError: a number outside its range, or axes that do not go together.

    Example:
        >>> import torchdecay as td
        >>> td.decoupled(0.1).replace(coefficient=0.2)
        decoupled(0.2)
    """

    coefficient: float
    site: Site
    scale: Scale = Scale.ONE
    regularizer: Regularizer = L2()
    reference: Reference | None = None
    schedule: Schedule = Constant()
    max_lr: float | None = None
    proximal: bool = False
    gate: Gate | None = None
    controller: Controller | None = None
    mask: Mask | None = None
    update: UpdateRule | None = None

    def __post_init__(self) -> None:
        store(self, coefficient=check_number(self.coefficient, "coefficient"))
        store(self, schedule=as_schedule(self.schedule), mask=as_mask(self.mask))
        store(self, regularizer=as_regularizer(self.regularizer))
        if self.reference is not None:
            store(self, reference=as_reference(self.reference))
        for axis, wanted in _AXES.items():
            value = getattr(self, axis)
            if value is not None and not isinstance(value, (wanted, Opaque)):
                raise DecayError(
                    f"{axis} is {value!r}, of type {type(value).__name__}.", fix=f"Give a {wanted.__name__}."
                )
        if self.max_lr is not None:
            store(self, max_lr=check_number(self.max_lr, "max_lr", open_minimum=True))
        for what, fix in self._contradictions():
            raise DecayError(f"{what} means nothing.", fix=fix)

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        """Axes that do not go together, and what to write instead."""
        at, beside_the_step = f"at site {self.site.value}", self.site in (Site.BEFORE, Site.AFTER)
        if self.scale is not Scale.ONE and not beside_the_step:
            fix = "A scale is for the sites BEFORE and AFTER; elsewhere the optimizer brings in the learning rate."
            yield f"scale {self.scale.value} {at}", fix
        if self.proximal and self.site is not Site.AFTER:
            yield f"a proximal step {at}", "A proximal step comes AFTER the update."
        if self.proximal and isinstance(self.regularizer, CustomRegularizer):
            fix = "Derive a class from torchdecay.plans.regularizers.Regularizer, with a prox of its own."
            yield f"a proximal step of {self.regularizer!r}, which is known by its values alone,", fix
        if self.max_lr is not None and not (self.scale.needs_max_lr or self.schedule.needs_lr):
            fix = "It is for the scales that divide by it: td.independent, td.corrected, and follow_lr()."
            yield f"max_lr with the scale {self.scale.value}", fix
        if self.site is Site.NATIVE and not self.is_plain_l2:
            fix = "An optimizer's own weight_decay is L2 toward zero; choose coupled or decoupled for more."
            yield "site NATIVE with a regularizer, reference, mask, gate or controller", fix
        if self.site is Site.LOSS and (self.gate or self.controller):
            yield "site LOSS with a gate or controller", "A penalty sees no step; choose coupled or decoupled."
        if isinstance(self.gate, RowGate):
            if self.site is not Site.BEFORE or self.controller or not self.regularizer.elementwise:
                fix = "It goes with elementwise pulls BEFORE the update, such as td.decoupled, without a controller."
                yield f"a gate by rows {at} with {self.controller or self.regularizer!r}", fix
            if isinstance(self.gate, LazyRows) and (not self._is_l2 or isinstance(self.reference, Average)):
                fix = "Only L2 toward what stays where it is adds up to one step, taken later; use TouchedRows()."
                yield f"LazyRows with {self.regularizer!r} toward {self.reference!r}", fix
        if self.update is not None:
            plain = self.site is Site.AFTER and self.scale is Scale.ONE and not self.proximal and self._is_l2
            if not plain or any((self.reference, self.mask, self.gate, self.controller)):
                fix = "It comes AFTER the update, alone, and at full scale: a norm is that of a whole slice."
                yield f"{self.update!r} beside a pull, or on a part of a tensor,", fix
            if self.coefficient > 1:
                yield f"{self.coefficient:g} of {self.update!r}", "It is a share, from 0 to 1."
            return
        is_fraction = self.scale is Scale.ONE and beside_the_step and self._is_l2
        if is_fraction and not self.controller and not self.proximal and self.coefficient > 1:
            fix = "Above 1 the step flips every weight's sign; per_step takes a fraction from 0 to 1."
            yield f"a fraction of {self.coefficient:g} per step", fix

    @property
    def _is_l2(self) -> bool:
        return type(self.regularizer) is L2

    @property
    def is_plain_l2(self) -> bool:
        """Whether the pull is λ·θ and nothing else: L2 toward zero, no mask, gate or controller."""
        return self._is_l2 and not any((self.reference, self.mask, self.gate, self.controller, self.update))

    @property
    def steering(self) -> Controller | UpdateRule | None:
        """What decides at each step what is done, so that nobody can tell before; None where nothing does."""
        return self.controller or self.update

    @property
    def per(self) -> Per | None:
        """The slices that its norms are of; "tensor" where it takes none of slices."""
        holders: tuple[Any, ...] = (self.update, self.controller, self.regularizer)
        return next((one.per for one in holders if hasattr(one, "per")), "tensor")

    @property
    def form(self) -> Decay:
        """The same pull without how hard it is: coefficient, schedule and max_lr taken out."""
        return dataclasses.replace(
            self, coefficient=0.0, schedule=Constant(), max_lr=None, regularizer=self.regularizer.form
        )

    def replace(self, **changes: Any) -> Decay:
        """A copy with some axes changed.

        Raises:
            DecayError: an unknown axis, or axes that do not go together.
        """
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise DecayError(f'Decay has no axis "{name}".', fix=nearest(name, known) or f"Axes: {known}.")
        return dataclasses.replace(self, **changes)

    def times(self, multiplier: float) -> Decay:
        """The same pull, `multiplier` times as hard."""
        if isinstance(self.regularizer, ElasticNet):
            net = ElasticNet(self.regularizer.l1 * multiplier, self.regularizer.l2 * multiplier)
            return self.replace(regularizer=net)
        return self.replace(coefficient=self.coefficient * multiplier)

    def coefficient_at(self, step: int, lr_ratio: float = 1.0) -> float:
        """λ_t = coefficient · schedule(step).

        Raises:
            DecayError: when the schedule returns NaN, an infinity or a negative number.
        """
        multiplier = self.schedule(step, lr_ratio)
        if self.update is not None and self.coefficient * multiplier > 1:
            raise DecayError(
                f"the schedule {self.schedule!r} returned {multiplier:g} at step {step}, for {self.update!r}.",
                "There it is the share of what the weights become; the weights were left as they were.",
                "Return numbers from 0 to 1.",
            )
        if not (multiplier >= 0.0) or math.isinf(multiplier):
            raise DecayError(
                f"the schedule {self.schedule!r} returned {multiplier} at step {step}.",
                "A coefficient must be finite and at least 0; the weights were left as they were.",
                "Correct the schedule; to stop decay, return 0.",
            )
        return float(self.coefficient * multiplier)

    @property
    def equation(self) -> str:
        """The pull as one line of mathematics, in plain text."""
        inner = "θ" if self.reference is None else "(θ − ref)"
        simple = isinstance(self.regularizer, L2)
        gradient = inner if simple else f"∇{self.regularizer.symbol.replace('θ', inner)}"
        mask = "" if self.mask is None else "M⊙"
        gate = "" if self.gate is None or not self.gate.symbol else f"{self.gate.symbol}⊙"
        gate += "" if self.controller is None else f"{self.controller.symbol}·"
        c = "" if self.scale is Scale.ONE else f"{self.scale.value}·"
        if self.site is Site.LOSS:
            return f"L + λ·{self.regularizer.symbol.replace('θ', inner)}"
        if self.site is Site.NATIVE:
            return "weight_decay = λ in the optimizer's own step"
        if self.site is Site.GRADIENT:
            return f"g ← g + λ·{gate}{mask}{gradient}"
        if self.update is not None:
            return f"W ← {self.update.symbol}"
        if self.proximal:
            return f"θ ← θ − u, then θ ← prox of {c}λ·{mask}{self.regularizer.symbol.replace('θ', inner)}"
        pull = f"θ ← θ − {c}λ·{gate}{mask}{gradient}"
        return f"{pull}, then θ ← θ − u" if self.site is Site.BEFORE else f"θ ← θ − u, then {pull}"

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return self._spelled

    @cached_property
    def _spelled(self) -> str:
        return spell(self)


def pull(coefficient: float, site: Site, scale: Scale = Scale.ONE, **axes: Any) -> Decay:
    """A Decay from what forms take: the schedule may be None or any function, the mask a name."""
    return Decay(coefficient=coefficient, site=site, scale=scale, **axes)


def as_decay(value: Any) -> Decay | None:
    """A Decay as it is; a number as `native(number)`; None and 0 as None."""
    if value is None or isinstance(value, Decay):
        return value
    if isinstance(value, str):
        raise DecayError(
            f"the decay is the string {value!r}.",
            "In Python a decay is a value or a number; spellings are for the command line.",
            "Write td.decoupled(0.1), a number, or None.",
        )
    number = check_number(value, "weight_decay")
    return Decay(coefficient=number, site=Site.NATIVE) if number else None


_AXES: dict[str, type] = {
    "site": Site,
    "scale": Scale,
    "regularizer": Regularizer,
    "reference": Reference,
    "gate": Gate,
    "controller": Controller,
    "mask": Mask,
    "update": UpdateRule,
}
