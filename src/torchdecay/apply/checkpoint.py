"""`load_optimizer`: an optimizer's checkpoint by parameter name, whatever the order or number of its groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.copies import remember
from torchdecay.apply.handle import handle_of
from torchdecay.apply.ledger import Entry, read, write
from torchdecay.apply.state import ELEMENTWISE, PAUSED, GroupState, check_class, initial_in, left_in
from torchdecay.arguments import check_word
from torchdecay.errors import LoadError
from torchdecay.optimizers.cards import SWITCH, card_of
from torchdecay.optimizers.wrappers import is_optimizer, unwrap
from torchdecay.plans.groups import MARK
from torchdecay.plans.names import canonical, canonical_keys
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import names_of
from torchdecay.sharding import beside
from torchdecay.tables import Shown
from torchdecay.text import listed

Winner = Literal["plan", "checkpoint", "equal"]
_NAMING = {"params", "param_names", MARK}


@dataclass(frozen=True)
class LoadReport(Shown):
    """What `torchdecay.load_optimizer` did.

    Attributes:
        matched: parameters whose state was taken from the checkpoint.
        missing: parameters that the checkpoint does not have; they start without state.
        unused: names of the checkpoint that the optimizer does not have.
        renamed: (name in the checkpoint, name here) where a wrapper made them differ.
        weight_decay: (group, in the checkpoint, before loading, now) where they differ.
        options: (group, key, in the checkpoint, kept) where groups that became one group disagree.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    weight_decay: tuple[tuple[int, Any, Any, Any], ...]
    options: tuple[tuple[int, str, tuple[Any, ...], Any], ...]

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} parameters matched by name"]
        if self.renamed:
            lines.append(
                f"renamed: {', '.join(f'{old} -> {new}' for old, new in self.renamed[:3])} ({len(self.renamed)})"
            )
        if self.missing:
            lines.append(f"without state, not in the checkpoint: {listed(self.missing)}")
        if self.unused:
            lines.append(f"in the checkpoint only: {listed(self.unused)}")
        for group, saved, before, now in self.weight_decay:
            lines.append(f"group {group}: weight_decay {saved!r} in the checkpoint, {before!r} here: {now!r} now")
        for group, key, saved, kept in self.options:
            lines.append(f"group {group}: {key} is {', '.join(map(repr, saved))} in the checkpoint: {kept!r} kept")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Saved:
    """One parameter of the checkpoint: its key in the state, its group's options and index, its place there."""

    name: str
    key: Any
    group: Mapping[str, Any]
    index: int
    place: int


@dataclass(frozen=True)
class _Match:
    """Which parameter of the checkpoint, `known`, is which of those here, group by group."""

    saved: Sequence[_Saved]
    here: Sequence[Sequence[str]]
    known: Mapping[str, _Saved]

    @property
    def names(self) -> list[str]:
        return [name for names in self.here for name in names]

    def entries(self, left: Mapping[str, Any]) -> list[list[Entry | None]]:
        """What a plan that was attached says of each parameter here, by group; None is unknown, [] says nothing."""
        if "plan" not in left:
            return []
        then, found = read(left["plan"]), [[self.known.get(name) for name in names] for names in self.here]
        return [[None if one is None else then[one.index][one.place] for one in ones] for ones in found]

    def sources(self, index: int) -> dict[int, Mapping[str, Any]]:
        """The groups of the checkpoint, by their places, that the parameters of one group come from."""
        return {one.index: one.group for name in self.here[index] if (one := self.known.get(name)) is not None}


