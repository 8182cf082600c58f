"""`verify`: measure what each parameter group really does to its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from torchdecay.apply.handle import handle_of
from torchdecay.apply.ranks import check_in_place, meet
from torchdecay.observe.groups import float_of, name_all, optimizers_of
from torchdecay.observe.verify.expected import Expectation, expectations
from torchdecay.observe.verify.measure import measure, moving_without_gradient
from torchdecay.observe.verify.probe import Probe, StepFailed
from torchdecay.observe.verify.result import Fault, GroupVerification, Part, Verdict, Verification
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import ModelLike, names_of, one_model
from torchdecay.sharding import local
from torchdecay.text import dtype_name

_MOST_ALIKE = 256
"""Of parameters that should undergo the same, so many are measured; from first to last, evenly."""


def verify(
    optimizer: Any,
    *,
    plan: Plan | None = None,
    model: ModelLike = None,
    allow_hooks: bool = False,
) -> Verification:
    r"""Measure what an optimizer really does to its weights, and hold it against what it should do.

    The object itself takes steps, on small tensors that stand in for its parameters; afterwards data, gradients,
    optimizer state, group values, hooks, random number generators and an attached plan's counters are what they
    were, bit for bit. What the steps did is compared with the same steps without decay and with a pull carried out
    by hand, at one site after the other:

    $$\begin{aligned}
    \text{coupled}   &: g \leftarrow g + \lambda\theta \\
    \text{decoupled} &: \theta \leftarrow (1 - f)\,\theta, \text{ then } \theta \leftarrow \theta - u \\
    \text{after}     &: \theta \leftarrow \theta - u, \text{ then } \theta \leftarrow (1 - f)\,\theta
    \end{aligned}$$

    with gradient g, the optimizer's own update u, λ the part of a weight that is added to its gradient, and f = c·λ
    the part that is taken off per step. `torchdecay.inspect` reads what the groups say; this measures what happens.

    What it should do comes from the plan; without one from the native table and the groups' `weight_decay`, also
    for a class that derives from one of torch's; for any other class only what no optimizer means by its
    `weight_decay` is a fault: none at all, a multiple, the wrong sign.

    Args:
        optimizer: an optimizer, or several. Nothing else may use its model meanwhile. Where a plan is attached and
            weights are cut over processes, all of them have to call this.
        plan: what to hold it against; None takes the attached plan, if there is one.
        model: for names, where the groups have no `param_names`; several models in a list or dict.
        allow_hooks: whether step hooks that are not torchdecay's may run, and count as part of the optimizer.

    Returns:
        A `Verification`: one entry per group with `.ok`, `.site`, `.expected`, `.measured`, `.lr_enters`, `.why`,
        and `.parts` where parameters of a group differ; itself `.ok`.

    Raises:
        ApplyError: no optimizer, LBFGS, foreign hooks, a tensor type that can't be lent, or weights that sharding has
            replaced in the model; or other processes, which have parts of the weights, have not come in two minutes.
        PlanError: the plan does not fit.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=0.01)
        >>> checked = td.verify(optimizer)
        >>> checked.ok, checked[0].site, f"{checked[0].measured:.4f}"
        (True, <Site.BEFORE: 'before'>, '0.0010')
    """
    groups: list[GroupVerification] = []
    models = one_model(model)
    for number, one in enumerate(optimizers_of(optimizer, keep_steps=True)):
        groups += _verify(one, number, plan, models, allow_hooks)
    return Verification(tuple(groups))


def _verify(
    optimizer: Any, number: int, plan: Plan | None, model: nn.Module | None, allow_hooks: bool
) -> list[GroupVerification]:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    check_in_place(params)
    if handle_of(optimizer) is not None:
        # What a plan measures of the small tensors goes over the ranks too.
        meet("td.verify", params)
    lrs, broken = _learning_rates(optimizer)
    expected = expectations(optimizer, plan, model)
    names = name_all(optimizer, {} if model is None else names_of(model))
    probe = Probe(optimizer, only=_chosen(optimizer, expected), allow_hooks=allow_hooks)
    active = [
        slot.param.requires_grad and not expected[id(slot.param)].wrong and slot.group not in broken
        for slot in probe.slots
    ]
    verdicts: list[Verdict | None] = [None] * len(probe.slots)
    moves = [False] * len(probe.slots)
    failed = ""
    with probe:
        try:
            moves = moving_without_gradient(probe)
            verdicts = measure(probe, expected, active, lrs)
        except StepFailed as error:
            failed = f"{error}."
    made = []
    for index, group in enumerate(optimizer.param_groups):
        places = [i for i, slot in enumerate(probe.slots) if slot.group == index]
        own = {id(probe.slots[i].param): i for i in places}
        # Those that were not measured are spoken for by the first that should undergo the same.
        alike = {_alike(probe.slots[i].param, expected[id(probe.slots[i].param)]): i for i in reversed(places)}
        entries: list[tuple[Tensor, str, Verdict]] = []
        for param, name in zip(group["params"], names[index], strict=True):
            one = expected[id(param)]
            place = own.get(id(param), alike.get(_alike(param, one)))
            if one.wrong or index in broken:
                kind = "number" if index in broken else one.wrong_kind
                found = Verdict(fault=kind, why=f"{broken.get(index) or one.wrong}.")
            elif failed:
                found = Verdict(fault="failed", why=failed)
            elif id(param) in probe.obstacles or place is None:
                obstacle = probe.obstacles.get(id(param), "in another group too")
                fault: Fault = "" if obstacle == "empty" or not param.requires_grad else "unmeasured"
                found = Verdict(fault=fault, why=f"It is {obstacle}, so nothing can be measured.")
            elif not param.requires_grad and moves[place]:
                why = "It is frozen, and a step without gradient moves it."
                found = Verdict(expected=0.0, fault="frozen", why=why)
            elif not param.requires_grad:
                found = Verdict(expected=0.0, measured=0.0, why="Frozen.")
            else:
                found = verdicts[place] or Verdict(fault="unmeasured", why="It was not measured.")
            entries.append((param, name, found))
        made.append(
            GroupVerification(
                optimizer=type(optimizer).__name__,
                optimizer_index=number,
                index=index,
                lr=lrs[index],
                weight_decay=float_of(group.get("weight_decay")),
                moves_without_gradient=any(moves[i] for i in places),
                parts=_parts(entries),
            )
        )
    return made


def _learning_rates(optimizer: Any) -> tuple[list[float | None], dict[int, str]]:
    """Each group's learning rate, and why it can't be one for the groups where it can't."""
    lrs: list[float | None] = []
    broken: dict[int, str] = {}
    for index, group in enumerate(optimizer.param_groups):
        lr = float_of(group.get("lr"))
        if group.get("lr") is not None and (lr is None or not math.isfinite(lr) or lr < 0):
            broken[index] = f"lr is {group['lr']!r}"
            lr = None
        lrs.append(lr)
    return lrs, broken


