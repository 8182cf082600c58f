"""`load_optimizer`: an optimizer's checkpoint by parameter name, whatever the order or number of its groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.handle import handle_of
from torchdecay.errors import LoadError
from torchdecay.optimizers.cards import CARDS, SWITCH, has_trait
from torchdecay.plans.groups import MARK
from torchdecay.plans.names import canonical, canonical_keys
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import names_of
from torchdecay.text import listed

Winner = Literal["plan", "checkpoint", "equal"]
_NAMING = ("params", "param_names")
_ELEMENTWISE = frozenset(key for card in CARDS for key in card.state)
"""State that has the weight's shape; other entries are as the optimizer likes them."""


@dataclass(frozen=True)
class LoadReport:
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
    """One parameter of the checkpoint: its key in the state, its group's options and index."""

    name: str
    key: Any
    group: Mapping[str, Any]
    index: int


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
    wins. Checked before anything is changed. With a plan attached its counters, peaks and scalars follow their groups
    and parameters, and the handle's `on_load` decides.

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
            another weight_decay where they must be equal; or a winner other than "plan" beside an attached plan.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> saved = torch.optim.AdamW(td.param_groups(model, 0.1)).state_dict()
        >>> saved["param_groups"].reverse()
        >>> report = td.load_optimizer(torch.optim.AdamW(td.param_groups(model, 0.2)), saved, weight_decay="plan")
        >>> report.matched, report.weight_decay
        (('weight', 'bias'), ((0, 0.1, 0.2, 0.2),))
    """
    if weight_decay not in ("plan", "checkpoint", "equal"):
        raise LoadError(f"weight_decay is {weight_decay!r}.", fix='Write "plan", "checkpoint" or "equal".')
    if weight_decay != "plan" and handle_of(optimizer) is not None:
        raise LoadError(
            f"weight_decay={weight_decay!r}, but a plan is attached, which owns weight_decay.",
            fix=f"Say it there: td.attach(optimizer, plan, on_load={weight_decay!r}).",
        )
    saved = _read(state_dict, model, old_plan)
    current = optimizer.state_dict()
    here = _names_here(optimizer, model)
    known, renamed = _matched(saved, [name for names in here for name in names])
    if not known:
        raise LoadError(
            "the checkpoint has none of this optimizer's parameters.",
            f"It has {listed(one.name for one in saved)}; here are {listed(name for names in here for name in names)}.",
            "Pass model= to see through wrappers, and old_plan= for a checkpoint without names.",
        )
    if has_trait(optimizer, "reevaluating") and [one.name for one in saved] != [n for names in here for n in names]:
        raise LoadError(
            f"{type(optimizer).__name__} keeps one long vector over all its parameters, and here they are others.",
            "Other parameters, or another order of them, can't be told apart in it.",
            fix="Give it the parameters that the checkpoint has, in their order.",
        )
    state: dict[int, Any] = {}
    groups: list[dict[str, Any]] = []
    decays: list[tuple[int, Any, Any, Any]] = []
    options: list[tuple[int, str, tuple[Any, ...], Any]] = []
    for index, (packed, names, group) in enumerate(
        zip(current["param_groups"], here, optimizer.param_groups, strict=True)
    ):
        sources = [known[name] for name in names if name in known]
        for number, name, param in zip(packed["params"], names, group["params"], strict=True):
            if name in known and known[name].key in state_dict["state"]:
                kept = state_dict["state"][known[name].key]
                _require_shapes(name, kept, param)
                state[number] = kept
        merged, disagreements = _merge(packed, sources, weight_decay)
        options += [(index, key, values, value) for key, values, value in disagreements]
        merged["weight_decay"], difference = _decide(index, packed, sources, weight_decay)
        if "weight_decay" not in packed and merged["weight_decay"] is None:
            del merged["weight_decay"]
        decays += difference
        groups.append(merged)
    optimizer.load_state_dict(_with_plan({"state": state, "param_groups": groups}, state_dict, here, known))
    everyone = [name for names in here for name in names]
    # An attached plan has had its say meanwhile.
    decays = [(i, said, mine, optimizer.param_groups[i].get("weight_decay")) for i, said, mine, _ in decays]
    taken = {id(one) for one in known.values()}
    return LoadReport(
        matched=tuple(name for name in everyone if name in known),
        missing=tuple(name for name in everyone if name not in known),
        unused=tuple(one.name for one in saved if id(one) not in taken),
        renamed=renamed,
        weight_decay=tuple(decays),
        options=tuple(options),
    )


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
        _Saved(name, key, group, index)
        for index, (group, named) in enumerate(zip(groups, names, strict=True))
        for name, key in zip(named, group["params"], strict=True)
    ]


def _old_names(groups: Sequence[Mapping[str, Any]], model: nn.Module | None, old_plan: Plan | None) -> list[list[str]]:
    for index, group in enumerate(groups):
        if "param_names" in group and len(group["param_names"]) != len(group["params"]):
            raise LoadError(
                f"group {index} of the checkpoint has {len(group['params'])} parameters and "
                f"{len(group['param_names'])} names.",
                "Which name belongs to which parameter can't be told.",
                "The checkpoint was edited; take the one that optimizer.state_dict() gave.",
            )
    if all("param_names" in group for group in groups):
        return [list(group["param_names"]) for group in groups]
    if all(isinstance(key, str) for group in groups for key in group["params"]):
        return [list(group["params"]) for group in groups]
    if model is None:
        raise LoadError(
            "the checkpoint has no param_names, so its parameters are known by position only.",
            fix="Pass model=, and old_plan= if its groups came from a plan.",
        )
    if old_plan is not None:
        built = old_plan.param_groups(model)
        names = [list(group["param_names"]) for group in built]
        source = "old_plan makes"
    else:
        first = names_of(model)
        names = [[first[id(param)] for param in model.parameters()]]
        source = "model.parameters() makes"
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


def _matched(saved: Sequence[_Saved], here: Sequence[str]) -> tuple[dict[str, _Saved], tuple[tuple[str, str], ...]]:
    """Name here → saved parameter: by the name itself, else by the name without wrappers."""
    exact = {one.name: one for one in saved}
    short_saved = {new: exact[old] for old, new in canonical_keys(exact).items()}
    short_here = canonical_keys(here)
    known: dict[str, _Saved] = {}
    renamed = []
    for name in here:
        found = exact.get(name) or short_saved.get(short_here[name]) or short_saved.get(canonical(name))
        if found is not None:
            known[name] = found
            renamed += [(found.name, name)] if found.name != name else []
    return known, tuple(renamed)


def _merge(
    packed: Mapping[str, Any], sources: Sequence[_Saved], winner: Winner
) -> tuple[dict[str, Any], list[tuple[str, tuple[Any, ...], Any]]]:
    """The group's options from the checkpoint; its own where the checkpoint's groups disagree."""
    merged = dict(packed)
    disagreements = []
    groups = list({one.index: one.group for one in sources}.values())
    for key in dict.fromkeys(key for group in groups for key in group):
        if key in _NAMING or key == "weight_decay":
            continue
        values = [group[key] for group in groups if key in group]
        if key == SWITCH and winner != "checkpoint":
            if not all(_equal(value, packed.get(key)) for value in values):
                disagreements.append((key, tuple(values), packed.get(key)))
        elif key == MARK:
            # Where torch.distributed.checkpoint has dropped all else, the mark still has the counters.
            if str(packed.get(key)).startswith("attached") and str(values[0]).startswith("attached"):
                merged[key] = values[0]
        elif all(_equal(value, values[0]) for value in values):
            merged[key] = values[0]
        else:
            disagreements.append((key, tuple(values), packed.get(key)))
    return merged, disagreements


def _decide(
    index: int, packed: Mapping[str, Any], sources: Sequence[_Saved], winner: Winner
) -> tuple[Any, list[tuple[int, Any, Any, Any]]]:
    mine = packed.get("weight_decay")
    theirs = list({repr(one.group.get("weight_decay")): one.group.get("weight_decay") for one in sources}.values())
    if not theirs or (len(theirs) == 1 and _equal(theirs[0], mine)):
        return mine, []
    said = theirs[0] if len(theirs) == 1 else tuple(theirs)
    if winner == "equal":
        raise LoadError(
            f"group {index}: weight_decay is {said!r} in the checkpoint and {mine!r} here.",
            'weight_decay="equal" asks for the same.',
            'Write "plan" or "checkpoint" to say whose wins.',
        )
    if winner == "checkpoint" and len(theirs) > 1:
        raise LoadError(
            f"group {index}: its parameters had weight_decay {said!r} in the checkpoint, and a group has one only.",
            fix='Build the groups as they were then, or write weight_decay="plan".',
        )
    now = theirs[0] if winner == "checkpoint" else mine
    return now, [(index, said, mine, now)]


def _with_plan(
    made: dict[str, Any],
    state_dict: Mapping[str, Any],
    here: Sequence[Sequence[str]],
    known: Mapping[str, _Saved],
) -> dict[str, Any]:
    """What an attached plan left in the checkpoint, its groups put in the order of those here."""
    left = state_dict.get(MARK)
    if not isinstance(left, Mapping):
        return made
    origins = [next((known[name].index for name in names if name in known), None) for names in here]
    fresh = {"steps": 0, "max_lr": None}
    groups = [fresh if origin is None else left["groups"][origin] for origin in origins]
    return made | {MARK: {**left, "groups": groups}}


def _require_shapes(name: str, state: Mapping[str, Any], param: Tensor) -> None:
    for key, value in state.items():
        if key in _ELEMENTWISE and isinstance(value, Tensor) and value.shape != param.shape:
            raise LoadError(
                f'"{name}" is of shape {tuple(param.shape)}, its {key} in the checkpoint of {tuple(value.shape)}.',
                fix="Load the checkpoint of this model.",
            )


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return isinstance(left, Tensor) and isinstance(right, Tensor) and torch.equal(left, right)
    return bool(left == right)


__all__ = ["LoadReport", "load_optimizer"]
