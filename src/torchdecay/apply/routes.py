"""How one decay is carried out in one parameter group: natively, by hook or through the loss, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from torchdecay.apply.rounding import is_low
from torchdecay.apply.runtimes import check_controller
from torchdecay.errors import ApplyError
from torchdecay.optimizers.cards import SWITCH, Native, card_of, has_trait, keeps_average, late_because, settled_factor
from torchdecay.optimizers.steps import is_matched, reads_update_sign
from torchdecay.plans.controllers import Cautious, LazyRows, Projection, RowGate, Stable
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.references import Average, Initial
from torchdecay.plans.regularizers import L2, Deviation, GroupLasso, Huber, PNorm
from torchdecay.plans.update_rules import Sphere
from torchdecay.sharding import is_flat, is_flat_part, norm
from torchdecay.text import repr_quoted

Via = Literal["auto", "hook"]
Route = Literal["native", "hook", "loss", "none"]


_STALE = "a frozen weight has an old gradient left, and the optimizer's own decay would shrink it"


_TURNING = ("momentum", "differentiable", "cautious", "cautious_factor", "use_gc")


def turns_on(group: Mapping[str, Any]) -> list[Any]:
    """What of a group's options the way of its decays turns on: a scheduler may set them after attach."""
    return list(map(group.get, _TURNING))


def check_part(param: Tensor, name: str, decay: Decay | None) -> None:
    """Refuse a part that FSDP1 has made where its decay must know what it is a part of.

    Raises:
        ApplyError: naming the parameter.
    """
    if is_flat(param):
        raise ApplyError(
            f"{repr_quoted(name)} is FSDP1's one vector for all parameters of a module.",
            "Weights, biases and norms can't be told apart in it.",
            "Wrap with FullyShardedDataParallel(..., use_orig_params=True), or with fully_shard.",
        )
    if decay is None or not is_flat_part(param):
        return
    by_parts = decay.regularizer.elementwise and not any((decay.controller, decay.mask, decay.update))
    alone = decay.reference is None or isinstance(decay.reference, (Initial, Average))
    if not (by_parts and alone and decay.site is not Site.LOSS):
        raise ApplyError(
            f"{repr_quoted(name)} is a part that FSDP1 has cut, and {decay!r} can't run on it.",
            "It goes by the whole tensor, its norm, rows or shape, and a part knows none of these.",
            "Wrap with fully_shard (FSDP2), under which every form runs; or use td.decoupled, coupled, cautious or l1.",
        )


@dataclass(frozen=True)
class Way:
    """How one decay is carried out in a group, for all parameters that have it.

    Attributes:
        route, exact, why: as in `LoweringRow`; of a hook, before the parameter is looked at.
        carried: the decay as it is carried out, None where there is none.
        switch: what `decoupled_weight_decay` must be, None where the optimizer has no such key.
        besides: what else is to be said.
        is_fraction: of a native decay, whether a step removes the fraction lr·weight_decay of each weight.
    """

    route: Route
    exact: bool
    why: str
    carried: Decay | None = None
    switch: bool | None = None
    is_fraction: bool = False
    besides: str = ""


