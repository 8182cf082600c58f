"""What `verify` measured of optimizers of which no card says what their weight_decay means, as pulls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torchdecay.observe.pulls import Pulled
from torchdecay.observe.verify.result import GroupVerification, Verdict, Verification
from torchdecay.plans.decay import Decay, Scale, Site


def as_measured(
    pulls: Sequence[Sequence[Pulled]],
    names: Sequence[Sequence[str]],
    verified: Verification | None,
    number: int,
) -> list[list[Pulled]]:
    """The pulls of optimizer `number`, by group and parameter, those that nobody knows as they were measured."""
    groups = {one.index: one for one in (() if verified is None else verified) if one.optimizer_index == number}
    made: list[list[Pulled]] = []
    for index, (own, own_names) in enumerate(zip(pulls, names, strict=True)):
        group, shared = groups.get(index), dict[tuple[int, int], Pulled]()
        found = []
        for pulled, name in zip(own, own_names, strict=True):
            part = None if group is None else next((one for one in group.parts if name in one.names), None)
            if part is not None and group is not None and (id(pulled), id(part)) not in shared:
                shared[id(pulled), id(part)] = _measured(pulled, group, part)
            found.append(pulled if part is None else shared[id(pulled), id(part)])
        made.append(found)
    return made


def _measured(pulled: Pulled, group: GroupVerification, part: Verdict) -> Pulled:
    amount, lr = part.measured, group.lr
    if pulled.source != "group" or part.site is None or amount is None or not part.ok:
        return pulled
    if part.site is Site.GRADIENT:
        decay = Decay(coefficient=amount, site=Site.GRADIENT)
    elif part.lr_enters and lr:
        decay = Decay(coefficient=amount / lr, site=Site.BEFORE, scale=Scale.LR)
    else:
        decay = Decay(coefficient=amount, site=Site.BEFORE)
    return replace(pulled, decay=decay, spoken=f"{decay!r}, measured", source="measured")
