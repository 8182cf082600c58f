"""What pulls each parameter of an optimizer, and how much in a step.

The one answer to that, for all that observe and compare; `verify` alone reads for itself what should happen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast

from torch import Tensor, nn

from torchdecay.apply.handle import Handle, handle_of
from torchdecay.apply.lowering import Lowering, name_parameters
from torchdecay.errors import ApplyError, TorchdecayError, UnitError
from torchdecay.observe.groups import Wiring, decay_of, why_unusable, wiring_of
from torchdecay.optimizers.cards import has_trait, native_of, settled_factor
from torchdecay.optimizers.formulas import Pace, pace
from torchdecay.optimizers.peaks import peak_of
from torchdecay.plans.controllers import Stable
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.references import Average
from torchdecay.plans.regularizers import L2, Huber
from torchdecay.plans.schedules import Constant

Source = Literal["plan", "class", "group", "measured", "nothing"]

_KEEPS_ROUNDED = re.compile("kahan|master|stochastic|compensation|shift|fp32", re.IGNORECASE)
"""In the names of options and state of optimizers that keep what low precision rounds away."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pulled:
    """How the parameters of one group are pulled that one decay pulls; of one group they share it.

    Attributes:
        optimizer: whose; None for a plan by itself.
        index: of the group.
        values: the live group; of a plan by itself the options of its rows.
        decay: what pulls; NATIVE where nobody knows what that means; None for nothing.
        planned: the decay as it stands in the plan; None without one.
        spoken: the decay as the plan says it, or the group; "" for none.
        source: where it is from: "plan"; "class", a weight_decay of which the class's card says what it means;
            "group", one of which nobody knows that; "measured", one of which `td.verify` has found it out; "nothing",
            where there is none to be read.
        wiring: whether the plan that it is from is at work, see `wiring_of`.
        hooked: whether a pass of its own pulls, which pays later what a low precision would round away.
        steps: steps already taken, for its schedule.
        peak: the peak learning rate, where it needs one.
        error: what is wrong with its numbers, to be raised or told.
    """

    optimizer: Any
    index: int
    values: Mapping[str, Any] = field(repr=False)
    decay: Decay | None = None
    planned: Decay | None = None
    spoken: str = ""
    source: Source = "plan"
    wiring: Wiring = ""
    hooked: bool = False
    steps: int = 0
    peak: float | None = None
    error: TorchdecayError | None = None

    @property
    def site(self) -> Site | None:
        """Where it enters the step; None for no decay."""
        return None if self.decay is None else self.decay.site

    @property
    def is_coupled(self) -> bool:
        """Whether it goes through the gradient."""
        return self.site in (Site.GRADIENT, Site.LOSS)

    @property
    def is_free(self) -> bool:
        """Whether it takes the same at any learning rate but 0."""
        decay = self.decay
        if decay is None:
            return True
        return decay.scale is Scale.ONE and decay.site in (Site.BEFORE, Site.AFTER) and not decay.schedule.needs_lr

    @property
    def is_constant(self) -> bool:
        """Whether its coefficient is the same at every step."""
        return self.decay is None or self.decay.schedule == Constant()

    @property
    def is_fraction(self) -> bool:
        """Whether it takes c·λ of each weight that it takes part of: L2 toward 0 that no controller steers."""
        decay = self.decay
        if decay is None:
            return True
        return type(decay.regularizer) is L2 and decay.reference is None and decay.steering is None

    @property
    def is_even(self) -> bool:
        """Whether each step takes the same part of every weight, by a pass of its own or the optimizer's."""
        decay = self.decay
        return decay is None or (decay.is_plain_l2 and not decay.proximal and decay.site is not Site.LOSS)

    @property
    def is_linear(self) -> bool:
        """Whether gradients have no part in what it comes to: beside the gradient, or in SGD's."""
        return not self.is_coupled or settled_factor(self.optimizer, self.values) is not None

    @property
    def gathers(self) -> bool:
        """Whether momentum gathers it over the steps."""
        return self.is_coupled and bool(self.values.get("momentum"))

    def keeps_rounded(self, param: Tensor) -> bool:
        """Whether an option or the state of the optimizer says that it keeps what low precision rounds away."""
        own = {**vars(self.optimizer), **self.values}
        on = [name for name, value in own.items() if value is not None and value is not False]
        return any(_KEEPS_ROUNDED.search(str(name)) for name in (*on, *self.optimizer.state.get(param, ())))

    @cached_property
    def means(self) -> str:
        """The pull itself, as it prints."""
        return repr(self.decay)

    @cached_property
    def why(self) -> str:
        """Why nobody can tell what it takes off a weight without gradient, or ""."""
        decay, name = self.decay, type(self.optimizer).__name__
        if decay is None:
            return ""
        linear = None if self.optimizer is None else settled_factor(self.optimizer, self.values)
        if decay.steering is not None and not (isinstance(decay.controller, Stable) and linear is not None):
            return "how hard it pulls is decided at each step" if decay.controller else "it sets a norm at each step"
        if isinstance(decay.reference, Average):
            return "its reference moves along"
        if not isinstance(decay.regularizer, (L2, Huber)) or (self.is_coupled and isinstance(decay.regularizer, Huber)):
            return "what it takes is no fixed part of a weight"
        if decay.site is Site.NATIVE:
            if self.optimizer is None:
                return "what weight_decay means depends on the optimizer: give optimizer="
            return f"what weight_decay means in {name} is not known: td.verify measures it"
        if self.is_coupled and linear is None:
            if self.optimizer is None:
                return "what a coupled decay takes depends on the optimizer: give optimizer="
            if native_of(self.optimizer, self.values):
                if has_trait(self.optimizer, "adaptive"):
                    return f"{name} divides it by the size of the gradients"
                return f"{name} takes no fixed multiple of a gradient"
            return f"what {name} makes of a gradient is not known"
        return ""

    def coefficient(self, lr: float, ahead: int = 0) -> float:
        """λ_t at this learning rate, so many steps from now."""
        assert self.decay is not None
        ratio = lr / self.peak if self.decay.schedule.needs_lr and self.peak else 1.0
        return self.decay.coefficient_at(self.steps + ahead, ratio)

    def amount(self, lr: float, ahead: int = 0) -> float:
        """c_t·λ_t: what a step multiplies a weight by, less 1; of a coupled pull η_t·λ_t."""
        if self.decay is None or not lr:
            return 0.0
        coefficient = self.coefficient(lr, ahead)
        amount = lr * coefficient if self.is_coupled else self.decay.scale.factor(lr, self.peak) * coefficient
        return amount / (1 + amount) if self.decay.proximal else amount

    def taken(self, lr: float, ahead: int = 0) -> float | None:
        """The part of each weight that one step takes, momentum left aside; None where it is no such part."""
        lost = self.wiring in ("not attached", "hooks lost")
        return None if lost or self.error or self.why or not self.is_fraction else self.amount(lr, ahead)

    def pace(self, lr: float, ahead: int = 0) -> Pace | None:
        """What that comes to once momentum has settled; None where it is no part of each weight."""
        taken = self.taken(lr, ahead)
        if taken is None or not self.is_linear:
            return None
        return pace(self.values, taken) if self.is_coupled else Pace(taken)

    def fraction(self, lr: float, ahead: int = 0) -> float | None:
        """The part of each weight that a step takes once momentum has settled; None where it is no such part."""
        found = self.pace(lr, ahead)
        return None if found is None else found.fraction