def load_optimizer(
    optimizer: Optimizer,
    state_dict: Mapping[str, Any],
    *,
    weight_decay: Winner = "plan",
    model: nn.Module | None = None,
    old_plan: Plan | None = None,
) -> LoadReport:
    """Load an optimizer's state by parameter name.

    torch's own `load_state_dict` goes by position: groups in another order swap their moments without a word, another
    number of groups is refused, and the saved weight_decay replaces the one you configured. Here every parameter gets
    its own state back; learning rates and the other options come from the checkpoint; and you say whose weight_decay
    wins. Checked before anything is changed. A plan's counters, peaks and scalars follow their groups and parameters,
    and are kept for `torchdecay.attach` where none is attached yet; where one is, the handle's `on_load` decides.

    Args:
        optimizer: the optimizer to load into, with or without an attached plan.
        state_dict: what `optimizer.state_dict()` gave then, or torch.distributed.checkpoint's, keyed by name.
        weight_decay: "plan": what the groups have now; "checkpoint": what they had then; "equal": differing is an
            error. The key `decoupled_weight_decay` goes with it.
        model: the model, where the groups have no `param_names`, and to see through wrappers.
        old_plan: the plan whose `param_groups` the saved optimizer was built from, for a checkpoint without names;
            without it such a checkpoint is taken to be of `model.parameters()`, in order.

    Returns:
        A `LoadReport`: matched, missing, unused, renamed, and every weight_decay that differed.

    Raises:
        LoadError: not an optimizer's checkpoint; no names to go by; no name in common; tensors of another shape;
            another weight_decay where they must be equal; a winner other than "plan" beside an attached plan; or
            "checkpoint" where a plan had written 0 over it.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> saved = torch.optim.AdamW(td.param_groups(model, 0.1)).state_dict()
        >>> saved["param_groups"].reverse()
        >>> report = td.load_optimizer(torch.optim.AdamW(td.param_groups(model, 0.2)), saved, weight_decay="plan")
        >>> report.matched, report.weight_decay
        (('weight', 'bias'), ((0, 0.1, 0.2, 0.2),))
    """
    check_word(weight_decay, "weight_decay", ("plan", "checkpoint", "equal"), error=LoadError)
    optimizer = unwrap(optimizer)
    if not is_optimizer(optimizer):
        raise LoadError(
            f"got a {type(optimizer).__name__} where an optimizer belongs.",
            "Each optimizer has its own state dict.",
            "Load each on its own: td.load_optimizer(optimizer, state_dict).",
        )
    handle = handle_of(optimizer)
    if weight_decay != "plan" and handle is not None:
        raise LoadError(
            f"weight_decay={weight_decay!r}, but a plan is attached, which owns weight_decay.",
            fix=f"Say it there: td.attach(optimizer, plan, on_load={weight_decay!r}).",
        )
    if handle is not None and model is None:
        model = handle.model
    match = _matched(_read(state_dict, model, old_plan), _names_here(optimizer, model))
    _check(optimizer, match)
    before = optimizer.state_dict()["param_groups"]
    options = [_options(match.sources(index).values()) for index in range(len(before))]
    groups = [_merged(index, *pair, weight_decay) for index, pair in enumerate(zip(before, options, strict=True))]
    loaded = {"state": _state(optimizer, match, state_dict["state"], before), "param_groups": groups}
    left = left_in(state_dict)
    if handle is None:
        for group in groups:
            # What another load left there is not of this checkpoint.
            if str(group.get(MARK)).startswith("attached"):
                del group[MARK]
    if left is not None and weight_decay == "checkpoint":
        _check_written(match, left, groups)
    if left is not None:
        names = _names_now(match, are_planned=model is not None or handle is not None)
        moved = _moved(match, left, names, {} if handle is None else handle.state_dict())
        # No hooks are here without a handle: the groups are not to be marked as if some were lost.
        loaded |= {MARK: moved} if handle is not None else {}
    optimizer.load_state_dict(loaded)
    if left is not None and handle is None:
        remember(optimizer, moved)
    return _report(optimizer, match, before, options)


