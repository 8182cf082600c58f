"""`penalty`, value and gradient, against the same penalty by hand, on the tensors of a GPT-2 with 124 M weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import torchdecay as td
from paired import Check, Options, main, ratio
from shapes import gpt2, num_elements, parameters, resnet50


def measure(options: Options) -> Iterator[Check]:
    shapes = gpt2(width=192, depth=4) if options.quick else gpt2()
    params = list(parameters(shapes).values())
    size = f"{num_elements(shapes) / 1e6:.0f} M weights in {len(params)} tensors"
    yield against_hand("L2", params, options, squares, l2=1.0, on=size, target=1.6)
    yield against_hand("L1", params, options, moduli, l1=1.0, on=size)
    yield against_hand("both", params, options, lambda p: moduli(p) + squares(p), l1=1.0, l2=1.0, on=size)
    yield against_coupled(params, options, on=size)

    params = list(parameters(resnet50()).values())
    yield against_hand("L2", params, options, squares, l2=1.0, on=f"the {len(params)} tensors of a ResNet-50")
    params = [torch.randn(32, 32).requires_grad_() for _ in range(200)]
    yield against_hand("L2", params, options, squares, l2=1.0, on="200 tensors of 32 x 32")


def squares(p: Tensor) -> Tensor:
    return p.pow(2).sum()


def moduli(p: Tensor) -> Tensor:
    return p.abs().sum()


def against_hand(
    name: str,
    params: list[Tensor],
    options: Options,
    term: Callable[[Tensor], Tensor],
    *,
    on: str,
    target: float | None = None,
    **coefficients: float,
) -> Check:
    """Time by hand over time of `penalty`, each with backward into gradients that are not there yet."""
    return ratio(
        f"{name}, how many times as fast as the sum by hand, {on}",
        ("by hand", lambda: sum(term(p) for p in params).backward()),
        ("penalty", lambda: td.penalty(params, **coefficients).backward()),
        options,
        reset=lambda: forget_gradients(params),
        target=target,
        sense="at least",
    )


def against_coupled(params: list[Tensor], options: Options, *, on: str) -> Check:
    """Time of `penalty` over what coupled decay does: the same numbers into gradients that the loss has left."""
    gradients, weights = [torch.zeros_like(p) for p in params], [p.detach() for p in params]
    return ratio(
        f"L2, how many times the cost of adding wd·w to gradients that are there, {on}",
        ("penalty", lambda: td.penalty(params, l2=5e-5).backward()),
        ("coupled", lambda: torch._foreach_add_(gradients, weights, alpha=1e-4)),
        options,
        reset=lambda: forget_gradients(params),
    )


def forget_gradients(params: list[Tensor]) -> None:
    for p in params:
        p.grad = None


if __name__ == "__main__":
    main("penalty", measure)