def _chosen(optimizer: Any, expected: Mapping[int, Expectation]) -> set[int]:
    """Which parameters are measured: all, but of very many that should undergo the same an even choice."""
    alike: dict[Any, list[int]] = {}
    for index, group in enumerate(optimizer.param_groups):
        for param in group["params"]:
            alike.setdefault((index, *_alike(param, expected[id(param)])), []).append(id(param))
    chosen = set()
    for members in alike.values():
        last = len(members) - 1
        count = min(len(members), _MOST_ALIKE)
        chosen |= {members[round(k * last / max(count - 1, 1))] for k in range(count)}
    return chosen


def _alike(param: Tensor, one: Expectation) -> tuple[Any, ...]:
    part = local(param)
    dims = -1 if is_lazy(param) else param.dim()
    return (part.device, part.dtype, type(param), dims, param.requires_grad, one.key)


def _parts(entries: Sequence[tuple[Tensor, str, Verdict]]) -> tuple[Part, ...]:
    """Parameters with the same verdict together; numbers that print alike are the same."""
    merged: dict[tuple[Any, ...], list[tuple[Tensor, str, Verdict]]] = {}
    for param, name, found in entries:
        part = local(param)
        key = (part.dtype, part.device, found.site, found.expected_site, found.lr_enters, found.fault, *_rough(found))
        merged.setdefault(key, []).append((param, name, found))
    return tuple(_part(members) for members in merged.values())


def _rough(found: Verdict) -> tuple[str, str]:
    """The numbers, as far as a difference between two parameters means something."""
    expected = "?" if found.expected is None else f"{found.expected:.3g}"
    if found.ok or found.measured is None:
        return expected, ""
    return expected, f"{found.measured / found.expected:.1f}" if found.expected else f"{found.measured:.1g}"


def _part(members: Sequence[tuple[Tensor, str, Verdict]]) -> Part:
    param, _, found = members[0]
    measured = sorted(one.measured for _, _, one in members if one.measured is not None)
    middle = measured[len(measured) // 2] if measured else None
    return Part(
        **vars(replace(found, measured=middle)),
        names=tuple(name for _, name, _ in members),
        num_elements=sum(one.numel() for one, _, _ in members if not is_lazy(one)),
        dtype=dtype_name(local(param).dtype),
        device=str(local(param).device),
    )
