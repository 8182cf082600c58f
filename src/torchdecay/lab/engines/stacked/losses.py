"""Losses and scores of all members at once: one number each, and the losses' gradients with respect to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional as F

from torchdecay.errors import RAISED
from torchdecay.lab.tasks.parts import accuracy
from torchdecay.lab.tasks.task import Task, measures

_OF_ELEMENTS = (
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
)


class Losses:
    """`task.loss` for each member: (members, rows, ...) outputs and targets to (members,) losses.

    Losses of torch go without vmap, whose own cost is that of several small layers; so it has to know all the targets
    that there will be, of every seed and part.
    """

    def __init__(self, task: Task, targets: Iterable[Tensor]) -> None:
        self._loss: Callable[..., Tensor] = task.loss
        self._mapped: Callable[[Tensor, Tensor], Tensor] = vmap(task.loss, randomness="different")
        self._of_elements = any(task.loss is known for known in _OF_ELEMENTS)
        # Rows with a class below 0 are left out of the mean, which is then over fewer rows in one member than another.
        self._of_classes = task.loss is F.cross_entropy and not any(
            one.is_floating_point() or bool((one < 0).any()) for one in targets
        )
        self._total_gradient: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Each member's loss."""
        if self._of_elements and outputs.shape == targets.shape:
            return self._loss(outputs, targets, reduction="none").flatten(1).mean(1)
        if self._is_of_classes(outputs, targets):
            return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(1)
        return self._mapped(outputs, targets)

    def total(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum over members, whose gradient is that of each member's own loss."""
        return self(outputs, targets).sum()

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The gradient of each member's loss with respect to its outputs."""
        if self._is_of_classes(outputs, targets):
            # Classes before rows: along the last dimension softmax takes each short row by itself, five times as long.
            made = torch.softmax(outputs.transpose(1, 2), 1)
            made.scatter_add_(1, targets.unsqueeze(1), made.new_full((1, 1, 1), -1.0).expand_as(targets.unsqueeze(1)))
            return made.div_(targets.shape[1]).transpose(1, 2)
        if self._total_gradient is not None:
            return self._total_gradient(outputs, targets)
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.total(leaf, targets), (leaf,))
        return found

    def compile(self) -> None:
        """Run gradients that are not known in closed form through torch.compile."""
        # Through torch.func, because what is compiled can't call autograd.
        self._total_gradient = torch.compile(grad(self.total), dynamic=False)

    def _is_of_classes(self, outputs: Tensor, targets: Tensor) -> bool:
        return self._of_classes and outputs.ndim == 3 and targets.ndim == 2


@dataclass
class Measured:
    """One number for each member; what a member's own measurement raised, by its place."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] | None = None
    raised: dict[int, BaseException] = field(default_factory=dict)


@torch.no_grad()
def measure(task: Task, losses: Losses, outputs: Tensor, targets: Tensor) -> Measured:
    """Loss and score of each member's outputs, as `measures` gives them one by one."""
    if task.score is None or task.score is accuracy:
        try:
            scores = None if task.score is None else (outputs.argmax(2) == targets).double().mean(1).tolist()
            return Measured(losses(outputs, targets).tolist(), scores)
        except RAISED:
            # Whose fault it is shows one by one.
            pass
    made = Measured(scores=None if task.score is None else [])
    for member in range(len(outputs)):
        try:
            loss, score = measures(task, outputs[member], targets[member])
        except RAISED as error:
            made.raised[member] = error
            loss = score = float("nan")
        made.losses.append(loss)
        if made.scores is not None and score is not None:
            made.scores.append(score)
    return made
