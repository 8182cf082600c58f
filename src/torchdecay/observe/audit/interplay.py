"""WD4xx: what decay does together with everything else."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchdecay.observe.audit.case import Case, Hit, Member, is_readable
from torchdecay.observe.audit.check import check
from torchdecay.optimizers.cards import base_card_of
from torchdecay.plans.decay import Site
from torchdecay.plans.selectors import scale_invariant


@check("WD401")
def coupled_adaptive(case: Case) -> Iterator[Hit]:
    """Coupled decay that goes through a preconditioner."""
    for member in case.pulled:
        if _is_coupled(member):
            yield member.hit(f"{member.pulled.means} under {type(member.group.optimizer).__name__}")


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
    for member in case.pulled:
        if id(member.param) in held:
            yield member.hit(f"orthogonal, and what is behind it decays by {member.pulled.means}")


@check("WD403")
def pulled_without_gradient(case: Case) -> Iterator[Hit]:
    """Coupled decay that an adaptive optimizer turns into steps of full size, because there is no gradient."""
    for member in case.pulled:
        grad = member.param.grad
        if grad is not None and is_readable(grad) and _is_coupled(member) and not bool(grad.any()):
            yield member.hit(f"its gradient is zero, and it decays by {member.pulled.means}")


@check("WD404", needs="model")
def invariant(case: Case) -> Iterator[Hit]:
    """Weights that a norm follows, measured by the last gradient."""
    selector = scale_invariant()
    for member in case.pulled:
        if member.about is not None and selector.picks(member.about):
            yield member.hit(f"scale-invariant, and decays by {member.pulled.means}")


@check("WD405")
def sparse(case: Case) -> Iterator[Hit]:
    """Sparse gradients under a decay that no kernel can add."""
    sparse_tables = {
        id(module.weight)
        for module in case.modules
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse
    }
    for member in case.pulled:
        grad = member.param.grad
        is_sparse = id(member.param) in sparse_tables or (grad is not None and grad.is_sparse)
        if is_sparse and (member.group.handle is None or member.pulled.site is Site.GRADIENT):
            yield member.hit(f"sparse gradient, and {member.pulled.means}")


def _is_coupled(member: Member) -> bool:
    card = base_card_of(member.group.optimizer)
    return member.pulled.site is Site.GRADIENT and card is not None and "adaptive" in card.traits
