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

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from torchdecay.plans.roles import named
from torchdecay.plans.roles.place import Place, Verdict
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


class Reading(NamedTuple):
    """What a parameter was found to be for: its role, the kind of weight, and the evidence, strongest first."""

    role: str
    kind: str
    evidence: tuple[str, ...]


def read(place: Place) -> Reading:
    """What the parameter at one place is for."""
    for witness in WITNESSES:
        verdict = witness(place)
        if verdict is not None:
            break
    else:
        verdict = Verdict("unknown", "", f"nothing speaks for a role of {place}, shape {place.shape}")
    evidence = [verdict.evidence]
    kind = named.refined_kind(place, verdict.kind) if verdict.role == "weight" else verdict.kind
    if place.part in ("direction", "original"):
        evidence.append(f"behind {', '.join(place.through) or 'a parametrization'}")
    if kind != verdict.kind:
        evidence.append(f"{kind} by where it stands")
    return _kept(verdict.role, kind, tuple(evidence))


# One value for all parameters of which the same is said.
_kept = lru_cache(maxsize=4096)(Reading)
