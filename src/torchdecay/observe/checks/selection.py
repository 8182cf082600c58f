"""TD1xx: who decays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from torchdecay.observe.checks.base import Sighting, check
from torchdecay.observe.scene import Scene

_BLUNTED = ("bias", "norm", "scale", "scalar")
_TABLES = ("embedding", "position", "token", "state_space")


@check("TD101", needs="model")
def sensitive_parameters(scene: Scene) -> Iterator[Sighting]:
    """Biases, norms, scales and scalars that something pulls."""
    return _decaying(scene, _BLUNTED)


@check("TD102", needs="model")
def tables(scene: Scene) -> Iterator[Sighting]:
    """Embeddings, position tables, tokens and state-space parameters that something pulls."""
    return _decaying(scene, _TABLES)


def _decaying(scene: Scene, roles: tuple[str, ...]) -> Iterator[Sighting]:
    for group, member, decay in scene.pulled():
        if member.about is not None and member.about.role in roles and member.param.requires_grad:
            yield Sighting(group.where, f"role {member.about.role} decays by {decay!r}", (member.name,))


@check("TD103", needs="model")
def spared_weights(scene: Scene) -> Iterator[Sighting]:
    """Weights that nothing pulls while other weights are pulled."""
    if not any(member.about is not None and member.about.role == "weight" for _, member, _ in scene.pulled()):
        return
    for group in scene.groups:
        for member in group.members:
            about = member.about
            if member.decay is None and about is not None and about.role == "weight" and not about.exempt:
                yield Sighting(group.where, "a weight that nothing pulls", (member.name,))


@check("TD104", needs="model")
def forgotten(scene: Scene) -> Iterator[Sighting]:
    """Trainable parameters that no optimizer has."""
    held = {id(member.param) for group in scene.groups for member in group.members}
    for parameter in scene.parameters:
        if parameter.trainable and id(scene.tensors[parameter.name]) not in held:
            yield Sighting("model", "requires a gradient, and no optimizer has it", (parameter.name,))


@check("TD105", needs="model")
def strangers(scene: Scene) -> Iterator[Sighting]:
    """Parameters of an optimizer that the model does not have."""
    for group in scene.groups:
        for member in group.members:
            if member.about is None:
                shape = "x".join(map(str, member.param.shape)) or "scalar"
                yield Sighting(group.where, "not a parameter of this model", (f"{member.name} ({shape})",))


@check("TD106")
def twice(scene: Scene) -> Iterator[Sighting]:
    """Parameters that the optimizers have more than once."""
    counts = Counter(id(member.param) for group in scene.groups for member in group.members)
    seen = set()
    for group in scene.groups:
        for member in group.members:
            if counts[id(member.param)] > 1 and id(member.param) not in seen:
                seen.add(id(member.param))
                yield Sighting(group.where, f"there {counts[id(member.param)]} times", (member.name,))


@check("TD107", needs="model")
def tied(scene: Scene) -> Iterator[Sighting]:
    """Tied weights that decay though one of their uses is of a role that is spared."""
    for group, member, decay in scene.pulled():
        roles = set(member.about.roles) if member.about is not None else set()
        if len(roles) > 1 and "weight" in roles:
            assert member.about is not None
            uses = ", ".join(
                f"{name} is {role}" for name, role in zip(member.about.names, member.about.roles, strict=True)
            )
            yield Sighting(group.where, f"tied ({uses}), and decays by {decay!r}", (member.name,))


@check("TD108")
def frozen_but_moving(scene: Scene) -> Iterator[Sighting]:
    """Parameters that require no gradient, but still have one and are pulled natively."""
    for group in scene.groups:
        for member in group.members:
            if not member.param.requires_grad and member.param.grad is not None and group.handle is None:
                pulls = f", and decays by {member.decay!r}" if member.decay else ""
                yield Sighting(group.where, f"frozen with a gradient left{pulls}", (member.name,))


@check("TD109", needs="model")
def unknown_roles(scene: Scene) -> Iterator[Sighting]:
    """Parameters whose role could not be read."""
    for parameter in scene.parameters:
        if parameter.trainable and parameter.role == "unknown":
            yield Sighting("model", "role unknown", (parameter.name,))


@check("TD110", needs="model")
def idle_rows(scene: Scene) -> Iterator[Sighting]:
    """Embeddings that are pulled while the last backward pass left whole rows without a gradient."""
    for group, member, decay in scene.pulled():
        grad = member.param.grad
        if member.about is None or "embedding" not in (member.about.role, *member.about.roles):
            continue
        if grad is None or grad.is_sparse or grad.dim() < 2 or decay.mask is not None:
            continue
        idle = int((torch.count_nonzero(grad, dim=tuple(range(1, grad.dim()))) == 0).sum())
        if idle:
            yield Sighting(group.where, f"{idle} of {grad.shape[0]} rows idle, and decay by {decay!r}", (member.name,))
