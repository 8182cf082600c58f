"""The decay of all members: one pass over stacked tensors, with a coefficient for each member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torchdecay.apply import kernels
from torchdecay.apply.program import check_fraction
from torchdecay.errors import TorchdecayError
from torchdecay.lab.engines.stacked.lanes import Lane
from torchdecay.lab.engines.stacked.members import StackedMember, template_of
from torchdecay.lab.engines.stacked.tensors import Stack, rows_of
from torchdecay.optimizers.cards import settled_factor
from torchdecay.optimizers.elementwise import Elementwise
from torchdecay.optimizers.gradients import maximizes
from torchdecay.optimizers.peaks import peak_of
from torchdecay.optimizers.steps import reads_update_sign, step_size, update_direction
from torchdecay.plans.controllers import Cautious
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.references import Initial
from torchdecay.plans.regularizers import L2


class MembersRefused(Exception):
    """Members whose step would be refused if they ran alone, by their place in the stack."""

    def __init__(self, refused: dict[int, TorchdecayError]) -> None:
        super().__init__(refused)
        self.refused = refused


@dataclass(eq=False)
class StackedPull:
    """One parameter's decay for members side by side that differ in nothing but how hard it is.

    Attributes:
        decay: with coefficient 1.
        lane: whose optimizer.
        name: the parameter.
        within: which members, counted within the lane.
        coefficients: theirs, float64.
        reference: theirs; None is 0.
    """

    decay: Decay
    lane: Lane
    name: str
    within: slice
    coefficients: Tensor
    reference: Tensor | None
    factor: float | None = None
    amounts: Tensor = field(default_factory=lambda: torch.zeros(()))
    before_update: Tensor | None = None

    @property
    def group(self) -> dict[str, Any]:
        """The parameter group that it is in."""
        return self.lane.optimizer.param_groups[self.lane.group_of[self.name]]

    @property
    def param(self) -> Tensor:
        """The members' weights, a view."""
        return self.lane.params[self.name][self.within]

    def is_live(self) -> bool:
        """Whether the step that comes moves this parameter."""
        plainly_coupled = self.decay.site in (Site.GRADIENT, Site.LOSS)
        return self.lane.params[self.name].grad is not None and (plainly_coupled or self.group["lr"] != 0)

    def prepare(self) -> None:
        """Set `amounts`, c_t·λ_t for each member, shaped to multiply the parameter.

        Raises:
            MembersRefused: a step would remove whole weights.
            DecayError: a schedule that returned NaN or a negative number.
        """
        factor, lr = self._factor()
        if factor == self.factor:
            return
        amounts = self.coefficients * factor
        self._check(amounts, lr)
        self.factor = factor
        self.amounts = amounts.view(-1, *[1] * (self.param.ndim - 1))

    def _factor(self) -> tuple[float, float]:
        decay, index = self.decay, self.lane.group_of[self.name]
        lr, peak = float(self.group["lr"]), None
        if decay.scale.needs_max_lr or decay.schedule.needs_lr:
            # Kept from the first step that moves weights, because a scheduler may move all that it is read from.
            peak = self.lane.peaks.setdefault((index, repr(decay)), peak_of(decay, self.group, index))
        ratio = lr / peak if decay.schedule.needs_lr and peak and lr else 0.0
        multiplier = decay.coefficient_at(self.lane.steps[index], ratio if decay.schedule.needs_lr else 1.0)
        if decay.site in (Site.GRADIENT, Site.LOSS):
            return multiplier, lr
        return decay.scale.factor(lr, peak) * multiplier, lr

    def _check(self, amounts: Tensor, lr: float) -> None:
        decay = self.decay
        if not isinstance(decay.regularizer, L2) or decay.proximal or decay.site is Site.LOSS:
            return
        if decay.site is Site.GRADIENT:
            if settled_factor(self.lane.optimizer, self.group) is None:
                return
            amounts = amounts * lr
        refused: dict[int, TorchdecayError] = {}
        for member in (amounts >= 1).nonzero().flatten().tolist():
            own = decay.replace(coefficient=float(self.coefficients[member]))
            try:
                check_fraction(own, float(amounts[member]), self.lane.group_of[self.name], lr)
            except TorchdecayError as error:
                refused[self.lane.members.start + self.within.start + member] = error
        if refused:
            raise MembersRefused(refused)

    @torch.no_grad()
    def before(self) -> None:
        """What comes before the optimizer's update."""
        decay, param = self.decay, self.param
        if decay.site in (Site.GRADIENT, Site.LOSS):
            self._add_to_gradient(param)
        elif isinstance(decay.gate, Cautious):
            if reads_update_sign(self.lane.optimizer, self.group):
                whole = update_direction(self.lane.optimizer, self.group, self.lane.params[self.name])
                spare = decay.gate.zero_update == "spare"
                kernels.cautious_(param, self.amounts.to(param), self._own(whole), spare_zeros=spare)
            else:
                self.before_update = param.clone()
        elif decay.site is Site.BEFORE:
            self._pull(param)

    @torch.no_grad()
    def after(self) -> None:
        """What comes after it."""
        decay, param = self.decay, self.param
        if self.before_update is not None:
            old, self.before_update = self.before_update, None
            agreement = (old - param) * old
            spare = isinstance(decay.gate, Cautious) and decay.gate.zero_update == "spare"
            param.sub_((agreement > 0 if spare else agreement >= 0) * old * self.amounts.to(param))
        elif decay.site is not Site.AFTER:
            return
        elif decay.proximal:
            tau, size = self.amounts.to(param), None
            if not decay.regularizer.smooth:
                found = step_size(self.lane.optimizer, self.group, self.lane.params[self.name])
                tau, size = (tau, self._own(found)) if isinstance(found, Elementwise) else (tau * found, None)
            kernels.proximal_([param], decay.regularizer, [tau], [self.reference], sizes=[size])
        else:
            self._pull(param)

    def _add_to_gradient(self, param: Tensor) -> None:
        grad = self.lane.params[self.name].grad
        assert grad is not None
        inner = param if self.reference is None else param - self.reference
        turned = maximizes(self.lane.optimizer, self.group)
        amounts = (-self.amounts if turned else self.amounts).to(param)
        grad[self.within].addcmul_(self.decay.regularizer.gradient(inner), amounts)

    def _own(self, whole: Elementwise) -> Elementwise:
        """The members' part of what was read for the whole lane."""
        return Elementwise(whole.of, tuple(one[self.within] if one.dim() else one for one in whole.tensors))

    def _pull(self, param: Tensor) -> None:
        if isinstance(self.decay.regularizer, L2) and self.reference is None:
            # Subtracted in float64, as a Python number is.
            param.mul_((1 - self.amounts).to(param))
        else:
            amounts = self.amounts.to(param)
            kernels.explicit_([param], self.decay.regularizer, [amounts], [self.reference])


