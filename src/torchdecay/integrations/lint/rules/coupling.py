"""What weight_decay means to the optimizer: WD502."""

from __future__ import annotations

from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.constants import number
from torchdecay.integrations.lint.optimizers import optimizers_made
from torchdecay.integrations.lint.parameters import groups_in
from torchdecay.integrations.lint.rule import Hit, rule


@rule(
    "WD502",
    "warning",
    "coupled L2 under an adaptive optimizer",
    why="The pull is divided by the size of the gradient: weights with large gradients hardly decay.",
    fix="Use AdamW, or for Adam, NAdam and RAdam decoupled_weight_decay=True; for apex's, adam_w_mode=True.",
    example="""
        from torch import optim

        optimizer = optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)
    """,
    mends={
        "import optim\n": "import optim\nimport torchdecay as td\n",
        "Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)": "AdamW(td.param_groups(model, 0.05), lr=1e-3)",
    },
)
def coupled(code: Code) -> Iterator[Hit]:
    """Adam and its kind with a weight_decay above 0, of their own or of a group."""
    for made in optimizers_made(code):
        if made.coupling(code) != "adaptive":
            continue
        decays = [made.number(code) or 0.0]
        decays += [number(code, one.items.get("weight_decay")) or 0.0 for one in groups_in(code, made.params)]
        if max(decays) > 0:
            yield Hit(made.call.func, f"{made.card.name} adds weight_decay={max(decays):g} to the gradient")
