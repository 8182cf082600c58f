"""The decay of a lane: the passes that `attach` makes, over stacked tensors, with a coefficient for each member."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchdecay.apply.kernels import in_parts
from torchdecay.apply.passes import Passes
from torchdecay.apply.program import check_fraction
from torchdecay.apply.work import Pull, Target, Work
from torchdecay.errors import TorchdecayError
from torchdecay.lab.engines.stacked.lanes import Lane
from torchdecay.lab.engines.stacked.members import StackedMember, template_of
from torchdecay.lab.engines.stacked.tensors import Stack, rows_of
from torchdecay.optimizers.cards import settled_factor
from torchdecay.optimizers.peaks import peak_of
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.references import Initial


class MembersRefused(Exception):
    """Members whose step would be refused if they ran alone, by their place in the stack."""

    def __init__(self, refused: dict[int, TorchdecayError]) -> None:
        super().__init__(refused)
        self.refused = refused


class LaneDecay:
    """What pulls the members of a lane, around the lane's own step."""

    def __init__(self, lane: Lane, members: Sequence[StackedMember], initial: Mapping[str, Tensor]) -> None:
        self._lane, self._pulls = lane, pulls_of(lane, members, initial)
        self._passes = Passes(lane.optimizer, [one.pull for one in self._pulls], in_parts)
        self._works: list[Work] = []

    def prepare(self) -> None:
        """Work out how hard the step that comes pulls.

        Raises:
            MembersRefused: a step would remove whole weights.
            DecayError: a schedule that returned NaN or a negative number.
        """
        self._works = [work for one in self._pulls if (work := one.work()) is not None]

    def step(self) -> None:
        """The lane's step, with the decay before and after it."""
        self._passes.before(self._works)
        self._lane.step()
        self._passes.after()


@dataclass(eq=False)
class StackedPull:
    """One decay of a lane's members over some parameters of a group, alike but for how hard it is.

    `decay` has coefficient 1; `coefficients` has one for each member, float64, shaped to multiply the parameters.
    """

    lane: Lane
    index: int
    decay: Decay
    coefficients: Tensor
    pull: Pull
    _factor: float | None = None
    _amount: Tensor | float = 0.0

    def work(self) -> Work | None:
        """What the step that comes has to do; None where it moves none of the parameters."""
        group = self.lane.optimizer.param_groups[self.index]
        live = [one for one in self.pull.targets if one.param.grad is not None]
        if not live or (group["lr"] == 0 and self.pull.decay.site is not Site.GRADIENT):
            return None
        factor = self._factor_now(group)
        if factor != self._factor:
            amounts = self.coefficients * factor
            self._check(group, amounts)
            self._factor, self._amount = factor, amounts.to(self.pull.targets[0].param)
        return Work(self.pull, group, live, self._amount)

    def _factor_now(self, group: Mapping[str, Any]) -> float:
        decay, lr, peak = self.decay, float(group["lr"]), None
        if decay.scale.needs_max_lr or decay.schedule.needs_lr:
            # Kept from the first step that moves weights, because a scheduler may move all that it is read from.
            peak = self.lane.peaks.setdefault((self.index, repr(decay)), peak_of(decay, group, self.index))
        ratio = lr / peak if decay.schedule.needs_lr and peak and lr else 0.0
        multiplier = decay.coefficient_at(self.lane.steps[self.index], ratio if decay.schedule.needs_lr else 1.0)
        return multiplier if self.pull.decay.site is Site.GRADIENT else decay.scale.factor(lr, peak) * multiplier

    def _check(self, group: Mapping[str, Any], amounts: Tensor) -> None:
        decay, lr = self.decay, float(group["lr"])
        if decay.proximal or decay.site is Site.LOSS:
            return
        amounts = amounts * decay.regularizer.curvature
        if decay.site is Site.GRADIENT:
            if settled_factor(self.lane.optimizer, group) is None:
                return
            amounts = amounts * lr
        refused: dict[int, TorchdecayError] = {}
        for member in (amounts.flatten() >= 1).nonzero().flatten().tolist():
            own = decay.replace(coefficient=float(self.coefficients.flatten()[member]))
            try:
                check_fraction(own, float(amounts.flatten()[member]), self.index, lr)
            except TorchdecayError as error:
                refused[self.lane.members.start + member] = error
        if refused:
            raise MembersRefused(refused)


def pulls_of(lane: Lane, members: Sequence[StackedMember], initial: Mapping[str, Tensor]) -> list[StackedPull]:
    """The pulls of a lane's members, as few as there are different ones."""
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, param in lane.params.items():
        decays = [decay for one in members if (decay := one.decays[name]) is not None]
        if decays:
            strengths = tuple(decay.coefficient for decay in decays)
            alike[template_of(decays[0]), strengths, lane.group_of[name], param.dtype, param.ndim].append(name)
    found = []
    for (template, strengths, index, _, ndim), names in alike.items():
        references = [None if template.reference is None else initial[name][lane.members] for name in names]
        targets = [Target(name, lane.params[name], held, None) for name, held in zip(names, references, strict=True)]
        # A penalty's gradient is that of coupled decay, and all are computed at once.
        passing = template.replace(site=Site.GRADIENT) if template.site is Site.LOSS else template
        coefficients = torch.tensor(strengths, dtype=torch.float64, device=targets[0].param.device)
        pull = Pull(passing, targets)
        found.append(StackedPull(lane, index, template, coefficients.view(-1, *[1] * (ndim - 1)), pull))
    return found


def initial_of(stack: Stack, members: Sequence[StackedMember]) -> dict[str, Tensor]:
    """Copies of the weights that some member is pulled toward."""
    decays = [pair for member in members for pair in member.decays.items()]
    wanted = {name for name, decay in decays if decay is not None and isinstance(decay.reference, Initial)}
    return {name: rows_of(stack.params[name], range(len(stack))) for name in sorted(wanted)}
