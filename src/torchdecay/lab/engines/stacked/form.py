"""Which way a stack's gradients are computed."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from torchdecay.lab.engines.stacked.losses import Losses
from torchdecay.lab.engines.stacked.lowered import Lowered, fits, layers_of
from torchdecay.lab.engines.stacked.tensors import Rows, Stack
from torchdecay.lab.engines.stacked.vmapped import Vmapped
from torchdecay.lab.tasks.task import Task

Form = Lowered | Vmapped


def form_of(task: Task, stack: Stack, rows: Rows, targets: Iterable[Tensor], *, compile: bool = False) -> Form:
    """Chains of linear layers as batched products, everything else through vmap."""
    losses = Losses(task, targets)
    layers = layers_of(stack.model)
    if layers is not None and fits(layers, stack, rows):
        return Lowered(stack, losses, layers, compile=compile)
    return Vmapped(stack, losses, compile=compile)