def _read(state_dict: Mapping[str, Any], model: nn.Module | None, old_plan: Plan | None) -> list[_Saved]:
    groups = state_dict.get("param_groups") if isinstance(state_dict, Mapping) else None
    if (
        not isinstance(groups, Sequence)
        or not all(isinstance(group, Mapping) and isinstance(group.get("params"), Sequence) for group in groups)
        or not isinstance(state_dict.get("state"), Mapping)
    ):
        raise LoadError(
            "this is no optimizer's state dict: it has no state and param_groups.",
            fix="Give what optimizer.state_dict() returned.",
        )
    names = _old_names(groups, model, old_plan)
    return [
        _Saved(name, key, group, index, place)
        for index, (group, named) in enumerate(zip(groups, names, strict=True))
        for place, (name, key) in enumerate(zip(named, group["params"], strict=True))
    ]


def _old_names(
    groups: Sequence[Mapping[str, Any]], model: nn.Module | None, old_plan: Plan | None
) -> Sequence[Sequence[str]]:
    for index, group in enumerate(groups):
        if "param_names" in group and len(group["param_names"]) != len(group["params"]):
            raise LoadError(
                f"group {index} of the checkpoint has {len(group['params'])} parameters and "
                f"{len(group['param_names'])} names.",
                "Which name belongs to which parameter can't be told.",
                "The checkpoint was edited; take the one that optimizer.state_dict() gave.",
            )
    if all("param_names" in group for group in groups):
        return [group["param_names"] for group in groups]
    if all(isinstance(key, str) for group in groups for key in group["params"]):
        return [group["params"] for group in groups]
    if model is None:
        raise LoadError(
            "the checkpoint has no param_names, so its parameters are known by position only.",
            fix="Pass model=, and old_plan= if its groups came from a plan.",
        )
    if old_plan is not None:
        names, source = [group["param_names"] for group in old_plan.param_groups(model)], "old_plan makes"
    else:
        first = names_of(model)
        names, source = [[first[id(param)] for param in model.parameters()]], "model.parameters() makes"
    sizes, wanted = [len(one) for one in names], [len(group["params"]) for group in groups]
    if sizes != wanted:
        raise LoadError(
            f"the checkpoint has groups of {wanted} parameters, {source} groups of {sizes}.",
            "Without names a parameter is known by its place alone, and the places differ.",
            "Pass the plan that the saved optimizer's groups were built from as old_plan=.",
        )
    return names


def _names_here(optimizer: Optimizer, model: nn.Module | None) -> list[list[str]]:
    first = {} if model is None else names_of(model)
    made = []
    for index, group in enumerate(optimizer.param_groups):
        if all(id(param) in first for param in group["params"]):
            made.append([first[id(param)] for param in group["params"]])
        elif "param_names" in group:
            made.append(list(group["param_names"]))
        else:
            raise LoadError(
                f"group {index} of the optimizer has no param_names.",
                fix="Pass model=, or build the optimizer from plan.param_groups(model).",
            )
    return made


def _matched(saved: Sequence[_Saved], here: Sequence[Sequence[str]]) -> _Match:
    """By the name itself, else by the name without wrappers."""
    exact = {one.name: one for one in saved}
    short_saved = {new: exact[old] for old, new in canonical_keys(exact).items()}
    short_here = canonical_keys([name for names in here for name in names])
    found = {n: exact.get(n) or short_saved.get(s) or short_saved.get(canonical(n)) for n, s in short_here.items()}
    return _Match(saved, here, {name: one for name, one in found.items() if one is not None})


def _check(optimizer: Optimizer, match: _Match) -> None:
    """Refuse what can't be the state of this optimizer."""
    if not match.known:
        raise LoadError(
            "the checkpoint has none of this optimizer's parameters.",
            f"It has {listed(one.name for one in match.saved)}; here are {listed(match.names)}.",
            "Pass model= to see through wrappers, and old_plan= for a checkpoint without names.",
        )
    name, card = type(optimizer).__name__, card_of(optimizer)
    if card is not None and "reevaluating" in card.traits and [one.name for one in match.saved] != match.names:
        raise LoadError(
            f"{name} keeps one long vector over all its parameters, and here they are others.",
            "Other parameters, or another order of them, can't be told apart in it.",
            "Give it the parameters that the checkpoint has, in their order.",
        )
    check_class(optimizer, [one.group for one in match.known.values()], [])


