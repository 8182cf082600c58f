"""What one step has to do, as values that the engine, the passes and the runtimes hand to one another.

Five words say how hard something pulls, here and in every file of this room:

| word | means |
|---|---|
| coefficient | λ_t: the decay's own number times its schedule, at this step |
| amount | c_t·λ_t: the coefficient times the scale, what θ ← θ − amount·∇R(θ) is taken with |
| multiplier | what a controller multiplies the amount of one tensor by, in this step |
| fraction | the part of each weight that L2 takes off in one step: its amount, or amount/(1 + amount) if proximal |
| pull | one decay over some parameters of one group, with the tensors that it reads; with a step's amount, a work |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from torchdecay.optimizers.gradients import grad_of
from torchdecay.plans.decay import Decay, Site

Amount = float | Tensor
_Row = TypeVar("_Row", bound=tuple[Any, Any, Any])


@dataclass(frozen=True)
class Cost:
    """What the decay of one parameter costs beside the optimizer's own step, in bytes.

    Attributes:
        held: what is kept from step to step: a copy of the weights to be pulled toward, a mask.
        moved: what a pass reads and writes at each step, at the least; 0 where the optimizer's own kernel decays, and
            where the loss does.
    """

    held: int = 0
    moved: int = 0


@dataclass
class Pull:
    """One decay over some parameters of one group, with the tensors that it reads."""

    decay: Decay
    names: list[str]
    params: list[Tensor]
    references: list[Tensor | None]
    masks: list[Tensor | None]

    def live(self) -> list[int]:
        """Indices of the parameters that this step moves: those with a gradient that still ask for one."""
        return [i for i, param in enumerate(self.params) if param.grad is not None and param.requires_grad]

    def reference(self, index: int) -> Tensor | None:
        """The reference of one parameter, moved along where the model was moved or cast after attach."""
        param, reference = self.params[index], self.references[index]
        if reference is not None and (reference.dtype != param.dtype or reference.device != param.device):
            reference = self.references[index] = reference.to(device=param.device, dtype=param.dtype)
        return reference

    def cost(self, index: int) -> Cost:
        """What this pull costs for one parameter."""
        read = [one.nbytes for one in (self.references[index], self.masks[index]) if one is not None]
        passes = {Site.LOSS: 0, Site.GRADIENT: 3}.get(self.decay.site, 2)
        return Cost(sum(read), passes and passes * self.params[index].nbytes + sum(read))


@dataclass
class Work:
    """A pull with this step's numbers.

    Attributes:
        pull: whose parameters.
        group: the live parameter group.
        live: which of the pull's parameters take part in this step.
        amount: c_t·λ_t, the same for all of them.
        multipliers: what a controller multiplies the amount by, for each live parameter; None is 1.
        steps: steps that the group really took before this one.
    """

    pull: Pull
    group: dict[str, Any]
    live: Sequence[int]
    amount: Amount
    steps: int = 0
    multipliers: list[Amount] | None = field(default=None, repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the live parameters."""
        return [self.pull.names[i] for i in self.live]

    @property
    def params(self) -> list[Tensor]:
        """The live parameters."""
        return [self.pull.params[i] for i in self.live]

    @property
    def references(self) -> list[Tensor | None]:
        """Their references, beside them; None is 0."""
        return [self.pull.reference(i) for i in self.live]

    @property
    def masks(self) -> list[Tensor | None]:
        """Their masks; None is all."""
        return [self.pull.masks[i] for i in self.live]

    @property
    def grads(self) -> list[Tensor]:
        """Their gradients, as the optimizer is given them."""
        return [grad_of(param) for param in self.params]

    @property
    def amounts(self) -> list[Amount]:
        """Amount · multiplier for each live parameter."""
        if self.multipliers is None:
            return [self.amount] * len(self.live)
        return [self.amount * multiplier for multiplier in self.multipliers]


def by_decay(rows: Iterable[_Row]) -> list[tuple[Any, list[_Row]]]:
    """Rows of (parameter, name, decay), those with equal decays together, in the order of the first of each."""
    found: dict[Decay | None, list[_Row]] = {}
    for row in rows:
        found.setdefault(row[2], []).append(row)
    return list(found.items())