@dataclass(frozen=True)
class Place:
    """One group of an optimizer, with the decays that it is asked for."""

    optimizer: Optimizer
    group: Mapping[str, Any]
    index: int
    known: Native | None
    via: Via
    decays: Sequence[Decay | None]

    @property
    def name(self) -> str:
        """The optimizer's class."""
        return type(self.optimizer).__name__

    @cached_property
    def has_low(self) -> bool:
        """Whether any weight loses small displacements."""
        return any(is_low(param) for param in self.group["params"])

    @cached_property
    def moves_frozen(self) -> bool:
        """Whether a frozen weight has an old gradient left, so that the optimizer's own decay would shrink it."""
        return any(param.grad is not None and not param.requires_grad for param in self.group["params"])

    def way(self, decay: Decay | None) -> Way:
        """How a decay is carried out here."""
        if decay is None:
            return Way("none", True, "spared")
        if decay.site is Site.LOSS:
            return Way("loss", True, "add handle.penalty(model) to the loss", decay)
        if has_trait(self.optimizer, "reevaluating"):
            raise ApplyError(
                f"{decay!r} can't run on {self.name}.",
                "It evaluates the closure many times a step, and every evaluation must see the same function.",
                "Use td.penalized(wd) and add handle.penalty(model) to the loss inside the closure.",
            )
        check_controller(self.optimizer, self.group, decay)
        obstacle = self._obstacle(decay)
        if obstacle is None:
            return self._native(decay)
        carried = self._by_hook(decay)
        if self._is_owed(carried):
            carried = carried.replace(site=Site.BEFORE, scale=Scale.LR)
        if carried.site in (Site.BEFORE, Site.AFTER) and keeps_average(self.optimizer, self.group):
            raise ApplyError(
                f"{carried!r} can't run on {self.name}.",
                "Its parameters are a mixture of hidden weights and their average, so that a pull on them would miss "
                "the hidden weights, and move the average far too much.",
                "Use its own decay, td.native(wd), or td.coupled(wd), which goes through the gradient.",
            )
        if carried.proximal and not carried.regularizer.smooth and has_trait(self.optimizer, "in shares"):
            raise ApplyError(
                f"{carried!r} can't run on {self.name}.",
                "Its threshold goes by the size of each weight's step, and that state is on other processes.",
                "Shard with fully_shard (FSDP2) in place of it, or use td.penalized.",
            )
        if self.group.get("differentiable") and not self._is_differentiable(carried):
            raise ApplyError(
                f"{carried!r} can't run with differentiable=True.",
                "The step is part of a graph, which this pull would be missing from.",
                "Use td.coupled(wd) or td.decoupled(wd) on float32 weights, or td.penalized(wd).",
            )
        besides, late = "", late_because(self.optimizer)
        if carried.site is Site.BEFORE and carried.gate is not None and late:
            raise ApplyError(
                f"{carried!r} can't run on {self.name}.",
                f"It {late} in its step: a pull before it is lost or stops it, and this one can't come after.",
                "Attach to the optimizer inside it, or use td.decoupled(wd).",
            )
        if isinstance(carried.gate, LazyRows):
            besides += "; rows pay when they are touched, all of them at handle.flush()"
        if carried.update is not None and carried.update.keeps_copy:
            besides += "; holds a copy of the weights"
        if carried.update is not None and (own := self._own_decay()):
            besides += (
                f"; its own {own} stays beside it, and a norm that is set after the step makes of that a longer one"
            )
        if isinstance(carried.gate, Cautious):
            read = reads_update_sign(self.optimizer, self.group)
            sign, copy = "u's sign is read from state and gradient", "u is measured against a copy of the weights"
            besides += f"; {sign if read else copy}"
        if self.known is None and carried.site is Site.BEFORE and carried.gate is None:
            besides += "; after the update, where a step moves the weights before it calls its closure"
            if late:
                besides += f"; here always, since {self.name} {late}"
        return Way("hook", True, obstacle, carried, besides=besides)

    def _obstacle(self, decay: Decay) -> str | None:
        """Why this decay can't be the optimizer's own weight_decay here, or None when it can."""
        if not decay.is_plain_l2 or decay.proximal or decay.site is Site.AFTER:
            return "no torch optimizer does this natively"
        if self.via == "hook":
            return 'via="hook" was asked for'
        if len(self.decays) > 1:
            return "the group's rows differ, and groups are never split"
        if decay.site is Site.NATIVE:
            if "weight_decay" not in self.optimizer.defaults:
                raise ApplyError(
                    f"{self.name} has no weight_decay of its own, so {decay!r} means nothing there.",
                    fix="Say td.decoupled(wd) or td.coupled(wd), and torchdecay.attach carries it out.",
                )
            return _STALE if self.known is not None and self.moves_frozen else None
        if self.known is None:
            return f"what weight_decay means in {self.name} is not known"
        if self._is_owed(decay):
            return "low-precision weights: added to the gradient it would be rounded away"
        if decay.site is Site.BEFORE and self.has_low:
            return "low-precision weights: the optimizer's own decay would be rounded away"
        if decay.site is not self.known.site and self.known.switch != "chooses":
            means = "coupled" if self.known.site is Site.GRADIENT else "decoupled"
            return f"{self.name}'s own weight_decay is {means}"
        return _STALE if self.moves_frozen else None

    def _is_owed(self, decay: Decay) -> bool:
        """Whether a coupled decay is the same as a pass, which owes what low-precision weights would lose."""
        plain = settled_factor(self.optimizer, self.group) == 1.0 and not self.group.get("momentum")
        alike = isinstance(decay.regularizer, L2) and decay.controller is None and decay.gate is None
        return self.has_low and plain and alike and decay.site is Site.GRADIENT

    def _is_differentiable(self, decay: Decay) -> bool:
        """Whether a pass can be part of a graph: one that reads the weights as they are, and no state."""
        plain = decay.controller is None and decay.gate is None and not self.has_low
        before = (
            decay.site is Site.BEFORE and isinstance(decay.regularizer, L2) and not isinstance(decay.reference, Average)
        )
        return plain and (before or decay.site is Site.GRADIENT)

    def _native(self, decay: Decay) -> Way:
        known = self.known
        site = known.site if known is not None and decay.site is Site.NATIVE else decay.site
        fraction = site is Site.BEFORE or (
            site is Site.GRADIENT and settled_factor(self.optimizer, self.group) is not None
        )
        if decay.site is Site.NATIVE:
            return Way("native", True, "the optimizer's own weight_decay, by definition", decay, is_fraction=fraction)
        assert known is not None
        # Written even where it stands there already: a checkpoint may bring another.
        switch = decay.site is Site.BEFORE if SWITCH in self.group else None
        why = "the optimizer's own weight_decay is the same number"
        if decay.scale is not Scale.LR and decay.site is Site.BEFORE:
            why = f"weight_decay = {decay.scale.value}·λ/η, rounded once in float64"
        if known.site is not decay.site:
            why += f", with {SWITCH}={switch}"
        if known.note:
            why += f"; {known.note}"
        same = decay.site is Site.GRADIENT or decay.scale is Scale.LR
        return Way("native", same and known.exact, why, decay, switch, fraction)

    def _own_decay(self) -> str:
        """A decay that the optimizer has beside its weight_decay, with its number; "" without one."""
        card = card_of(self.optimizer)
        key = "" if card is None else card.shrinks_by
        return f"{key}={self.group[key]:g}" if self.group.get(key) else ""

    def _by_hook(self, decay: Decay) -> Decay:
        """The decay as a hook carries it out: NATIVE becomes what native means on this optimizer."""
        if self.known is not None or decay.site is not Site.NATIVE:
            return decay if self.known is None else self.known.resolve(decay)
        raise ApplyError(
            f"group {self.index}: {decay!r} must run by hook here, but what weight_decay means in "
            f"{self.name} is not known.",
            "A group whose rows differ can't use the optimizer's own weight_decay, and nothing is guessed.",
            "Say td.coupled(wd) or td.decoupled(wd), or build the optimizer from plan.param_groups(model).",
        )

    def check_tensor(self, param: Tensor, name: str, decay: Decay) -> None:
        """Refuse a tensor that a pass of this decay can't work on.

        Raises:
            ApplyError: naming the parameter.
        """
        what = "" if is_lazy(param) else self._trouble(param, decay)
        fix = 'Spare it with a rule, or give it one of its own: td.decoupled(wd), with rows="all".'
        if not what and not is_lazy(param):
            what, fix = _unfit(param, name, decay)
        if what:
            raise ApplyError(f"{repr_quoted(name)} {what}, and {decay!r} can't run on it by hook.", fix=fix)

    def _trouble(self, param: Tensor, decay: Decay) -> str:
        if isinstance(decay.gate, RowGate) and param.dim() == 0:
            return "has no rows"
        if isinstance(decay.gate, RowGate) and type(param) not in (Tensor, Parameter):
            return f"is a {type(param).__name__}, whose rows are elsewhere too"
        if param.layout not in (torch.strided, torch.jagged):
            return f"is stored as {param.layout}"
        if not (param.is_floating_point() or param.is_complex()) or param.dtype.itemsize < 2:
            return f"is of {param.dtype}"
        dense = param.layout is torch.strided
        if (
            dense
            and 0 in (strides := param.stride())
            and any(size > 1 and not step for size, step in zip(param.shape, strides, strict=True))
        ):
            return "has elements that share their memory"
        if decay.update is not None and param.layout is not torch.strided:
            return f"is stored as {param.layout}"
        scaled = isinstance(decay.controller, Stable) and settled_factor(self.optimizer, self.group) is None
        ordered = isinstance(decay.gate, Cautious) or isinstance(decay.controller, Projection)
        if param.is_complex() and (scaled or ordered or isinstance(decay.regularizer, (Huber, Deviation))):
            return "is complex, so that its elements have no sign and no order"
        return ""

    def terms(self, param: Tensor, way: Way) -> tuple[bool, str]:
        """Whether what is carried out is exact on this parameter, and why not."""
        decay, why = way.carried, way.why + way.besides
        if decay is None:
            return way.exact, why
        low = is_low(param)
        if low:
            why += f"; {self._rounding(decay, way.route)}"
        by_hook = way.route == "hook" and not decay.regularizer.smooth and decay.proximal
        if by_hook and not is_matched(self.optimizer, self.group, param, decay.regularizer):
            return False, (
                f"{why}; the threshold is not matched to {self.name}, "
                "so training ends at another optimum than that of loss + penalty"
            )
        return way.exact and not low, why

    def _rounding(self, decay: Decay, route: Route) -> str:
        """What becomes of what is too small for low-precision weights."""
        decay = decay if self.known is None else self.known.resolve(decay)
        if route == "loss" or decay.site is Site.GRADIENT:
            return "low precision rounds it with the gradient, and loses what is small beside that"
        if decay.update is not None and decay.update.keeps_copy:
            seen = "weights are 0 in the optimizer's step, so that its update is seen whole"
            lost = "of the update only what low precision leaves of it is seen"
            return f"{seen if has_trait(self.optimizer, 'blind') else lost}; rounded stochastically"
        if isinstance(decay.regularizer, PNorm):
            return "rounded stochastically at each step"
        if route == "native":
            return "what is too small for the dtype is rounded away, where td.decoupled(wd) would arrive"
        return "what is too small for the dtype is owed, then applied with stochastic rounding"


