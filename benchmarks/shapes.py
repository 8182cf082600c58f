"""Tensor shapes of known models, written down from their configurations, so that no model needs to be built."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Shape = tuple[int, ...]


def gpt2(*, width: int = 768, depth: int = 12, vocabulary: int = 50257, positions: int = 1024) -> dict[str, Shape]:
    """GPT-2, the 124 M model by default: 148 tensors, the output layer tied to the token embedding."""
    shapes: dict[str, Shape] = {"wte.weight": (vocabulary, width), "wpe.weight": (positions, width)}
    for i in range(depth):
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            shapes[f"h.{i}.{name}.weight"] = (inputs, outputs)
            shapes[f"h.{i}.{name}.bias"] = (outputs,)
        for name in ("ln_1", "ln_2"):
            shapes[f"h.{i}.{name}.weight"] = shapes[f"h.{i}.{name}.bias"] = (width,)
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (width,)
    return shapes


def resnet50(*, classes: int = 1000) -> dict[str, Shape]:
    """ResNet-50, 25.6 M parameters in 161 tensors, many of them small."""
    shapes: dict[str, Shape] = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,), "bn1.bias": (64,)}
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            at = f"layer{stage + 1}.{block}"
            convolutions = [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
            for i, (out, into, kernel) in enumerate(convolutions, start=1):
                shapes[f"{at}.conv{i}.weight"] = (out, into, kernel, kernel)
                shapes[f"{at}.bn{i}.weight"] = shapes[f"{at}.bn{i}.bias"] = (out,)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                shapes[f"{at}.downsample.1.weight"] = shapes[f"{at}.downsample.1.bias"] = (4 * width,)
            inputs = 4 * width
    shapes["fc.weight"], shapes["fc.bias"] = (classes, inputs), (classes,)
    return shapes


def num_elements(shapes: dict[str, Shape]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def parameters(shapes: dict[str, Shape], *, scale: float = 0.02, seed: int = 0) -> dict[str, Tensor]:
    """Random leaf tensors of these shapes that require gradients."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.empty(shape).normal_(0.0, scale, generator=generator).requires_grad_()
        for name, shape in shapes.items()
    }
