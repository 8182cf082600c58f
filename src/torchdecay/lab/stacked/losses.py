"""The losses of all members at once: one number each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from torchdecay.lab.task import Task

Losses = Callable[[Tensor, Tensor], Tensor]
"""(members, rows, ...) outputs and targets to (members,) losses."""

_OF_ELEMENTS = (
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
)


def losses_of(task: Task, targets: Iterable[Tensor]) -> Losses:
    """`task.loss` for each member; losses of torch go without vmap, whose own cost is that of several small layers.

    Args:
        task: whose loss.
        targets: all the targets that there will be, of every seed and part.
    """
    mapped: Losses = vmap(task.loss, randomness="different")
    loss: Callable[..., Tensor] = task.loss
    if any(loss is known for known in _OF_ELEMENTS):

        def of_elements(outputs: Tensor, targets: Tensor) -> Tensor:
            if outputs.shape != targets.shape:
                return mapped(outputs, targets)
            return loss(outputs, targets, reduction="none").flatten(1).mean(1)

        return of_elements
    # Rows with a class below 0 are left out of the mean, so that it is over fewer rows in one member than in another.
    if loss is F.cross_entropy and not any(one.is_floating_point() or bool((one < 0).any()) for one in targets):

        def of_classes(outputs: Tensor, targets: Tensor) -> Tensor:
            if outputs.ndim != 3 or targets.ndim != 2:
                return mapped(outputs, targets)
            flat = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
            return flat.view(outputs.shape[:2]).mean(1)

        return of_classes
    return mapped
