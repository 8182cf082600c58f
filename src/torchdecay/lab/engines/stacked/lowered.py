"""Gradients of plain chains of linear layers for all members at once, by batched matrix products without autograd.

Every product is written into memory that is there already. With fresh memory for each activation, a step of 48
networks 64-256-10 takes about twice as long: the pages cost more than the arithmetic. Members go through in parts
whose activations stay in cache.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchdecay.lab.engines.stacked.losses import Losses
from torchdecay.lab.engines.stacked.tensors import Rows, Stack
from torchdecay.lab.engines.stacked.vmapped import Gradients, Vmapped
from torchdecay.lab.tasks.task import Task

_aten = torch.ops.aten
CACHE = 2 << 20
"""Bytes of activations of one part of the members, for each thread."""


@dataclass(frozen=True)
class Activation:
    """An elementwise function whose derivative can be told from its own output.

    `apply_` works in place; so does `backward_`, from (gradient, output) to the gradient before it.
    """

    apply_: Callable[[Tensor], Tensor]
    backward_: Callable[[Tensor, Tensor], Tensor]


_ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: Activation(torch.relu_, lambda g, y: _aten.threshold_backward.grad_input(g, y, 0, grad_input=g)),
    nn.Sigmoid: Activation(torch.sigmoid_, lambda g, y: _aten.sigmoid_backward.grad_input(g, y, grad_input=g)),
    nn.Tanh: Activation(torch.tanh_, lambda g, y: _aten.tanh_backward.grad_input(g, y, grad_input=g)),
}


@dataclass(frozen=True)
class Layer:
    """A linear layer and the activations after it; names of parameters in the model, None without a bias."""

    weight: str
    bias: str | None
    activations: tuple[Activation, ...]


def layers_of(model: nn.Module) -> tuple[Layer, ...] | None:
    """The model as a chain of linear layers, or None where it is anything else."""
    found: list[Layer] = []
    known = dict(model.named_parameters())
    for prefix, module in _chain(model, ""):
        if type(module) is nn.Linear:
            bias = None if module.bias is None else f"{prefix}bias"
            found.append(Layer(f"{prefix}weight", bias, ()))
        elif type(module) in _ACTIVATIONS and found:
            last = found[-1]
            found[-1] = Layer(last.weight, last.bias, (*last.activations, _ACTIVATIONS[type(module)]))
        elif type(module) is not nn.Identity:
            return None
    names = [name for layer in found for name in (layer.weight, layer.bias) if name is not None]
    plain = sorted(names) == sorted(known) and all(param.requires_grad for param in known.values())
    hooked = any(_has_hooks(module) for module in model.modules())
    return tuple(found) if found and plain and not hooked and not list(model.buffers()) else None


def _chain(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential:
        return [(prefix, module)]
    return [one for name, child in module.named_children() for one in _chain(child, f"{prefix}{name}.")]


def _has_hooks(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def fits(layers: tuple[Layer, ...], stack: Stack, rows: Rows) -> bool:
    """Whether the rows are what the chain takes: one vector each, in the dtype of the weights."""
    weight = stack.params[layers[0].weight]
    return rows.x.ndim == 3 and rows.x.dtype == weight.dtype and rows.x.shape[2] == weight.shape[2]


class Lowered:
    """Computes a stack's gradients and outputs as chains of batched products; compiling helps its loss only."""

    def __init__(self, stack: Stack, losses: Losses, layers: tuple[Layer, ...], *, compile: bool = False) -> None:
        self.stack, self.layers, self._losses = stack, layers, losses
        if compile:
            losses.compile()
        self.rebuild()

    def rebuild(self) -> None:
        """Make room for the gradients of the members that there are."""
        self._grads = {name: torch.empty_like(self.stack.params[name]) for name in self.stack.names}
        self._room: tuple[Any, ...] = ()
        self._work: list[list[Tensor]] = []
        self._parts: list[_Part] = []

    @torch.no_grad()
    def gradients(self, rows: Rows) -> Gradients:
        """The gradient of each member's loss, in tensors that the next call overwrites."""
        self._make_room(rows)
        outputs = [self._part(part, rows) for part in self._parts]
        return [self._grads[name] for name in self.stack.names], torch.cat(outputs) if len(outputs) > 1 else outputs[0]

    @torch.no_grad()
    def outputs(self, rows: Rows) -> Tensor:
        """Outputs of all members."""
        if not self._parts:
            self._make_room(rows)
        # Rows of members are copies where seeds stand side by side: of some at a time, not of all that there are.
        pieces = [Rows(some, rows.y) for some in torch.split(rows.x, self._room[0], 1)]
        made = [
            torch.cat([self._forward(one, piece.inputs(one.seeds))[0][-1].clone() for one in self._parts])
            for piece in pieces
        ]
        return (torch.cat(made, 2) if len(made) > 1 else made[0]).transpose(1, 2)

    def _make_room(self, rows: Rows) -> None:
        num_rows, weights = rows.x.shape[1], [self.stack.params[layer.weight] for layer in self.layers]
        room = (num_rows, len(self.stack), torch.get_num_threads())
        if room == self._room:
            return
        self._room = room
        widths = [self.stack.params[layer.weight].shape[1] * len(layer.activations or (1,)) for layer in self.layers]
        bytes_each = num_rows * sum(widths) * weights[0].itemsize
        most = max(1, CACHE * room[2] // bytes_each)
        self._parts = [_Part.of(self.stack, self.layers, self._grads, part) for part in _cut(self.stack.seed_of, most)]
        size = max(len(part.seeds) for part in self._parts) * num_rows
        # One tensor for each activation, because its backward pass reads its own output.
        self._work = [
            [weight.new_empty(size * weight.shape[1]) for _ in layer.activations or (1,)]
            for weight, layer in zip(weights, self.layers, strict=True)
        ]
        self._back = [weight.new_empty(size * weight.shape[2]) for weight in weights[1:]]

    def _forward(self, part: _Part, x: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """What every layer is given, the last one's output at the end; and the output of each of its activations.

        All are (members, features, rows): a bias and the sum of its gradient then go along the rows, which lie in a
        row in memory, and the product with a narrow last layer takes half the time.
        """
        given, made = [x.transpose(1, 2)], []
        for room, layer, weight, bias in zip(self._work, self.layers, part.weights, part.biases, strict=True):
            outs = [_view(one, len(part.seeds), weight.shape[1], given[0].shape[2]) for one in room]
            if bias is None:
                torch.bmm(weight, given[-1], out=outs[0])
            else:
                torch.baddbmm(bias.unsqueeze(2), weight, given[-1], out=outs[0])
            for index, activation in enumerate(layer.activations):
                if index:
                    outs[index].copy_(outs[index - 1])
                activation.apply_(outs[index])
            made.append(outs)
            given.append(outs[-1])
        return given, made

    def _part(self, part: _Part, rows: Rows) -> Tensor:
        given, made = self._forward(part, rows.inputs(part.seeds))
        outputs = given[-1].transpose(1, 2)
        back = self._losses.gradient(outputs, rows.targets(part.seeds)).transpose(1, 2).contiguous()
        for k in range(len(self.layers) - 1, -1, -1):
            activations = self.layers[k].activations
            for activation, output in zip(reversed(activations), reversed(made[k][: len(activations)]), strict=True):
                activation.backward_(back, output)
            if (bias_grad := part.bias_grads[k]) is not None:
                torch.sum(back, 2, out=bias_grad)
            torch.bmm(back, given[k].transpose(1, 2), out=part.weight_grads[k])
            if k:
                room = _view(self._back[k - 1], *given[k].shape)
                back = torch.bmm(part.weights[k].transpose(1, 2), back, out=room)
        # The next part writes over it.
        return outputs.clone() if len(self._parts) > 1 else outputs


def _view(room: Tensor, *shape: int) -> Tensor:
    return room[: math.prod(shape)].view(shape)


@dataclass(frozen=True, eq=False)
class _Part:
    """Some members: their seeds, and views of their weights and gradients, layer by layer."""

    seeds: list[int]
    weights: list[Tensor]
    biases: list[Tensor | None]
    weight_grads: list[Tensor]
    bias_grads: list[Tensor | None]

    @classmethod
    def of(cls, stack: Stack, layers: tuple[Layer, ...], grads: dict[str, Tensor], members: slice) -> _Part:
        def views(tensors: dict[str, Tensor], names: list[str | None]) -> list[Any]:
            return [None if name is None else tensors[name][members] for name in names]

        weights: list[str | None] = [layer.weight for layer in layers]
        biases = [layer.bias for layer in layers]
        return cls(
            stack.seed_of[members],
            views(stack.params, weights),
            views(stack.params, biases),
            views(grads, weights),
            views(grads, biases),
        )


def _cut(seeds: list[int], most: int) -> list[slice]:
    """Parts of at most `most` members, alike in size, each of one seed where its members would fill half a part."""
    edges = [i for i in range(1, len(seeds)) if seeds[i] != seeds[i - 1]]
    runs = [slice(a, b) for a, b in zip([0, *edges], [*edges, len(seeds)], strict=True)]
    if any(2 * (run.stop - run.start) < most for run in runs):
        runs = [slice(0, len(seeds))]
    parts = []
    for run in runs:
        size = run.stop - run.start
        count = -(-size // most)
        bounds = [run.start + size * i // count for i in range(count + 1)]
        parts += [slice(a, b) for a, b in itertools.pairwise(bounds)]
    return parts


Form = Lowered | Vmapped


def form_of(task: Task, stack: Stack, rows: Rows, targets: Iterable[Tensor], *, compile: bool = False) -> Form:
    """Chains of linear layers as batched products, everything else through vmap."""
    losses = Losses(task, targets)
    layers = layers_of(stack.model)
    if layers is not None and fits(layers, stack, rows):
        return Lowered(stack, losses, layers, compile=compile)
    return Vmapped(stack, losses, compile=compile)