def _unfit(param: Tensor, name: str, decay: Decay) -> tuple[str, str]:
    """What makes a tensor unfit for norms that a decay takes of it or sets, and what to write instead."""
    rule, spare = decay.update, f"Spare it: td.rule({name!r}, None)"
    if isinstance(rule, Sphere) and param.dim() < 2:
        return (
            "is no matrix, and a bias or a gain of one length can't do its work",
            f"{spare}, as the default rules do.",
        )
    if decay.per in ("row", "column", "expert") and param.dim() < 2:
        other = "take td.l1(wd)" if isinstance(decay.regularizer, GroupLasso) else 'write per="tensor"'
        return f"is no matrix, so it has no {decay.per}s", f"{spare}; or {other} for it."
    stays = isinstance(decay.regularizer, PNorm) and decay.regularizer.p < 2
    if stays and _is_zero(param):
        return "is all zeros, which this decay holds", f"{spare}, or take td.l1(wd), which lets zeros go."
    if rule is not None and rule.needs_norm and _is_zero(param):
        form = f"{rule.word}(1.0)" if isinstance(rule, Sphere) else "hyperball(1.0)"
        return "is all zeros, and would stay so", f"{spare}; or give it a norm: td.forms.{form}."
    return "", ""


def _is_zero(param: Tensor) -> bool:
    """Whether all of a tensor is 0, of which a process may have no part: all that have one have to ask."""
    return not param.is_meta and param.numel() > 0 and not float(norm(param))
