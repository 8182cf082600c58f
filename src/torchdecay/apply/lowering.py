"""How a plan will be carried out on an optimizer: per row native, hook or loss; exact or rounded; and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.routes import Place, Route, Via, check_part
from torchdecay.arguments import check_word
from torchdecay.errors import ApplyError
from torchdecay.optimizers.cards import native_of
from torchdecay.optimizers.wrappers import torch_optimizer
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.schedules import Constant
from torchdecay.plans.tree import Models, parameters_by_name
from torchdecay.records import collecting_later
from torchdecay.tables import Shown
from torchdecay.text import listed, nearest


@dataclass(frozen=True, kw_only=True)
class LoweringRow:
    """How one parameter's decay is carried out.

    Attributes:
        name: the parameter.
        group: index of its parameter group.
        decay: its Decay, or None.
        route: "native" (the optimizer's own weight_decay), "hook" (our pass around the step), "loss"
            (`handle.penalty`), or "none".
        exact: whether the pull's own arithmetic is that of the Decay's equation, to the last bit. It says nothing of
            the rest of the step: an optimizer that puts weights back, or rounds them, may undo what was pulled, which
            `torchdecay.verify` measures.
        why: the reason for the route, and what is rounded or different when not exact.
    """

    name: str
    group: int
    decay: Decay | None
    route: Route
    exact: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class GroupLowering:
    """How one parameter group is carried out.

    Attributes:
        index: which group.
        native: the Decay that is written into the group, None when there is nothing to write but 0.
        switch: the value that `decoupled_weight_decay` must have, None where the optimizer has no such key.
        is_fraction: whether a step removes the fraction lr·weight_decay of each weight, for what is written.
        hooked: rows carried out by hook, as (parameter, name, Decay).
        loss: rows carried out by a penalty, as (parameter, name, Decay).
        names: of each of its parameters; "" for one that the plan has no row for.
        replaces: the weight_decay that stood in the group.
    """

    index: int
    native: Decay | None
    switch: bool | None
    is_fraction: bool
    hooked: tuple[tuple[Tensor, str, Decay], ...] = field(repr=False)
    loss: tuple[tuple[Tensor, str, Decay], ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    replaces: Any = None

    @property
    def every_step(self) -> bool:
        """Whether what is written changes from step to step."""
        decay = self.native
        return decay is not None and (
            decay.schedule != Constant()
            or decay.scale is Scale.LR_SQUARED
            or (decay.scale is Scale.ONE and decay.site is Site.BEFORE)
        )


@dataclass(frozen=True)
class Lowering(Shown):
    """What `torchdecay.lower` found: one `LoweringRow` per parameter of the optimizer that the plan has.

    Attributes:
        rows: by parameter.
        groups: by parameter group.
    """

    rows: tuple[LoweringRow, ...]
    groups: tuple[GroupLowering, ...]

    @cached_property
    def _by_name(self) -> Mapping[str, LoweringRow]:
        return {row.name: row for row in self.rows}

    def __getitem__(self, name: str) -> LoweringRow:
        if name not in self._by_name:
            raise ApplyError(f'the lowering has no parameter "{name}".', fix=nearest(name, self._by_name))
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[LoweringRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        alike: dict[tuple[Any, ...], list[str]] = {}
        for row in self.rows:
            alike.setdefault((row.group, row.decay, row.route, row.exact, row.why), []).append(row.name)
        return "\n".join(
            f"group {group}: "
            + ("" if decay is None else f"{decay!r} by {route}, {'exact' if exact else 'not exact'}: ")
            + f"{why}  [{listed(names, most=3)}]"
            for (group, decay, route, exact, why), names in alike.items()
        )


def lower(
    plan: Plan,
    optimizer: Optimizer,
    *,
    model: nn.Module | Mapping[str, Tensor] | None = None,
    via: Via = "auto",
) -> Lowering:
    """Say how each row of a plan will be carried out on this optimizer; changes nothing.

    Native where it is the same number: what is written is weight_decay = c_t·λ_t/η_t, and the optimizer's own, fused
    kernel does the work. Decoupled: λ, once. Independent: λ/η_max, once. Scheduled and per-step: one float per step.
    A group whose rows differ is never split: it runs by hook.

    Args:
        plan: the plan.
        optimizer: the optimizer.
        model: the model, or names and tensors, needed when the optimizer's groups have no `param_names`.
        via: "hook" never uses the optimizer's own weight_decay.

    Raises:
        ApplyError: the optimizer can't carry a row out, or its parameters and the plan's do not fit.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> plan = td.plan(model, td.decoupled(0.1))
        >>> td.lower(plan, torch.optim.SGD(plan.param_groups(model), lr=0.1))["weight"].route
        'hook'
        >>> td.lower(plan, torch.optim.AdamW(plan.param_groups(model), lr=0.1))["weight"].route
        'native'
    """
    check_word(via, "via", ("auto", "hook"), error=ApplyError)
    optimizer = torch_optimizer(optimizer)
    groups, rows = [], []
    with collecting_later():
        named = name_parameters(plan, optimizer, model)
        for index, (group, members) in enumerate(zip(optimizer.param_groups, named, strict=True)):
            made, made_rows = _lower_group(optimizer, group, index, members, via)
            groups.append(made)
            rows += made_rows
        return Lowering(tuple(rows), tuple(groups))


def name_parameters(
    plan: Plan, optimizer: Optimizer, model: nn.Module | Mapping[str, Tensor] | None
) -> list[list[tuple[Tensor, str, Decay | None]]]:
    """For each group, its trainable parameters with the name and the decay that the plan has for them."""
    by_identity = None
    if isinstance(model, Models):
        model = model.whose(param for group in optimizer.param_groups for param in group["params"])
    if model is not None:
        named = parameters_by_name(model) if isinstance(model, nn.Module) else model
        by_identity = {id(named[name]): name for name in reversed(list(named))}
    made, seen = [], set()
    for index, group in enumerate(optimizer.param_groups):
        names = _names_of(group, index, by_identity)
        members = []
        for param, name in zip(group["params"], names, strict=True):
            if id(param) in seen:
                raise ApplyError(
                    f'group {index}: the parameter "{name}" is there twice.',
                    "torch only warns, and the weight would decay twice per step.",
                    "Give each parameter to the optimizer once; td.param_groups does.",
                )
            seen.add(id(param))
            if name in plan:
                members.append((param, name, plan[name].decay))
            elif param.requires_grad:
                raise ApplyError(
                    f'group {index}: the plan has no row for "{name}".',
                    "It was added since, was frozen when the plan was made, or belongs to another model.",
                    "Make the plan again from the model as it is now; on a running job: handle.update(plan). "
                    + nearest(name, (row.name for row in plan.rows)),
                )
        made.append(members)
    if not any(made):
        raise ApplyError("the optimizer has none of the plan's parameters.", fix="Plan the model that it trains.")
    return made


def _names_of(group: Mapping[str, Any], index: int, by_identity: Mapping[int, str] | None) -> Iterable[str]:
    if by_identity is not None:
        missing = [tuple(p.shape) for p in group["params"] if id(p) not in by_identity]
        if missing:
            raise ApplyError(
                f"group {index}: {len(missing)} parameters are not in the model; the first is of shape {missing[0]}.",
                "The model was re-created or wrapped (FSDP2 replaces parameters) after the optimizer was built; "
                "what it has moves nothing of this model.",
                "Build the optimizer from the model as it is now.",
            )
        return [by_identity[id(p)] for p in group["params"]]
    if "param_names" in group:
        names: list[str] = group["param_names"]
        return names
    raise ApplyError(
        f"group {index} has no param_names, so its parameters can't be found in the plan.",
        fix="Pass model=..., or build the optimizer from plan.param_groups(model).",
    )


def _lower_group(
    optimizer: Optimizer,
    group: Mapping[str, Any],
    index: int,
    members: list[tuple[Tensor, str, Decay | None]],
    via: Via,
) -> tuple[GroupLowering, list[LoweringRow]]:
    # Most rows share one decay, and the hash of each is worked out once.
    each = {id(decay): decay for _, _, decay in members}
    decays = tuple(dict.fromkeys(each.values()))
    place = Place(optimizer, group, index, native_of(optimizer, group), via, decays)
    # What does not turn on the single parameter is asked once, however many have the decay.
    ways = {decay: place.way(decay) for decay in decays}
    way_of = {key: ways[decay] for key, decay in each.items()}
    carried: dict[Route, list[tuple[Tensor, str, Decay]]] = {"native": [], "hook": [], "loss": []}
    rows = []
    for param, name, decay in members:
        way = way_of[id(decay)]
        exact, why = place.terms(param, way)
        check_part(param, name, way.carried)
        if way.carried is not None:
            carried[way.route].append((param, name, way.carried))
            if way.route == "hook":
                place.check_tensor(param, name, way.carried)
        rows.append(LoweringRow(name=name, group=index, decay=decay, route=way.route, exact=exact, why=why))
    native = next((way for way in ways.values() if way.route == "native"), None)
    named = {id(param): name for param, name, _ in members}
    made = GroupLowering(
        index=index,
        native=None if native is None else native.carried,
        switch=None if native is None else native.switch,
        is_fraction=native is not None and native.is_fraction,
        hooked=tuple(carried["hook"]),
        loss=tuple(carried["loss"]),
        names=tuple(named.get(id(param), "") for param in group["params"]),
        replaces=group.get("weight_decay"),
    )
    return made, rows