def pulls_of(
    optimizer: Any,
    *,
    plan: Plan | None = None,
    model: nn.Module | None = None,
    lowering: Lowering | None = None,
    scheduler: Any = None,
) -> list[list[Pulled]]:
    """How each parameter of each group is pulled, by a plan, the attached plan, or the group's own weight_decay.

    With `lowering` a plan is looked at as if it were attached; `scheduler` may know a peak, where none is.

    Raises:
        ApplyError: the plan and the optimizer do not fit.
    """
    handle = handle_of(optimizer)
    if plan is None and handle is None:
        return own_pulls(optimizer)
    plan = plan if plan is not None else cast(Handle, handle).plan
    model = model if model is not None or handle is None else handle.model
    if lowering is None and handle is not None and handle.plan is plan:
        lowering = handle.lowering
    planned = {id(param): decay for group in name_parameters(plan, optimizer, model) for param, _, decay in group}
    rows = [] if lowering is None else [row for group in lowering.groups for row in group.hooked]
    hooked = {id(param) for param, _, decay in rows if decay.site is not Site.GRADIENT}
    made = []
    for index, values in enumerate(optimizer.param_groups):
        # Alike rows share one value; a Decay is compared once here and not for each parameter.
        spared = Pulled(optimizer=optimizer, index=index, values=values)
        by_identity: dict[int, Pulled] = {id(None): spared}
        by_decay: list[Pulled] = []
        pulls = []
        for param in values["params"]:
            decay = planned.get(id(param))
            if id(decay) not in by_identity:
                assert decay is not None
                found = next((one for one in by_decay if one.planned == decay), None)
                if found is None:
                    found = _planned(spared, decay, handle, scheduler, id(param) in hooked, lowering is not None)
                    by_decay.append(found)
                by_identity[id(decay)] = found
            pulls.append(by_identity[id(decay)])
        made.append(pulls)
    return made


