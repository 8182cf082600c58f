"""What each parameter of an optimizer should undergo: from a plan, else from the optimizer's class and groups.

Read here for `verify` alone, from the rows of the plan and the cards of classes: what measures must not take the word
of what it is held against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from torchdecay.apply.handle import Handle, handle_of
from torchdecay.apply.lowering import name_parameters
from torchdecay.errors import ApplyError
from torchdecay.observe.groups import decay_of, why_unusable, wiring_of
from torchdecay.optimizers.cards import Native, base_card_of, has_trait, native_of
from torchdecay.optimizers.peaks import peak_of
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.references import Average

_GUESS = Native(Site.BEFORE)
"""Stands in for what is not known, in an expectation of which only the amount counts."""

Source = Literal["plan", "class", "base", "group", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What one parameter should undergo at each step.

    Attributes:
        decay: the pull, at the site GRADIENT, BEFORE, AFTER or LOSS; None when there should be none.
        source: where that comes from: "plan"; "class", torch's own, as the native table says; "base", a class that
            derives from one of those and has a step of its own; "group", an unknown class with a weight_decay in
            its groups, so that only the amount is known; "nothing".
        spoken: the decay as the plan spells it.
        reference: the tensor that it pulls toward.
        mask: the entries that take part.
        beside: whether the update is computed from the weight before a BEFORE pull, as Adafactor's is.
        steps: steps already taken, for its schedule.
        peak: the group's peak learning rate, where the decay needs one.
        unsayable: why no number can be expected, or "".
        wrong: what is wrong before anything is measured, or "".
        wrong_kind: "wiring" when a plan is not carried out, "number" when a value is none.
    """

    decay: Decay | None = None
    source: Source = "nothing"
    spoken: str = ""
    reference: Tensor | None = None
    mask: Tensor | None = None
    beside: bool = False
    steps: int = 0
    peak: float | None = None
    unsayable: str = ""
    wrong: str = ""
    wrong_kind: Literal["", "wiring", "number"] = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for parameters of a group that should undergo the same."""
        return (self.decay, self.source, self.unsayable, self.wrong)

    @property
    def is_plain(self) -> bool:
        """Whether it is c·λ·θ and nothing else."""
        return self.decay is not None and self.decay.is_plain_l2 and not self.decay.proximal

    def amount(self, lr: float, step: int = 0) -> float:
        """c_t·λ_t at this learning rate, so many steps from now."""
        if self.decay is None:
            return 0.0
        ratio = lr / self.peak if self.decay.schedule.needs_lr and self.peak else 1.0
        coefficient = self.decay.coefficient_at(self.steps + step, ratio)
        if self.decay.site not in (Site.BEFORE, Site.AFTER):
            return coefficient
        return self.decay.scale.factor(lr, self.peak) * coefficient


def expectations(optimizer: Any, plan: Plan | None, model: nn.Module | None) -> dict[int, Expectation]:
    """`id(parameter)` → what it should undergo, for every parameter of the optimizer.

    By the plan, else by the attached one, else by the groups' own weight_decay; of a model where these have no names.

    Raises:
        ApplyError: the plan and the optimizer do not fit.
    """
    handle = handle_of(optimizer)
    found: dict[int, Expectation] = {}
    if plan is None and handle is None:
        for group in optimizer.param_groups:
            found |= dict.fromkeys(map(id, group["params"]), _of_group(optimizer, group))
        return found
    if handle is not None:
        plan = handle.plan if plan is None else plan
        model = handle.model if model is None else model
    assert plan is not None
    tensors = held(handle) if handle is not None else {}
    named = name_parameters(plan, optimizer, model)
    for index, (group, members) in enumerate(zip(optimizer.param_groups, named, strict=True)):
        found |= dict.fromkeys(map(id, group["params"]), Expectation(source="plan"))
        # Alike rows share one expectation; a Decay is compared once here and not for each parameter.
        shared: dict[int, Expectation] = {}
        for param, _, decay in members:
            if id(decay) not in shared:
                shared[id(decay)] = _of_row(optimizer, group, index, decay, handle)
            found[id(param)] = shared[id(decay)]
            if id(param) in tensors:
                reference, mask = tensors[id(param)]
                found[id(param)] = replace(shared[id(decay)], reference=reference, mask=mask)
    return found


def _of_group(optimizer: Any, group: Mapping[str, Any]) -> Expectation:
    """From the class and the group's own `weight_decay`."""
    wiring = wiring_of(group, None)
    if wiring == "not attached":
        why = f'the group is marked "{group[MARK]}": it was built from a plan that torchdecay.attach never carried out'
        return Expectation(wrong_kind="wiring", wrong=why)
    if wiring:
        why = "a plan was attached, and its hooks are gone: deepcopy and pickle drop them; attach it again"
        return Expectation(wrong_kind="wiring", wrong=why)
    name, asked = decay_of(optimizer, group)
    if not name:
        return Expectation(source="class" if has_trait(optimizer, "no decay") else "nothing")
    wrong = why_unusable(asked, name)
    if wrong:
        return Expectation(wrong=wrong, wrong_kind="number")
    value = float(asked)
    known, source = _meaning(optimizer, group)
    if value == 0:
        return Expectation(source=source)
    if known is None:
        return Expectation(decay=_GUESS.decay(value), source="group")
    return Expectation(decay=known.decay(value), source=source, beside=not known.exact)


