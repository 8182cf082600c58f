"""Which parameters that decay belong to which named group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from torchdecay.errors import TaskError
from torchdecay.plans.forms.l2 import coupled
from torchdecay.plans.planning import plan as make_plan
from torchdecay.plans.rules import rule
from torchdecay.plans.selectors import as_selector
from torchdecay.text import listed, repr_quoted


def members_of(
    model: nn.Module, decaying: Iterable[str], groups: Mapping[str, Any] | None
) -> dict[str, tuple[str, ...]]:
    """Group → its parameters that decay; the first group, {name: selector}, that picks a parameter has it.

    Without groups it is the model's top-level modules that they go by.
    """
    names = list(decaying)
    if groups is None:
        found = {name: name.partition(".")[0] for name in names}
        keys = list(dict.fromkeys(found.values()))
    else:
        keys = list(groups)
        if not keys:
            raise TaskError("groups is empty.", fix='Write groups={"body": "0.*", "head": "*"}, or leave it out.')
        # Coefficients that tell which rule matched; nothing is carried out.
        rules = [rule(as_selector(selector), coupled(i)) for i, selector in enumerate(groups.values(), 1)]
        marked = make_plan(model, None, rules=rules)
        found = {row.name: keys[int(row.decay.coefficient) - 1] for row in marked.rows if row.decay is not None}
    lost = [name for name in names if name not in found]
    if lost:
        raise TaskError(
            f"{len(lost)} parameters that decay are in no group: {listed(lost)}.",
            "Each needs a coefficient.",
            'Add a last group for the rest: groups={..., "rest": "*"}.',
        )
    members = {key: tuple(name for name in names if found[name] == key) for key in keys}
    empty = [key for key, those in members.items() if not those]
    if empty:
        raise TaskError(
            f"the group {repr_quoted(empty[0])} has no parameter that decays.",
            "Earlier groups have what it picks, or the plan spares it.",
            "Correct its selector, or leave it out.",
        )
    return members