def own_pulls(optimizer: Any) -> list[list[Pulled]]:
    """How each parameter of each group is pulled by the group's own weight_decay."""
    groups = enumerate(optimizer.param_groups)
    return [[_own(optimizer, index, values)] * len(values["params"]) for index, values in groups]


def _own(optimizer: Any, index: int, values: Mapping[str, Any]) -> Pulled:
    key, asked = decay_of(optimizer, values)
    spared = Pulled(optimizer=optimizer, index=index, values=values, wiring=wiring_of(values, None), source="nothing")
    wrong = why_unusable(asked, key) if key else ""
    if wrong:
        error = UnitError(f"group {index}: {wrong}.", fix="Give a finite number, at least 0.")
        return replace(spared, spoken=f"{key}={asked!r}", error=error)
    if not key or has_trait(optimizer, "no decay"):
        return replace(spared, source="class") if has_trait(optimizer, "no decay") else spared
    known, value = native_of(optimizer, values), float(asked)
    source: Source = "group" if known is None else "class"
    if not value:
        return replace(spared, source=source)
    if known is None:
        decay = Decay(coefficient=value, site=Site.NATIVE)
        return replace(spared, decay=decay, spoken=f"{key}={value:g}", source=source)
    return replace(spared, decay=known.decay(value), spoken=repr(known.decay(value)), source=source)


def _planned(spared: Pulled, decay: Decay, handle: Handle | None, scheduler: Any, hooked: bool, told: bool) -> Pulled:
    known = native_of(spared.optimizer, spared.values)
    means = decay if known is None else known.resolve(decay)
    # Natively an optimizer does no more than plain L2.
    at_work = told or (means.is_plain_l2 and not means.proximal)
    made = replace(
        spared,
        decay=means,
        planned=decay,
        spoken=repr(decay),
        wiring="attached" if handle is not None else "" if at_work else "not attached",
        hooked=hooked,
        steps=0 if handle is None else handle.steps(spared.index),
    )
    if not (means.scale.needs_max_lr or means.schedule.needs_lr):
        return made
    try:
        if handle is not None:
            return replace(made, peak=handle.max_lr(spared.index, means))
        return replace(made, peak=peak_of(means, spared.values, spared.index, scheduler))
    except ApplyError as error:
        return replace(made, error=error)
