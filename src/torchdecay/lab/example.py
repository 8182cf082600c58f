"""The worked example: one step of gradient descent on twenty weights, with decay and without, number by number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from torchdecay.apply.attach import attach
from torchdecay.arguments import check_number
from torchdecay.errors import TaskError, need
from torchdecay.plans import policies
from torchdecay.plans.forms.l2 import coupled
from torchdecay.plans.planning import plan
from torchdecay.records import JsonRecord

Matrix: TypeAlias = tuple[tuple[float, ...], ...]

SEED, ROWS, INPUTS, OUTPUTS = 123, 3, 4, 5
LEARNING_RATE = 0.1


@dataclass(frozen=True, kw_only=True)
class Update:
    """One step of SGD with one weight decay, taken apart.

    Attributes:
        weight_decay: wd.
        loss: L before the step.
        penalty: P = wd/2·Σw², the function whose gradient the decay term is.
        loss_gradient: dL/dw.
        decay_term: dP/dw = wd·w.
        loss_step: lr·dL/dw.
        decay_step: lr·dP/dw.
        weights: w after the step: w − lr·dL/dw − lr·dP/dw.
    """

    weight_decay: float
    loss: float
    penalty: float
    loss_gradient: Matrix
    decay_term: Matrix
    loss_step: Matrix
    decay_step: Matrix
    weights: Matrix


@dataclass(frozen=True, kw_only=True)
class WorkedExample(JsonRecord, kind="example"):
    """One step of SGD on loss = sum(x @ w), for several weight decays. Made by `worked_example`.

    Attributes:
        lr: learning rate.
        inputs: x, 3 x 4.
        weights: w before the step, 4 x 5.
        updates: one per weight decay.
    """

    lr: float
    inputs: Matrix
    weights: Matrix
    updates: tuple[Update, ...]

    def __post_init__(self) -> None:
        if not self.updates:
            raise TaskError("the example has no update.")

    def __iter__(self) -> Iterator[Update]:
        return iter(self.updates)

    def __getitem__(self, weight_decay: float) -> Update:
        for update in self.updates:
            if update.weight_decay == weight_decay:
                return update
        raise KeyError(f"no update with weight decay {weight_decay:g}")

    @property
    def text(self) -> str:
        """The example, step by step, for reading."""
        first = self.updates[0]
        lines = [
            f"One step of SGD with learning rate {self.lr:g} on loss = sum(x @ w).",
            "",
            "1. The weights w before the step, and the inputs x:",
            *_beside(w=self.weights, x=self.inputs),
            "",
            f"2. The loss is {first.loss:.4f}. Its gradient d(loss)/dw is the sum of each column of x, the same in "
            "every column:",
            *_beside(**{"d(loss)/dw": first.loss_gradient}),
        ]
        for number, update in enumerate(self.updates, 3):
            wd = update.weight_decay
            lines += [
                "",
                f"{number}. Weight decay {wd:g}. The penalty is wd/2 * sum(w*w) = {update.penalty:.4f}; "
                "its gradient, the decay term, is wd * w.",
                "   Two gradients, both with respect to the weights, and nothing else:",
                *_beside(**{"d(loss)/dw": update.loss_gradient, "d(penalty)/dw = wd * w": update.decay_term}),
                f"   Each times the learning rate {self.lr:g}:",
                *_beside(**{"lr * d(loss)/dw": update.loss_step, "lr * d(penalty)/dw": update.decay_step}),
                "   New weights, w - lr * d(loss)/dw - lr * d(penalty)/dw:",
                *_beside(**{"w": update.weights}),
            ]
        lines += [
            "",
            "torch.optim.SGD(..., weight_decay=wd) and torchdecay.attach(optimizer, plan) take the same step.",
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text


def worked_example(*weight_decays: float) -> WorkedExample:
    r"""Take one step of SGD on twenty weights for each weight decay, and keep every number on the way.

    $$w \leftarrow w - \eta\,\frac{\partial L}{\partial w} - \eta\,\frac{\partial P}{\partial w}, \qquad
    L = \sum_{ij} (xw)_{ij}, \quad P = \tfrac{\lambda}{2}\sum w^2$$

    with x (3 x 4) and w (4 x 5) uniform on [0, 1), numpy seed 123, float64, η = 0.1 and λ the weight decay. Both
    gradients come from autograd; the new weights from a real optimizer with the decay attached.

    Args:
        weight_decays: λ, each at least 0 and below 10; 0 and 1 when none is given.

    Returns:
        A `WorkedExample`: `print` it, or read `.updates`.

    Raises:
        DecayError: a weight decay outside its range.
        MissingExtra: numpy is not installed.

    Example:
        >>> from torchdecay.lab import worked_example
        >>> example = worked_example()
        >>> [round(w, 4) for w in example[1.0].weights[0]]
        [0.205, -0.136, 0.1686, 0.4745, -0.0254]
    """
    values = [check_number(wd, "weight decay", maximum=9.99) for wd in weight_decays or (0.0, 1.0)]
    draw = need("numpy", "lab").random.RandomState(SEED)
    x = torch.from_numpy(draw.random_sample((ROWS, INPUTS)))
    w = torch.from_numpy(draw.random_sample((INPUTS, OUTPUTS)))
    return WorkedExample(
        lr=LEARNING_RATE,
        inputs=_matrix(x),
        weights=_matrix(w),
        updates=tuple(_update(x, w, wd) for wd in values),
    )


def _update(x: Tensor, start: Tensor, wd: float) -> Update:
    model = torch.nn.ParameterDict({"w": torch.nn.Parameter(start.clone())})
    w = model["w"]
    loss, pull = (x @ w).sum(), wd / 2 * w.square().sum()
    (loss_gradient,) = torch.autograd.grad(loss, w)
    (decay_term,) = torch.autograd.grad(pull, w)
    made = plan(model, coupled(wd), rules=policies.torch)
    optimizer = torch.optim.SGD(made.param_groups(model), lr=LEARNING_RATE)
    with attach(optimizer, made, model=model):
        w.grad = loss_gradient.clone()
        optimizer.step()
    return Update(
        weight_decay=wd,
        loss=loss.item(),
        penalty=pull.item(),
        loss_gradient=_matrix(loss_gradient),
        decay_term=_matrix(decay_term),
        loss_step=_matrix(LEARNING_RATE * loss_gradient),
        decay_step=_matrix(LEARNING_RATE * decay_term),
        weights=_matrix(w),
    )


def _matrix(tensor: Tensor) -> Matrix:
    return tuple(tuple(row) for row in tensor.detach().tolist())


def _number(value: float) -> str:
    """Four decimals, no zero before the point, so that two matrices fit side by side."""
    return f"{value:.4f}".replace("0.", ".", 1).rjust(7) if abs(value) < 1 else f"{value:7.4f}"


def _beside(**matrices: Matrix) -> list[str]:
    """Matrices side by side, each under its name."""
    blocks = []
    for name, matrix in matrices.items():
        rows = ["".join(_number(value) for value in row) for row in matrix]
        width = max([len(name) + 2, *map(len, rows)])
        blocks.append([f"  {name}".ljust(width), *(row.ljust(width) for row in rows)])
    height = max(map(len, blocks))
    padded = [[*block, *[" " * len(block[0])] * (height - len(block))] for block in blocks]
    return ["   " + "   ".join(parts).rstrip() for parts in zip(*padded, strict=True)]