def _meaning(optimizer: Any, group: Mapping[str, Any]) -> tuple[Native | None, Source]:
    """What weight_decay means here, also for a class that derives from a known one and steps in its own way."""
    known = native_of(optimizer, group)
    if known is not None:
        return known, "class"
    base = base_card_of(optimizer)
    known = None if base is None else base.native_in(group)
    return known, "group" if known is None else "base"


def base_name(optimizer: Any) -> str:
    """The class of the native table that this optimizer's class derives from, or ""."""
    base = base_card_of(optimizer)
    return "" if base is None else base.name


def _of_row(
    optimizer: Any, group: Mapping[str, Any], index: int, decay: Decay | None, handle: Handle | None
) -> Expectation:
    """From a row of a plan."""
    if decay is None:
        return Expectation(source="plan")
    known, _ = _meaning(optimizer, group)
    spoken = repr(decay)
    if decay.site is Site.NATIVE:
        if known is None:
            return Expectation(decay=_GUESS.resolve(decay), source="group", spoken=spoken)
        decay = known.resolve(decay)
    made = Expectation(decay=decay, source="plan", spoken=spoken)
    if decay.steering is not None:
        what = "how hard it pulls" if decay.controller else "what becomes of the update"
        return replace(made, unsayable=f"{decay!r} decides at each step {what}")
    if isinstance(decay.reference, Average):
        return replace(made, unsayable=f"{decay!r} pulls toward what moves along")
    if handle is None and not (decay.is_plain_l2 and not decay.proximal):
        return replace(made, wrong=f"{decay!r} needs torchdecay.attach", wrong_kind="wiring")
    peak = decay.max_lr
    if decay.scale.needs_max_lr or decay.schedule.needs_lr:
        try:
            peak = peak_of(decay, group, index) if handle is None else handle.max_lr(index, decay)
        except ApplyError as error:
            return replace(made, wrong=error.what, wrong_kind="number")
    native = known is not None and handle is not None and handle.lowering.groups[index].native is not None
    beside = known is not None and not known.exact and (native or handle is None)
    return replace(made, steps=0 if handle is None else handle.steps(index), peak=peak, beside=beside)


def held(handle: Handle) -> dict[int, tuple[Tensor | None, Tensor | None]]:
    """`id(parameter)` → the reference and the mask that the attached plan reads for it, where it reads any."""
    hooked = [(param, name) for group in handle.lowering.groups for param, name, _ in group.hooked]
    pairs = {id(param): (handle.reference(name), handle.mask(name)) for param, name in hooked}
    return {key: pair for key, pair in pairs.items() if pair != (None, None)}
