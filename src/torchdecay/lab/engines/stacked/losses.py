"""The losses of all members at once: one number each, and their gradients with respect to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional as F

from torchdecay.lab.tasks.task import Task

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
