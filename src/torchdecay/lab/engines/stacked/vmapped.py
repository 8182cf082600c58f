"""Gradients of any model for all members at once, by vmap over the stacked weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from torchdecay.lab.engines.stacked.losses import Losses
from torchdecay.lab.engines.stacked.tensors import Rows, Stack

Gradients = tuple[list[Tensor | None], Tensor]
"""Gradients beside `stack.names`, None where the loss does not depend on it; and the outputs, (members, rows, ...)."""


class Vmapped:
    """Computes a stack's gradients and outputs through `torch.func.vmap`."""

    def __init__(self, stack: Stack, losses: Losses, *, compile: bool = False) -> None:
        self.stack, self._losses = stack, losses
        # Rows measured at once: as many as a step has, so that measuring takes no more memory than training.
        self._piece = 0
        self._run: Callable[..., Gradients] = (
            torch.compile(self._gradients_by_func, dynamic=False) if compile else self._gradients
        )

    def gradients(self, rows: Rows) -> Gradients:
        """The gradient of each member's loss; dropout draws for each member anew.

        All are contiguous: fused optimizers read a gradient as if it lay in memory like its weight, and what vmap
        returns for embeddings, for one, does not.
        """
        x, y, shared = self._inputs(rows)
        self._piece = y.shape[1]
        grads, outputs = self._run(self.stack.params, self.stack.buffers, x, y, shared)
        return [None if one is None else one.contiguous() for one in grads], outputs

    def rebuild(self) -> None:
        """Nothing is kept from step to step."""

    @torch.no_grad()
    def outputs(self, rows: Rows) -> Tensor:
        """Outputs of all members in eval mode."""
        model = self.stack.model
        was_training = model.training
        model.eval()
        try:
            x, _, shared = self._inputs(rows)
            piece = max(1, self._piece or x.shape[0 if shared else 1])
            made = [
                self._forward(self.stack.params, self.stack.buffers, one, shared)
                for one in torch.split(x, piece, dim=0 if shared else 1)
            ]
            return torch.cat(made, 1) if len(made) > 1 else made[0]
        finally:
            model.train(was_training)

    def _inputs(self, rows: Rows) -> tuple[Tensor, Tensor, bool]:
        x, y = rows.inputs(self.stack.seed_of), rows.targets(self.stack.seed_of)
        shared = len(set(self.stack.seed_of)) == 1
        return (x[0] if shared else x), y, shared

    def _forward(self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, shared: bool) -> Tensor:
        def one(params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
            return functional_call(self.stack.model, (params, buffers), (x,))

        in_dims = (0, 0, None if shared else 0)
        made: Tensor = vmap(one, in_dims=in_dims, randomness="different")(params, buffers, x)
        return made

    def _gradients(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, shared: bool
    ) -> Gradients:
        leaves = {name: param.detach().requires_grad_(name in self.stack.names) for name, param in params.items()}
        outputs = self._forward(leaves, buffers, x, shared)
        wanted = [leaves[name] for name in self.stack.names]
        grads = torch.autograd.grad(self._losses.total(outputs, y), wanted, allow_unused=True)
        return list(grads), outputs.detach()

    def _gradients_by_func(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor, shared: bool
    ) -> Gradients:
        """The same through torch.func, because what is compiled can't call autograd."""
        fixed = {name: param for name, param in params.items() if name not in self.stack.names}

        def total(trained: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            outputs = self._forward({**trained, **fixed}, buffers, x, shared)
            return self._losses.total(outputs, y), outputs

        grads, outputs = grad(total, has_aux=True)({name: params[name] for name in self.stack.names})
        return [grads[name] for name in self.stack.names], outputs
