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
_PLAIN = {"Sequential", "ModuleList", "ModuleDict", "Module"}
_EMPTY = re.compile(
    r"Flatten|Unflatten|Identity|[A-Za-z]*Dropout\d?d?|Softmax|LogSoftmax|Hardtanh|Mish|Tanh|Sigmoid|Softplus|Upsample"
    r"|(Leaky)?ReLU6?|[A-Z]*ELU|GLU|SiLU|LogSigmoid|Hardswish|Pixel(Uns|S)huffle|(Adaptive)?(Max|Avg)Pool\dd|\w+Loss"
    r"|\w*Pad\dd|CosineSimilarity"
)
"""Layers without any parameter."""
_BIAS_ONLY = re.compile(r"Linear|Bilinear|Conv\w+|LSTM|GRU|RNN|MultiheadAttention")
"""Layers whose only parameters beside matrices are biases."""


@rule(
    "WD501",
    "warning",
    "all parameters decay, biases and norms too",
    why="Shrinking biases and norm scales weakens the layers and does not reduce overfitting.",
    fix="Give groups: td.param_groups(model, wd), or one list that decays and one with weight_decay=0.",
    example="""
        import torch

        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1)
    """,
    mends={
        "import torch\n": "import torch\nimport torchdecay as td\n",
        "model.parameters(), lr=3e-4, weight_decay=0.1": "td.param_groups(model, 0.1), lr=3e-4",
    },
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
    example="""
        from torch.optim import Muon

        optimizer = Muon(model.parameters(), lr=0.02, weight_decay=0.1)
    """,
    mends={
        "import Muon": "import AdamW, Muon",
        "optimizer = Muon(model.parameters(), lr=0.02, weight_decay=0.1)": (
            "matrices = [p for p in model.blocks.parameters() if p.ndim == 2]\n"
            'rest = [p for name, p in model.named_parameters() if p.ndim != 2 or not name.startswith("blocks.")]\n'
            "optimizers = [Muon(matrices, lr=0.02, weight_decay=0.1), AdamW(rest, lr=3e-4, weight_decay=0.0)]"
        ),
    },
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
    base = made.number(code) or 0.0
    if (model := whole(code, made.params)) is not None:
        yield model, base
    for group in groups_in(code, made.params):
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
    return isinstance(owner, ast.ClassDef) and _is_bare_class(code, owner)


def _is_bare_class(code: Code, owner: ast.ClassDef, seen: tuple[ast.ClassDef, ...] = ()) -> bool:
    """Whether a class of this file builds layers, and none that has a bias or a norm."""
    parts = [call for call in ast.walk(owner) if isinstance(call, ast.Call)]
    layers = [call for call in parts if code.dotted(call.func).startswith("torch.nn.")]
    own = [found for call in parts if isinstance(found := code.definition(call.func), ast.ClassDef)]
    own += [found for base in owner.bases if isinstance(found := code.definition(base), ast.ClassDef)]
    if any(_is_foreign_layer(code, call) for call in parts) or not (layers or own):
        return False
    inner = (one for one in own if one not in (*seen, owner))
    return all(_is_bare(code, call) for call in layers) and all(_is_bare_class(code, c, (*seen, owner)) for c in inner)


def _is_foreign_layer(code: Code, call: ast.Call) -> bool:
    """Whether this makes something of a class of another file, and keeps it: that may hold anything."""
    dotted = code.dotted(call.func)
    known = dotted.startswith("torch.") or "." not in dotted
    is_kept = isinstance(up := code.parents.get(call), ast.Assign) and isinstance(up.targets[0], ast.Attribute)
    return is_kept and not known and dotted.rpartition(".")[2][:1].isupper()


def _is_bare(code: Code, layer: ast.Call) -> bool:
    """Whether a layer has no parameter that should be spared."""
    home, _, name = code.dotted(layer.func).rpartition(".")
    if home.startswith("torch.nn.functional") or _EMPTY.fullmatch(name) or name in ("Embedding", "EmbeddingBag"):
        return True
    if name in _PLAIN:
        return all(not isinstance(one, ast.Call) or _is_bare(code, one) for one in layer.args)
    spare = keyword(layer, "bias") if _BIAS_ONLY.fullmatch(name) else None
    if name.endswith("Norm") or name[:-2].endswith("Norm"):
        spare = keyword(layer, "elementwise_affine") or keyword(layer, "affine")
    return isinstance(spare, ast.Constant) and spare.value is False
