"""WD4xx: what decay does together with everything else."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from torchdecay.observe.audit.case import Case, Hit, Member, cuts_apart, is_readable
from torchdecay.observe.audit.check import check
from torchdecay.observe.groups import as_number, decay_of
from torchdecay.optimizers.cards import base_card_of, card_of
from torchdecay.plans.decay import Site
from torchdecay.plans.selectors import scale_invariant
from torchdecay.plans.update_rules import Sphere


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


@check("WD403", reads=True)
def pulled_without_gradient(case: Case) -> Iterator[Hit]:
    """Coupled decay that an adaptive optimizer turns into steps of full size, because there is no gradient."""
    for member in case.pulled:
        grad = member.param.grad
        if grad is not None and is_readable(grad) and _is_coupled(member) and not bool(grad.any()):
            yield member.hit(f"its gradient is zero, and it decays by {member.pulled.means}")


@check("WD404", needs="model", reads=True)
def invariant(case: Case) -> Iterator[Hit]:
    """Weights that a norm follows, measured by the last gradient."""
    selector = scale_invariant()
    for member in case.pulled:
        if member.about is not None and not cuts_apart(member.param) and selector.picks(member.about):
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


@check("WD406")
def before_a_norm(case: Case) -> Iterator[Hit]:
    """Decay of the optimizer's own on weights whose norm is set after the step."""
    for group in case.groups:
        card = card_of(group.optimizer)
        key, asked = decay_of(group.optimizer, group.values)
        own = {key: asked} | ({} if card is None else {card.shrinks_by: group.values.get(card.shrinks_by)})
        said = ", ".join(f"{name}={number:g}" for name, value in own.items() if (number := as_number(value)))
        held = [member for member in group.members if member.decay and isinstance(member.decay.update, Sphere)]
        if said and held:
            yield Hit(group.where, f"{said}, and {held[0].decay!r} sets the norm", tuple(one.name for one in held))
        elif said and group.handle is None and _HOLDS_NORM.search(type(group.optimizer).__name__):
            yield group.hit(f"{said}, and {type(group.optimizer).__name__} sets the norm")


_HOLDS_NORM = re.compile(r"Hyperball|^(?:[A-Za-z]*Muon|[A-Za-z]*Adam)H$")
"""Names of optimizers that set the norm of weights in their step."""


def _is_coupled(member: Member) -> bool:
    card = base_card_of(member.group.optimizer)
    return member.pulled.site is Site.GRADIENT and card is not None and "adaptive" in card.traits