def _state(
    optimizer: Optimizer, match: _Match, saved: Mapping[Any, Any], packed: Sequence[Mapping[str, Any]]
) -> dict[int, Any]:
    """The state of each parameter that the checkpoint knows, under its number here."""
    numbers = [number for group in packed for number in group["params"]]
    params = [param for group in optimizer.param_groups for param in group["params"]]
    found = {}
    for name, number, param in zip(match.names, numbers, params, strict=True):
        state = saved.get(match.known[name].key) if name in match.known else None
        if state is None:
            continue
        check_class(optimizer, [], [state])
        for key, value in state.items():
            if key in ELEMENTWISE and isinstance(value, Tensor) and value.shape != param.shape:
                raise LoadError(
                    f'"{name}" is of shape {tuple(param.shape)}, its {key} in the checkpoint of {tuple(value.shape)}.',
                    fix="Load the checkpoint of this model.",
                )
        # A checkpoint of whole weights for shards of them, or of another mesh: each takes its own part.
        found[number] = {
            key: beside(value, param) if isinstance(value, Tensor) and value.shape == param.shape else value
            for key, value in state.items()
        }
    return found


def _names_now(match: _Match, *, are_planned: bool) -> dict[str, str | None]:
    """What a plan called each parameter of the checkpoint → what one here calls it; None for those that are not here.

    Args:
        match: which parameter is which.
        are_planned: whether the names here are those of a model or a plan, and not what an optimizer was given.
    """
    before, here = canonical_keys(one.name for one in match.saved), canonical_keys(match.names)
    now = {id(one): name for name, one in match.known.items()}
    short: dict[str, str | None] = {}
    whole: dict[str, str | None] = {}
    for one in match.saved:
        name = now.get(id(one))
        if name == one.name:
            # Nobody can tell whether the plan saw through a wrapper, but it does so still.
            short[before[name]], whole[name] = before[name], name
        else:
            short[before[one.name]] = whole[one.name] = name if name is None or are_planned else here[name]
    return short | whole


def _renamed(numbers: Mapping[str, Any], names: Mapping[str, str | None]) -> dict[str, Any]:
    """Nested numbers by parameter, under its name of now; without those of parameters that are not here."""
    found = {}
    for key, value in numbers.items():
        if isinstance(value, Mapping) and key not in names:
            found[key] = _renamed(value, names)
        elif (name := names.get(key, key)) is not None:
            found[name] = value
    return found


