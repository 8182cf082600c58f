"""What each parameter is for: from the module that owns it, its use there, shape, value, class and name.

`WITNESSES` are asked in their order; the first that knows decides, and what it saw is kept as evidence. Where none
knows, the role is `unknown`: spared, with a warning, never guessed.

The bias of a norm is of role norm. A parametrized tensor has the role of the tensor that it stands for. Values are
read last, and only to tell spared roles apart, so that training never changes who decays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from torchdecay.plans.roles import adapters, named
from torchdecay.plans.roles.place import Place, Verdict
from torchdecay.plans.roles.routing import routed
from torchdecay.plans.roles.torch_modules import parametrization, torch_module

EXACT = (parametrization, torch_module)
"""Witnesses that need no look at the source."""
WITNESSES: tuple[Callable[[Place], Verdict | None], ...] = (
    *EXACT,
    adapters.adapter,
    named.state_space,
    named.norm,
    named.logits,
    named.position,
    named.token,
    named.embedding,
    named.bias,
    named.weight,
    named.scale,
    named.lone_gain,
    named.hint,
    named.factor,
    named.scalar,
)


class Reading(NamedTuple):
    """What a parameter was found to be for: its role, the kind of weight, and the evidence, strongest first."""

    role: str
    kind: str
    evidence: tuple[str, ...]


def read(place: Place) -> Reading:
    """What the parameter at one place is for."""
    verdict = _first(place, exact=True)
    if verdict is None:
        place = place.looked_up()
        verdict = _first(place, exact=False)
    if verdict is None:
        verdict = Verdict("unknown", "", f"nothing speaks for a role of {place}, shape {place.shape}")
    role, kind, evidence = verdict.role, verdict.kind, [verdict.evidence]
    if role == "weight":
        role, kind = routed(place), adapters.refined_kind(place, verdict.kind)
    if place.part in ("direction", "original"):
        evidence.append(f"behind {', '.join(place.through) or 'a parametrization'}")
    if role != verdict.role:
        evidence.append(f"a {role} by where it stands")
    if kind != verdict.kind:
        evidence.append(f"{kind} by where it stands")
    return _kept(role, kind, tuple(evidence))


def _first(place: Place, *, exact: bool) -> Verdict | None:
    for witness in WITNESSES:
        if (witness in EXACT) is exact:
            verdict = witness(place)
            if verdict is not None:
                return verdict
    return None


# One value for all parameters of which the same is said.
_kept = lru_cache(maxsize=4096)(Reading)
