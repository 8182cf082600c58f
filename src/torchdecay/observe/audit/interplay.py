"""WD4xx: what decay does together with everything else."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from torchdecay.observe.audit.case import Case, Group
from torchdecay.observe.audit.check import Hit, check
from torchdecay.optimizers.cards import base_card_of
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.selectors import scale_invariant


@check("WD401")
def coupled_adaptive(case: Case) -> Iterator[Hit]:
    """Coupled decay that goes through a preconditioner."""
    for group, member, decay in case.pulled:
        if _is_coupled(group, decay):
            yield Hit(group.where, f"{member.spoken} under {type(group.optimizer).__name__}", (member.name,))


@check("WD402", needs="model")
def orthogonal(case: Case) -> Iterator[Hit]:
    """Weights whose length their parametrization takes away."""
    held = {
        id(tensor)
        for module in case.modules
        for chain in getattr(module._modules.get("parametrizations"), "values", tuple)()
        if any(type(one).__name__ == "_Orthogonal" for one in chain)
        for tensor in chain.parameters(recurse=False)
    }
    for group, member, _ in case.pulled:
        if id(member.param) in held:
            yield Hit(group.where, f"orthogonal, and what is behind it decays by {member.spoken}", (member.name,))


@check("WD403")
def pulled_without_gradient(case: Case) -> Iterator[Hit]:
    """Coupled decay that an adaptive optimizer turns into steps of full size, because there is no gradient."""
    for group, member, decay in case.pulled:
        grad = member.param.grad
        if grad is None or grad.layout is not torch.strided or grad.is_meta or hasattr(grad, "full_tensor"):
            continue
        if _is_coupled(group, decay) and not bool(grad.any()):
            yield Hit(group.where, f"its gradient is zero, and it decays by {member.spoken}", (member.name,))


@check("WD404", needs="model")
def invariant(case: Case) -> Iterator[Hit]:
    """Weights that a norm follows, measured by the last gradient."""
    selector = scale_invariant()
    for group, member, _ in case.pulled:
        if member.about is not None and selector.picks(member.about):
            yield Hit(group.where, f"scale-invariant, and decays by {member.spoken}", (member.name,))


@check("WD405")
def sparse(case: Case) -> Iterator[Hit]:
    """Sparse gradients under a decay that no kernel can add."""
    sparse_tables = {
        id(module.weight)
        for module in case.modules
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse
    }
    for group, member, decay in case.pulled:
        grad = member.param.grad
        is_sparse = id(member.param) in sparse_tables or (grad is not None and grad.is_sparse)
        if is_sparse and (group.handle is None or decay.site is Site.GRADIENT):
            yield Hit(group.where, f"sparse gradient, and {member.spoken}", (member.name,))


def _is_coupled(group: Group, decay: Decay) -> bool:
    card = base_card_of(group.optimizer)
    return decay.site is Site.GRADIENT and card is not None and "adaptive" in card.traits
