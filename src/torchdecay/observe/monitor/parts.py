"""A batch of tensors within one step, and samples of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from torchdecay.observe.monitor.layout import Tracked
from torchdecay.observe.monitor.samples import Batch


@dataclass(eq=False)
class Part:
    """A batch of tensors, in a step that has a gradient for each of them or for none, and samples of them.

    Attributes:
        batch: which.
        gradients: of each; None where there are none.
        is_updated: whether the update of each can be told by its gradient and state.
        samples: before the step ("start"), after the passes before the update ("decayed"), after the update
            ("updated"), after it and before hooks of others that come next ("own end"), at the end of the step before
            ("left"); and of the gradient as the update rule sees it ("gradient"), where that needs it; of the decay
            that momentum brings along ("entering").
        prompt: by how much the step multiplies a pull in its own gradient.
    """

    batch: Batch
    gradients: list[Tensor] | None
    is_updated: bool
    samples: dict[str, Tensor]
    prompt: float = 1.0

    @property
    def like(self) -> Tracked:
        """One of the members, which the others are like."""
        return self.batch.members[0]

    @property
    def params(self) -> list[Tensor]:
        """The tensors."""
        return [member.param for member in self.batch.members]

    def picked(self, rows: Sequence[int]) -> Part:
        """Some of its tensors."""
        if len(rows) == len(self.batch.members):
            return self
        gradients = None if self.gradients is None else [self.gradients[row] for row in rows]
        samples = {name: self.batch.picked_of(own, rows) for name, own in self.samples.items()}
        return replace(self, batch=self.batch.picked(rows), gradients=gradients, samples=samples)
