"""What gets all parameters of a model: WD501, WD511."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.constants import keyword, number
from torchdecay.integrations.lint.optimizers import Made, optimizers_made
from torchdecay.integrations.lint.parameters import groups_in, whole
from torchdecay.integrations.lint.rule import Hit, rule

_ADAPTERS = re.compile(r"get_peft_model|lora", re.IGNORECASE)
_PLAIN = {"Sequential", "ModuleList", "ModuleDict", "Flatten", "Identity", "Dropout", "Dropout2d", "Softmax", "Module"}
_ACTIVATIONS = {"ReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "ELU", "LeakyReLU", "MaxPool2d", "AvgPool2d", "Unflatten"}


@rule(
    "WD501",
    "warning",
    "all parameters decay, biases and norms too",
    why="Shrinking biases and norm scales weakens the layers and does not reduce overfitting.",
    fix="Give groups: td.param_groups(model, wd), or one list that decays and one with weight_decay=0.",
    bad="""
        import torch

        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1)
    """,
    good="""
        import torch
        import torchdecay as td

        optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=3e-4)
    """,
)
def everything(code: Code) -> Iterator[Hit]:
    """Whole models at a weight_decay above 0; for SGD, where that is common practice, a note."""
    if _ADAPTERS.search(code.text):
        # What trains then are matrices alone, as a rule.
        return
    for made in optimizers_made(code):
        if made.card.name == "Muon":
            continue
        for model, decay in _wholes(code, made):
            if decay > 0 and not _has_nothing_to_spare(code, model):
                said = f"{made.card.name} gets all of {ast.unparse(model)}.parameters() with {made.spoken_decay(code)}"
                if decay != made.decay(code):
                    who = f"a group of {made.card.name} has all of {ast.unparse(model)}.parameters()"
                    said = f"{who}, and weight_decay={decay:g}"
                yield Hit(made.call.func, said, "info" if made.card.coupling == "coupled" else None)
                break


@rule(
    "WD511",
    "error",
    "Muon gets every parameter",
    why="Muon is for matrices inside a network: it orthogonalizes their updates. torch's refuses anything else.",
    fix="Give it the hidden matrices, and AdamW the rest: td.split(model, wd) makes both.",
    bad="""
        from torch.optim import Muon

        optimizer = Muon(model.parameters(), lr=0.02, weight_decay=0.1)
    """,
    good="""
        from torch.optim import AdamW, Muon

        matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
        rest = [p for name, p in model.named_parameters() if p.ndim != 2 or not name.startswith("blocks.")]
        optimizers = [Muon(matrices, lr=0.02, weight_decay=0.1), AdamW(rest, lr=3e-4, weight_decay=0.0)]
    """,
)
def muon(code: Code) -> Iterator[Hit]:
    """Muon over a whole model."""
    for made in optimizers_made(code):
        if made.card.name == "Muon":
            for model, _ in _wholes(code, made):
                if not _has_nothing_to_spare(code, model):
                    yield Hit(made.call.func, f"Muon gets all of {ast.unparse(model)}.parameters()")
                    break


def _wholes(code: Code, made: Made) -> Iterator[tuple[ast.expr, float]]:
    """The models that an optimizer gets whole, with their weight_decay where that can be read (else 0)."""
    base = made.decay(code)
    base = float(base) if isinstance(base, int | float) else 0.0
    if (model := whole(code, made.params)) is not None:
        yield model, base
    for group in groups_in(code, made.params) or ():
        own = base
        if "weight_decay" in group.items or group.is_open:
            own = number(code, group.items.get("weight_decay")) or 0.0
        if (model := whole(code, group.items["params"])) is not None:
            yield model, own


def _has_nothing_to_spare(code: Code, model: ast.expr) -> bool:
    """Whether a model is built in this file of layers without biases and norms alone."""
    made = code.value(model)
    owner: ast.AST | None = code.class_of(model) if isinstance(made, ast.Name) and made.id == "self" else None
    if isinstance(made, ast.Call):
        owner = code.definition(made.func)
        if owner is None:
            return code.dotted(made.func).startswith("torch.nn.") and _is_bare(code, made)
    if not isinstance(owner, ast.ClassDef):
        return False
    layers = [
        call
        for call in ast.walk(owner)
        if isinstance(call, ast.Call) and code.dotted(call.func).startswith("torch.nn.")
    ]
    return bool(layers) and all(_is_bare(code, call) for call in layers)


def _is_bare(code: Code, layer: ast.Call) -> bool:
    """Whether a layer has no parameter that should be spared."""
    home, _, name = code.dotted(layer.func).rpartition(".")
    if home.startswith("torch.nn.functional") or name in _ACTIVATIONS:
        return True
    if name in _PLAIN:
        return all(not isinstance(one, ast.Call) or _is_bare(code, one) for one in layer.args)
    bias = keyword(layer, "bias")
    bare = isinstance(bias, ast.Constant) and bias.value is False
    return bare and (name == "Linear" or name.startswith("Conv"))
