"""What an attached plan costs: decay by hook against one fused pass, and lowered decay against the optimizer's own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

import torchdecay as td
from paired import Check, Options, main, ratio
from shapes import gpt2, num_elements, parameters, resnet50

LR, WD = 1e-3, 1e-3  # so weak that thousands of steps leave the weights ordinary numbers


class Still(Optimizer):
    """An optimizer whose own step does nothing, so that a step costs what its hooks cost."""

    def __init__(self, named: list[tuple[str, Tensor]]) -> None:
        super().__init__(named, {"lr": LR, "weight_decay": 0.0})

    def step(self, closure: None = None) -> None:
        pass


def with_gradients(params: dict[str, Tensor]) -> dict[str, Tensor]:
    for p in params.values():
        p.grad = torch.full_like(p, 1e-6)
    return params


def hook(on: str, params: dict[str, Tensor], options: Options, *, target: float | None = None) -> Check:
    """A step that only decays, by hook, over one `_foreach_mul_` over the same tensors."""
    optimizer = Still(list(params.items()))
    plan = td.plan(params, td.decoupled(WD), rules=td.policies.torch)
    weights = [p.detach() for p in params.values()]
    with td.attach(optimizer, plan, via="hook"):
        return ratio(
            f"decoupled L2 by hook over one _foreach_mul_, {on}",
            ("hook", optimizer.step),
            ("_foreach_mul_", lambda: torch._foreach_mul_(weights, 1 - LR * WD)),
            options,
            target=target,
        )


def lowered(on: str, params: dict[str, Tensor], options: Options, *, target: float | None = None, **how: bool) -> Check:
    """An AdamW step with an attached plan that is lowered to weight_decay, over the same step without a plan."""
    named = list(params.items())
    attached, plain = AdamW(named, lr=LR, weight_decay=0.0, **how), AdamW(named, lr=LR, weight_decay=WD, **how)
    with td.attach(attached, td.plan(params, td.decoupled(WD), rules=td.policies.torch)):
        check = ratio(
            f"AdamW({', '.join(how)}) with a lowered plan over its own weight_decay, {on}",
            ("lowered", attached.step),
            ("own", plain.step),
            options,
            target=target,
        )
        assert attached.param_groups[0]["weight_decay"] == WD
    return check


def measure(options: Options) -> Iterator[Check]:
    shapes = gpt2(width=192, depth=4) if options.quick else gpt2()
    params = with_gradients(parameters(shapes))
    on = f"{num_elements(shapes) / 1e6:.0f} M weights in {len(params)} tensors"
    yield hook(on, params, options, target=1.25)
    yield lowered(on, params, options, target=1.02, fused=True)
    params = with_gradients(parameters(resnet50()))
    on = f"the {len(params)} tensors of a ResNet-50"
    yield hook(on, params, options, target=1.25)
    yield lowered(on, params, options, target=1.02, fused=True)
    yield lowered(on, params, options, target=1.02, foreach=True)
    params = with_gradients(parameters({f"{i}.weight": (32, 32) for i in range(6)}))
    yield hook("6 tensors of 32 x 32, where the hook's own overhead is everything", params, options)
    yield lowered("6 tensors of 32 x 32", params, options, fused=True)


if __name__ == "__main__":
    main("hook", measure, repeats=31)
