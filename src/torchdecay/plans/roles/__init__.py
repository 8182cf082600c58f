"""What each parameter is for: from the module that owns it, its use there, shape, value, class and name.

Witnesses are asked in order; the first that knows decides, and what it saw is kept as evidence. Where none
knows, the role is `unknown`: spared, with a warning, never guessed.

    parametrization   a weight norm's length; a tensor made from several others
    torch_module      the owner is a torch.nn module: known exactly
    adapter           LoRA, DoRA and their like
    state_space       A_log, D, dt_bias
    norm … scale      custom modules: use in the source first, then class and name with the shape
    lone_gain         the only vector of a module, still all ones or zeros
    scalar            one number

The bias of a norm is of role norm. A parametrized tensor has the role of the tensor that it stands for. Values are
read last, and only to tell spared roles apart, so that training never changes who decays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torchdecay.plans.parameters import KINDS
from torchdecay.plans.roles import named
from torchdecay.plans.roles.place import Place, Verdict, place_at, places_of
from torchdecay.plans.roles.torch_modules import parametrization, torch_module

WITNESSES: tuple[Callable[[Place], Verdict | None], ...] = (
    parametrization,
    torch_module,
    named.adapter,
    named.state_space,
    named.norm,
    named.position,
    named.token,
    named.embedding,
    named.bias,
    named.weight,
    named.scale,
    named.lone_gain,
    named.scalar,
)

MOST_SPARED = (
    "embedding",
    "position",
    "token",
    "norm",
    "bias",
    "scale",
    "state_space",
    "scalar",
    "unknown",
    "weight",
)
"""Which role a tied parameter gets when its uses disagree: the first of these that any use has."""


Decision = tuple[str, str, tuple[str, ...]]


def decide(place: Place) -> Decision:
    """(role, kind, evidence) of a parameter at one place."""
    for witness in WITNESSES:
        verdict = witness(place)
        if verdict is not None:
            break
    else:
        verdict = Verdict("unknown", "", f"nothing speaks for a role of {place}, shape {place.shape}")
    evidence = [verdict.evidence]
    if place.part in ("direction", "original"):
        evidence.append(f"behind {', '.join(place.through) or 'a parametrization'}")
    if verdict.role != "weight":
        return verdict.role, "", tuple(evidence)
    kind = named.refined_kind(place, verdict.kind)
    if kind != verdict.kind:
        evidence.append(f"{kind} by where it stands")
    return "weight", kind, tuple(evidence)


def combine(names: Sequence[str], decisions: Sequence[Decision]) -> Decision:
    """One decision from those at each name: the most spared role wins, whatever the order of the names."""
    found = {role for role, _, _ in decisions}
    role = next(role for role in MOST_SPARED if role in found)
    kinds = {kind for one, kind, _ in decisions if one == role}
    evidence = dict.fromkeys(line for one, _, lines in decisions if one == role for line in lines)
    if len(found) > 1:
        uses = (f"{name} ({one})" for name, (one, _, _) in zip(names, decisions, strict=True))
        evidence["tied: " + ", ".join(uses)] = None
    return role, max(kinds, key=KINDS.index) if role == "weight" else "", tuple(evidence)


__all__ = ["MOST_SPARED", "WITNESSES", "Place", "Verdict", "combine", "decide", "place_at", "places_of"]