def pulls_of(
    stack: Stack, members: Sequence[StackedMember], lanes: Sequence[Lane], initial: dict[str, Tensor]
) -> list[StackedPull]:
    """The pulls of all members: per parameter one for each run of neighbors whose templates agree."""
    found = []
    for lane in lanes:
        own = members[lane.members]
        for name in stack.names:
            templates = [decay if decay is None else template_of(decay) for decay in (one.decays[name] for one in own)]
            starts = [i for i in range(len(own)) if i == 0 or templates[i] != templates[i - 1]]
            for start, stop in zip(starts, [*starts[1:], len(own)], strict=True):
                template = templates[start]
                if template is None:
                    continue
                strengths = [decay.coefficient for one in own[start:stop] if (decay := one.decays[name]) is not None]
                device = stack.params[name].device
                base = lane.members.start
                reference = initial[name][base + start : base + stop] if template.reference is not None else None
                found.append(
                    StackedPull(
                        template,
                        lane,
                        name,
                        slice(start, stop),
                        torch.tensor(strengths, dtype=torch.float64, device=device),
                        reference,
                    )
                )
    return found


def initial_of(stack: Stack, members: Sequence[StackedMember]) -> dict[str, Tensor]:
    """Copies of the weights that some member is pulled toward."""
    wanted = {
        name
        for member in members
        for name, decay in member.decays.items()
        if decay is not None and isinstance(decay.reference, Initial)
    }
    return {name: rows_of(stack.params[name], range(len(stack))) for name in sorted(wanted)}
