"""A model's parameters on two sides: hidden matrices for Muon and its like, the rest for AdamW."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from torchdecay.errors import PlanError
from torchdecay.plans.census import census
from torchdecay.plans.decay import Decay
from torchdecay.plans.parameters import WEIGHTS, Parameter
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import decide
from torchdecay.plans.policies import STANDARD
from torchdecay.plans.rules import DEFAULT, Times
from torchdecay.plans.selectors import as_selectors
from torchdecay.plans.tree import as_module

HEADS = ("lm_head", "head", "classifier", "unembed", "embed_out")
"""What output layers are called, wherever they stand."""
TOP_HEADS = (*HEADS, "fc", "output", "score")
"""What they are called at the top of a model; further down these words mean other things."""


@dataclass(frozen=True)
class Split:
    """A plan for a whole model and its parameter groups on two sides. Made by `torchdecay.split`.

    Attributes:
        plan: one row per trainable parameter, with the side in its reason; attach it to each of the two optimizers.
        matrices: parameter groups of the hidden matrices.
        others: parameter groups of all the rest.
    """

    plan: Plan
    matrices: list[dict[str, Any]] = field(repr=False)
    others: list[dict[str, Any]] = field(repr=False)


def split(
    model: nn.Module,
    decay: Decay | float | None,
    *,
    others: Decay | Times | float | None = DEFAULT,
    heads: Any = None,
    rules: Any = STANDARD,
    names: bool = True,
    **options: Any,
) -> Split:
    r"""Split a model between an optimizer for hidden matrices and one for the rest, each side with its own decay.

    Muon steps along an orthogonalized momentum, θ ← θ − ηλθ − η·UVᵀ with the singular vectors U, V of the momentum;
    that is meant for matrices between hidden layers. Embeddings, output layers, biases, norms, kernels and stacks of
    experts belong to AdamW. Every trainable parameter is on exactly one side; a tied output layer is its embedding.

    With Muon's `adjust_lr_fn="match_rms_adamw"` its steps are as long as AdamW's, so that one learning rate and one
    weight decay fit both sides.

    Args:
        model: the model to train; frozen parameters are on no side.
        decay: of the hidden matrices: a Decay, or a number for the optimizer's own weight_decay.
        others: of what decays among the rest; the same when left out.
        heads: the output layers, as selectors. By default what is called so (lm_head, classifier, ...), or the last
            matrix of the model where nothing is; `heads=()` for none.
        rules: who decays on both sides; `torchdecay.STANDARD` or any rules.
        names: False leaves `param_names` out, as in `Plan.param_groups`, whose `keep=` may be given too.
        options: keys for every group of both sides; those of one side belong in its optimizer's constructor.

    Returns:
        A `Split` with `.matrices` and `.others`, lists of parameter groups, and `.plan`.

    Raises:
        PlanError: one side has no parameter, or heads or rules match nothing.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 9))
        >>> split = td.split(model, 0.1, others=0.01)
        >>> muon = torch.optim.Muon(split.matrices, lr=1e-3, adjust_lr_fn="match_rms_adamw")
        >>> adamw = torch.optim.AdamW(split.others, lr=1e-3)
        >>> [(group["param_names"], group["weight_decay"]) for group in muon.param_groups]
        [(['1.weight'], 0.1)]
        >>> [(group["param_names"], group["weight_decay"]) for group in adamw.param_groups]
        [(['0.weight', '1.bias', '2.bias'], 0.0), (['2.weight'], 0.01)]

    Reference: Muon is Scalable for LLM Training, arXiv 2502.16982.
    """
    everyone = census(as_module(model))
    why_other = _why_other(everyone, heads)
    made = decide(everyone, decay, rules, "spare")
    rest = made if others == DEFAULT else decide(everyone, others, rules, "spare")
    rows = []
    for mine, theirs in zip(made.rows, rest.rows, strict=True):
        row, side = (theirs, "others, ") if mine.name in why_other else (mine, "matrices")
        reason = f"{row.reason}; side {side}{why_other.get(mine.name, '')}"
        rows.append(dataclasses.replace(row, reason=reason))
    hidden = {row.name for row in rows if row.name not in why_other}
    for empty, who in ((not hidden, "hidden matrices"), (len(hidden) == len(rows), "other parameters")):
        if empty:
            raise PlanError(
                f"the model has no {who}, so there is nothing to split.",
                fix="Use one optimizer with td.param_groups(model, ...), or say heads= to choose the output layers.",
            )
    plan = dataclasses.replace(made, rows=tuple(rows))
    groups = plan.param_groups(model, **options)
    sides = hidden, {row.name for row in rows} - hidden
    return Split(plan, *(_those(groups, side, names=names) for side in sides))


def _why_other(everyone: Sequence[Parameter], heads: Any) -> dict[str, str]:
    """Of each parameter that is no hidden matrix, what it is instead."""
    why = {
        one.name: f"role {one.role}" if one.role not in WEIGHTS else f"{len(one.shape)}-D"
        for one in everyone
        if one.role not in WEIGHTS or len(one.shape) != 2
    }
    matrices = [one for one in everyone if one.name not in why]
    if heads is None:
        found, said = [one for one in matrices if _is_called_head(one)], "an output layer by its name"
        if not any(_is_called_head(one) or {"embedding", "weight"} <= {one.role, *one.roles} for one in everyone):
            found, said = matrices[-1:], "the last matrix, taken for the output layer"
    else:
        chosen = as_selectors(heads)
        for selector in chosen:
            selector.check(everyone, optional=False)
            if not any(selector.picks(one) for one in everyone):
                raise PlanError(f"heads: {selector!r} matches no parameter.", selector.hint(everyone))
        found, said = [one for one in matrices if any(c.picks(one) for c in chosen)], "an output layer, as heads= says"
    return why | {one.name: said for one in found}


def _is_called_head(parameter: Parameter) -> bool:
    paths = [name.removesuffix(".weight").split(".") for name in parameter.names]
    return any(path[-1] in (HEADS if len(path) > 1 else TOP_HEADS) for path in paths)


def _those(groups: Sequence[dict[str, Any]], side: set[str], *, names: bool) -> list[dict[str, Any]]:
    made = []
    for group in groups:
        kept = [i for i, name in enumerate(group["param_names"]) if name in side]
        if kept:
            keys = ("params", "param_names") if names else ("params",)
            rest = {key: value for key, value in group.items() if key not in ("params", "param_names")}
            made.append({key: [group[key][i] for i in kept] for key in keys} | rest)
    return made
