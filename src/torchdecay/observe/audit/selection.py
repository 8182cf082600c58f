"""WD1xx: who decays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from torchdecay.observe.audit.case import Case, Hit, is_readable
from torchdecay.observe.audit.check import check
from torchdecay.plans.controllers import TouchedRows

_BLUNTED = ("bias", "norm", "scale", "scalar")
_TABLES = {"embedding", "position", "token", "state_space"}


@check("WD101", needs="model")
def sensitive_parameters(case: Case) -> Iterator[Hit]:
    """Biases, norms, scales and scalars that something pulls, and what the model itself wants spared."""
    for member in case.pulled:
        about = member.about
        if about is None or not about.trainable:
            continue
        if about.exempt:
            yield member.hit(f"decays by {member.pulled.means}, though the model asks for none: {about.exempt}")
        elif about.role in _BLUNTED:
            yield member.hit(f"role {about.role} decays by {member.pulled.means}")


@check("WD102", needs="model")
def tables(case: Case) -> Iterator[Hit]:
    """Embeddings, position tables, tokens and state-space parameters that something pulls."""
    for member in case.pulled:
        about = member.about
        # A tied one is told of by WD107.
        if about is not None and about.trainable and not about.exempt and set(about.roles) <= _TABLES:
            yield member.hit(f"role {about.role} decays by {member.pulled.means}")


@check("WD103", needs="model")
def spared_weights(case: Case) -> Iterator[Hit]:
    """Weights that nothing pulls while other weights are pulled."""
    if not any(member.about is not None and member.about.role == "weight" for member in case.pulled):
        return
    for member in case.members:
        about = member.about
        if member.decay is not None or about is None or about.exempt or not about.trainable:
            continue
        # A weight tied to an embedding is spared for the embedding's sake.
        if set(about.roles) == {"weight"}:
            yield member.hit("a weight that nothing pulls")


@check("WD104", needs="model")
def forgotten(case: Case) -> Iterator[Hit]:
    """Trainable parameters that no optimizer has."""
    held = {id(member.param) for member in case.members}
    for parameter in case.parameters:
        if parameter.trainable and id(parameter.tensor) not in held:
            yield Hit("model", "requires a gradient, and no optimizer has it", (parameter.name,))


@check("WD105", needs="model")
def strangers(case: Case) -> Iterator[Hit]:
    """Parameters of optimizers that the model does not have: an error, unless all of the model's are trained too."""
    held = {member.name for member in case.members if member.about is not None}
    low = Counter(tuple(one.shape) for one in case.parameters if one.dtype in ("bfloat16", "float16"))
    # A loss or another model may have some; of weights in low precision there may be copies in float32.
    copies = Counter(tuple(member.param.shape) for member in case.members if member.param.dtype is torch.float32)
    meant = all(one.name in held or not one.trainable for one in case.parameters) or (low and copies == low)
    for member in case.members:
        if member.about is None:
            shape = "x".join(map(str, member.param.shape)) or "scalar"
            names = (f"{member.name} ({shape})",)
            yield Hit(member.group.where, "not a parameter of this model", names, "info" if meant else None)


@check("WD106")
def twice(case: Case) -> Iterator[Hit]:
    """Parameters that the optimizers have more than once."""
    counts = Counter(id(member.param) for member in case.members)
    for member in {id(member.param): member for member in reversed(case.members)}.values():
        if counts[id(member.param)] > 1:
            yield member.hit(f"there {counts[id(member.param)]} times")


@check("WD107", needs="model")
def tied(case: Case) -> Iterator[Hit]:
    """Tied weights that decay though one of their uses is of a role that is spared."""
    for member in case.pulled:
        about = member.about
        if about is not None and "weight" in about.roles and set(about.roles) != {"weight"}:
            uses = ", ".join(f"{name} is {role}" for name, role in zip(about.names, about.roles, strict=True))
            yield member.hit(f"tied ({uses}), and decays by {member.pulled.means}")


@check("WD108")
def frozen_but_moving(case: Case) -> Iterator[Hit]:
    """Parameters that require no gradient, but still have one: optimizers ask for the gradient only."""
    for member in case.members:
        if not member.param.requires_grad and member.param.grad is not None:
            pulls = f", and decays by {member.pulled.means}" if member.decay else ""
            yield member.hit(f"frozen with a gradient left{pulls}")


@check("WD109", needs="model")
def unknown_roles(case: Case) -> Iterator[Hit]:
    """Parameters whose role could not be read."""
    for parameter in case.parameters:
        if parameter.trainable and parameter.role == "unknown":
            yield Hit("model", "role unknown", (parameter.name,))


@check("WD110", needs="model")
def idle_rows(case: Case) -> Iterator[Hit]:
    """Embeddings that are pulled while the last backward pass left whole rows without a gradient."""
    for member in case.pulled:
        grad = member.param.grad
        if member.about is None or "embedding" not in (member.about.role, *member.about.roles):
            continue
        if grad is None or not is_readable(grad) or grad.dim() < 2:
            continue
        assert member.decay is not None
        if member.decay.mask is not None or isinstance(member.decay.gate, TouchedRows):
            continue
        idle = int((torch.count_nonzero(grad, dim=tuple(range(1, grad.dim()))) == 0).sum())
        if idle:
            yield member.hit(f"{idle} of {grad.shape[0]} rows idle, and decay by {member.pulled.means}")
