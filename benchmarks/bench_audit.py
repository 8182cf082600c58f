"""`td.audit` of a model with the 1,137 tensors of Llama 405B, and of one with 100,000, both on the meta device."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch
from torch import nn

import torchdecay as td
from paired import Check, Options, Spread, main, timed, undisturbed


class Block(nn.Module):
    """Nine tensors: attention and MLP without biases, and two norms, as in Llama."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(width), nn.RMSNorm(width)
        for name, out in (("q_proj", width), ("k_proj", heads * 128), ("v_proj", heads * 128), ("o_proj", width)):
            setattr(self, name, nn.Linear(width, out, bias=False))
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)


def llama(layers: int, *, width: int = 16_384, inner: int = 53_248, heads: int = 8) -> nn.Module:
    """An embedding, blocks, a norm and a head: 9 x layers + 3 tensors."""
    with torch.device("meta"):
        model = nn.Module()
        model.embed_tokens = nn.Embedding(128_256, width)
        model.layers = nn.ModuleList(Block(width, inner, heads) for _ in range(layers))
        model.norm = nn.RMSNorm(width)
        model.lm_head = nn.Linear(width, 128_256, bias=False)
    return model


def measure(options: Options) -> Iterator[Check]:
    run = td.Run(steps=10_000)
    cases = [("1,137 tensors of Llama 405B", llama(126), 1.0)]
    if not options.quick:
        cases.append(("100,000 tensors", llama(11_111, width=8, inner=16, heads=1), 5.0))
    for what, model, target in cases:
        for how, dtype in (("groups of td.param_groups", torch.float32), ("all decays, bf16", torch.bfloat16)):
            model = model.to(dtype)
            groups = td.param_groups(model, 0.1) if dtype is torch.float32 else model.parameters()
            optimizer = torch.optim.AdamW(groups, lr=1e-4, weight_decay=0.1)

            def work(optimizer: torch.optim.Optimizer = optimizer, model: nn.Module = model) -> object:
                return td.audit(optimizer, model=model, run=run)

            work()
            times = []
            for _ in range(options.repeats):
                gc.collect()
                times.append(undisturbed(lambda work=work: timed(work), options))
            yield Check(f"td.audit of {what}, {how}", Spread.of(times), unit="s", target=target)
            names = [timed(lambda model=model: list(model.named_parameters())) for _ in range(options.repeats)]
            ratio = Spread.of([min(times) / min(names)])
            # A thousand names are listed in 3 ms, and two findings about each of 100,000 are more than a look at them.
            is_plain = dtype is torch.float32 and model is cases[-1][1]
            yield Check(
                f"the same beside list(model.named_parameters()), best of {len(times)}",
                ratio,
                target=14.0 if is_plain and not options.quick else None,
            )


if __name__ == "__main__":
    main("audit", measure, repeats=5)