def _moved(
    match: _Match, left: Mapping[str, Any], names: Mapping[str, str | None], mine: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What an attached plan left in the checkpoint, for the groups that are here.

    Args:
        match: which parameter is which.
        left: what it left.
        names: what it called each parameter → what one here calls it.
        mine: where pulls lead now, by name: what is new here begins there.
    """
    groups = [[left["groups"][place] for place in match.sources(index)] for index in range(len(match.here))]
    counted = [_counted(index, sources) for index, sources in enumerate(groups)]
    plan = {"plan": write(match.entries(left))} if "plan" in left else {}
    paused = [name for one in left["paused"] if (name := names.get(one)) is not None]
    scalars = _renamed(left["scalars"], names)
    moved = {**left, "groups": counted, "names": [None] * len(counted), "paused": paused, "scalars": scalars} | plan
    if saved := initial_in(left):
        held = {name: tensor for name, tensor in mine.items() if name.removeprefix(PAUSED) not in match.known}
        for key, tensor in saved.items():
            bare = key.removeprefix(PAUSED)
            if (name := names.get(bare)) is not None:
                held[key.removesuffix(bare) + name] = tensor
        moved["initial"] = {"keys": {name: name for name in held}, "held": held}
    return moved


def _check_written(match: _Match, left: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a weight_decay of 0 that a plan wrote over what decayed otherwise."""
    for index, (group, own) in enumerate(zip(groups, match.entries(left), strict=False)):
        found = next((one.decay for one in own if one is not None and one.decay is not None), None)
        if not group.get("weight_decay") and found is not None:
            raise LoadError(
                f"group {index}: weight_decay is 0 in the checkpoint because a plan carried {found!r} out.",
                "That 0 is no number of yours, and without the plan nothing would decay.",
                'Attach the plan first, or write weight_decay="plan" to keep what the groups have here.',
            )


def _options(sources: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The different values of each option in some groups."""
    found: dict[str, list[Any]] = {}
    for group in sources:
        for key, value in group.items():
            if key not in _NAMING and not any(_equal(value, one) for one in found.setdefault(key, [])):
                found[key].append(value)
    return found


def _merged(index: int, packed: Mapping[str, Any], options: Mapping[str, list[Any]], winner: Winner) -> dict[str, Any]:
    """The group's options from the checkpoint; its own where the checkpoint's groups disagree."""
    merged = dict(packed)
    for key, values in options.items():
        if key != "weight_decay":
            if len(values) == 1 and (key != SWITCH or winner == "checkpoint"):
                merged[key] = values[0]
            continue
        said = _one(values)
        if winner == "equal" and (len(values) > 1 or not _equal(said, packed.get(key))):
            raise LoadError(
                f"group {index}: weight_decay is {said!r} in the checkpoint and {packed.get(key)!r} here.",
                'weight_decay="equal" asks for the same.',
                'Write "plan" or "checkpoint" to say whose wins.',
            )
        if winner == "checkpoint" and len(values) > 1:
            raise LoadError(
                f"group {index}: its parameters had weight_decay {said!r} in the checkpoint, and a group has one only.",
                fix='Build the groups as they were then, or write weight_decay="plan".',
            )
        if winner != "plan":
            merged[key] = said
    return merged


def _counted(index: int, sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a group remembers that was these groups."""
    steps, peaks = {one["steps"] for one in sources}, {one["max_lr"] for one in sources} - {None}
    if len(steps) > 1:
        raise LoadError(
            f"group {index}: its parameters had taken {' and '.join(map(str, sorted(steps)))} steps.",
            "A group has one count, by which schedules go.",
            "Build the groups as they were when the checkpoint was written.",
        )
    return GroupState(next(iter(steps), 0), peaks.pop() if len(peaks) == 1 else None).to_dict()


def _report(
    optimizer: Optimizer, match: _Match, before: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, list[Any]]]
) -> LoadReport:
    """What has come of it, an attached plan having had its say."""
    differing = [
        (index, key, values, packed.get(key), optimizer.param_groups[index].get(key))
        for index, (packed, options) in enumerate(zip(before, found, strict=True))
        for key, values in options.items()
        if len(values) > 1 or not _equal(values[0], packed.get(key))
    ]
    taken = {id(one) for one in match.known.values()}
    return LoadReport(
        matched=tuple(name for name in match.names if name in match.known),
        missing=tuple(name for name in match.names if name not in match.known),
        unused=tuple(one.name for one in match.saved if id(one) not in taken),
        renamed=tuple((one.name, name) for name, one in match.known.items() if one.name != name),
        weight_decay=tuple(
            (index, _one(values), mine, now) for index, key, values, mine, now in differing if key == "weight_decay"
        ),
        options=tuple(
            (index, key, tuple(values), mine)
            for index, key, values, mine, now in differing
            if key != "weight_decay" and _equal(now, mine)
        ),
    )


def _one(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return isinstance(left, Tensor) and isinstance(right, Tensor) and torch.equal(left, right)
    return bool(left == right)
