"""What an attached plan leaves in an optimizer's state dict, and what is read back from it.

All of it stands under one key beside "state" and "param_groups". Checkpoint formats that keep only these two, as
torch.distributed.checkpoint does, still carry each group's mark: so a mark holds all that is of its group.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.bindings import digest
from torchdecay.apply.ledger import Entry, Ledger, read
from torchdecay.apply.work import Pull
from torchdecay.errors import ApplyError, LoadError
from torchdecay.optimizers.cards import CARDS, SWITCH, card_of, torch_names
from torchdecay.plans.decay import Decay
from torchdecay.plans.diff import PlanDiff
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.references import Average, Bound, Initial, Reference, Tensors
from torchdecay.sharding import beside
from torchdecay.text import listed, nearest, repr_quoted

OnLoad = Literal["plan", "checkpoint", "equal"]
ELEMENTWISE = frozenset(key for card in CARDS for key in card.state)
"""State that has the weight's shape; other entries are as the optimizer likes them."""
_OF_MANY = {"lr", "weight_decay", SWITCH, "maximize", "foreach", "fused", "capturable", "differentiable"}
"""Options of which older versions of torch lack some, and which say nothing of the class."""
VERSION = 1
_SHARDED = "of shards"
PAUSED = "paused/"
"""Before the names of parameters that were pulled toward where they began, and are no more, for now."""
_LOST = "Its format keeps only the state and the groups of an optimizer."


@dataclass
class GroupState:
    """What one group remembers: steps really taken, its own peak learning rate once that is known, and one outgrown."""

    steps: int = 0
    max_lr: float | None = None
    outgrown: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint: an outgrown peak only where there is one."""
        return {key: value for key, value in asdict(self).items() if key != "outgrown" or value is not None}


class References:
    """The tensors that pulls lead toward, by parameter name, of the parameters that are `named`."""

    def __init__(self, pulls: Sequence[Pull], named: Mapping[str, Tensor]) -> None:
        self._pulls = [pull for pull in pulls if pull.decay.reference is not None]
        self._named = named
        self._digest: tuple[list[tuple[int, int]], str] | None = None
        self.are_given = False
        """Whether they were loaded for themselves, and win over those of a checkpoint."""
        self._were_loaded = False
        self._made = dict(self._stand(Initial))
        # Beginnings of parameters that are pulled there no more, for when they are again; with the parameters, since a
        # name may become another's.
        self._paused: dict[str, tuple[Tensor, Tensor]] = {}
        self._lost: set[str] = set()

    def initial(self) -> dict[str, Tensor]:
        """Those that only this run knows: "initial" ones, in a pause too, and averages; no copies."""
        return self._of(Initial, Average) | {PAUSED + name: self._paused[name][1] for name in sorted(self._paused)}

    @property
    def paused(self) -> set[str]:
        """Parameters that are not pulled toward where they began, and may be again."""
        return set(self._paused) | self._lost

    def lose(self, paused: Iterable[str]) -> None:
        """Remember of which parameters that are paused no beginning came along."""
        self._lost = set(paused) - set(self._paused)

    def lacking(self) -> set[str]:
        """Parameters of which the reference has nothing."""
        return {one.name for pull in self._pulls for one in pull.targets if one.held is None}

    def digest(self, *, over_ranks: bool = False) -> str:
        """SHA-256 of those that only memory holds, or "": a file has a hash in the plan.

        Args:
            over_ranks: whether it must be the same on each rank: of parts that differ it is then `_SHARDED`.
        """
        held = self._of(Initial, Average, Tensors, Bound)
        if over_ranks and any(hasattr(tensor, "device_mesh") for tensor in held.values()):
            return _SHARDED
        # Averages move, and torch.distributed.checkpoint loads into the very tensors.
        stand = self._stand(Initial, Average, Tensors, Bound)
        if self._digest is None or self._digest[0] != stand:
            self._digest = stand, digest([held[name] for name in sorted(held)]) if held else ""
        return self._digest[1]

    @property
    def are_loaded(self) -> bool:
        """Whether the initial ones came from the run that is resumed."""
        written = any(now > self._made.get(one, now) for one, now in self._stand(Initial))
        return self.are_given or self._were_loaded or written

    def agree(self, saved: str) -> bool:
        """Whether a digest is that of these; where it can't tell, whether these were loaded."""
        if _SHARDED in (saved, self.digest(over_ranks=True)):
            # Of parts there is no hash that another mesh would have; those that are not of this run were bound again.
            return self.are_loaded or not self.initial()
        return saved == self.digest()

    def check(self, state: Mapping[str, Tensor]) -> None:
        """Refuse what are not the initial ones, by name and shape.

        Raises:
            LoadError: a name is missing or unknown, or a shape differs.
        """
        mine = self._of(Initial, Average)
        for name, tensor in state.items():
            param = self._named.get(name.removeprefix(PAUSED))
            # One that the optimizer no longer has may be among those that are paused.
            fits = name.startswith(PAUSED) and (param is None or param.shape == tensor.shape)
            if name not in mine and not fits:
                raise LoadError(f'"{name}" has no "initial" reference here.', fix=nearest(name, mine))
        for name, tensor in mine.items():
            if name not in state or state[name].shape != tensor.shape:
                found = f"of shape {tuple(state[name].shape)}" if name in state else "missing"
                raise LoadError(
                    f'the reference of "{name}", of shape {tuple(tensor.shape)}, is {found}.',
                    "Of what is new here the checkpoint has no beginning.",
                    "Let it begin where it is: handle.load_state_dict(handle.state_dict() | saved), with what "
                    "handle.state_dict() gave then, before td.load_optimizer(...).",
                )

    def load(self, state: Mapping[str, Tensor], *, given: bool) -> None:
        """Overwrite the initial ones, with those of a checkpoint or with what was `given` for itself."""
        _overwrite(self._of(Initial, Average), state)
        for name, param in self._named.items():
            if PAUSED + name in state:
                self._paused[name] = param, state[PAUSED + name].to(param.device, copy=True)
                self._lost.discard(name)
        self.are_given = self.are_given or given

    def inherit(self, other: References) -> None:
        """Take over those of the same kind: where a run began is not where it went.

        Raises:
            ApplyError: a parameter has another shape by now, or it is not known where it began.
        """
        if lost := sorted(other._lost & set(self._of(Initial))):
            raise ApplyError(
                f'{listed(lost)} would be pulled toward "initial" again, and where the run began did not come along.',
                "The weights of now are not where it began.",
                "Call handle.load_state_dict(...) with what handle.state_dict() gave when the checkpoint was written, "
                "then handle.update(plan); or attach with save_references=True before it is written.",
            )
        self._lost = set(other._lost)
        here = {one.name: one.param for pull in self._pulls for one in pull.targets}
        paused = {name: began for name, (param, began) in other._paused.items() if here.get(name) is param}
        for kind in (Initial, Average):
            mine, theirs = self._of(kind), (paused if kind is Initial else {}) | other._of(kind)
            for name, tensor in mine.items():
                if name in theirs and theirs[name].shape != tensor.shape:
                    raise ApplyError(
                        f"{repr_quoted(name)} is of shape {tuple(tensor.shape)} now, and what it is pulled toward of "
                        f"shape {tuple(theirs[name].shape)}.",
                        "Of what was added to it no run has a beginning.",
                        "Call handle.remove() and torchdecay.attach(...) again: the run then begins where it is now.",
                    )
            _overwrite(mine, theirs)
        known, held = other._of(Initial), self._of(Initial)
        kept = {
            one.name: (one.param, known[one.name]) for pull in other._pulls for one in pull.targets if one.name in known
        }
        self._paused |= {name: pair for name, pair in (other._paused | kept).items() if name not in held}
        self.are_given, self._were_loaded, self._made = other.are_given, other.are_loaded, dict(self._stand(Initial))

    def _stand(self, *kinds: type[Reference]) -> list[tuple[int, int]]:
        """Which tensors they are, and how often they, or the parts that are here, were written to."""
        held = self._of(*kinds).values()
        return [(id(one), getattr(one, "_local_tensor", one)._version) for one in held]

    def _of(self, *kinds: type[Reference]) -> dict[str, Tensor]:
        return {
            one.name: one.reference
            for pull in self._pulls
            if isinstance(pull.decay.reference, kinds)
            for one in pull.targets
            if one.reference is not None
        }


def _overwrite(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    for name, tensor in mine.items():
        if name in theirs and theirs[name].shape == tensor.shape:
            tensor.copy_(beside(theirs[name], tensor))


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint says about decay."""

    groups: Sequence[GroupState]
    scalars: Mapping[str, Any]
    plan: Plan
    references: Mapping[str, Tensor]
    paused: Sequence[str]


def mark_of(plan: Plan) -> str:
    """The string that says, in a live group, which plan is attached."""
    return f"attached: {plan.fingerprint}"


def initial_in(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The references that an optimizer's state dict holds, by name; none where it holds none."""
    kept = state.get(MARK, state).get("initial")
    return {} if not isinstance(kept, Mapping) else {name: kept["held"][key] for name, key in kept["keys"].items()}


def left_in(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an attached plan left in a state dict, be it in the groups' marks alone; None where there was no plan."""
    left: dict[str, Any] | None = state.get(MARK)
    if left is None:
        marks = [str(group.get(MARK, "")).partition("; ") for group in state["param_groups"]]
        found = [{"fingerprint": who.removeprefix("attached: ")} | json.loads(rest) for who, _, rest in marks if rest]
        if not found:
            return None
        if len(found) < len(marks) or len({one["fingerprint"] for one in found}) > 1:
            raise LoadError(
                "some groups of the checkpoint were under a plan, others under none or another.",
                "Its groups are not those of one optimizer as they were saved.",
                "Give what optimizer.state_dict() returned, or load it by name: td.load_optimizer(...).",
            )
        lists = {key: [one[key][0] for one in found] for key in ("groups", "names")}
        lists["rows"] = [one["rows"] for one in found]
        paused = [name for one in found for name in one["paused"]]
        left = found[0] | lists | {"scalars": _joined([one["scalars"] for one in found]), "paused": paused}
    if left.get("version") != VERSION:
        raise LoadError(
            f"the checkpoint's decay state is of version {left.get('version')!r}, this one reads {VERSION}.",
            fix="Upgrade torchdecay.",
        )
    return left


def _rows_in(left: Mapping[str, Any], ledger: Ledger) -> tuple[list[list[Entry | None]], bool]:
    """What a checkpoint says of each parameter, by group; and whether sorted by name, as marks have it.

    Nothing, where its groups have other parameters: then nobody can say which are meant.
    """
    if "plan" in left:
        return read(left["plan"]), False
    if [one["sorted"] for one in left["names"] if one is not None] != [one["sorted"] for one in ledger.orders]:
        return [], True
    return [entries for rows in left["rows"] for entries in read(rows)], True


def stood_in(group: Mapping[str, Any]) -> dict[str, Any]:
    """What stood in a group before a plan came, as the mark that was loaded with it says; {} where none does."""
    _, _, rest = str(group.get(MARK, "")).partition("; ")
    return dict(json.loads(rest).get("stood", {})) if rest else {}


def unpack(
    state: Mapping[str, Any], plan: Plan, ledger: Ledger, references: References, on_load: OnLoad
) -> Loaded | None:
    """What the state dict says, None when it says nothing; changes nothing.

    Raises:
        LoadError: another who or form, other references, other parameters in a group, another version, something that
            this plan needs and the format has lost; or other coefficients where `on_load` is "equal".
    """
    left = left_in(state)
    if left is None:
        return None
    saved, by_name = _rows_in(left, ledger)
    if not saved:
        is_other = plan.fingerprint != left["fingerprint"] and ledger.who != left["who"]
        different: PlanDiff | bool = is_other or left["decays"] != ledger.decays
        theirs = plan
    else:
        beside = ledger.beside(saved, by_name=by_name)
        is_other = any(one.form != other.form for one, other in beside.values())
        theirs = _with_decays(plan, {name: one.decay for name, (one, _) in beside.items()})
        mine = _with_decays(plan, {name: one.decay for name, (_, one) in beside.items()})
        different = theirs.diff(mine)
    shown = f"\n{different}" if saved else ""
    if is_other:
        raise LoadError(
            f"the checkpoint was written under another plan: other parameters decay, or in another form.{shown}",
            "Going on would silently change what the weights are pulled toward.",
            "Attach the plan that the checkpoint was written with, then handle.update(plan) to change it.",
        )
    if different and on_load == "equal":
        raise LoadError(
            f'the checkpoint has other coefficients, and on_load is "equal".{shown}',
            fix='Write on_load="plan" or on_load="checkpoint" to say whose coefficients win.',
        )
    if different and not saved and on_load == "checkpoint":
        raise LoadError(
            'the checkpoint has other coefficients, and on_load is "checkpoint", but it has lost which.',
            _LOST,
            "Attach the plan first, then load optimizer.state_dict(), saved whole: torch's load itself keeps less. "
            'Or attach a plan with those coefficients and write on_load="plan".',
        )
    kept = {} if references.are_given else initial_in(left)
    if kept:
        references.check(kept)
    elif not references.agree(left["references"]):
        raise LoadError(
            "the weights that the plan pulls toward are not those of the run that is resumed.",
            "The pull would lead somewhere else from here on.",
            'For "initial", save handle.state_dict() with the checkpoint; attach, then call '
            "handle.load_state_dict(...), then optimizer.load_state_dict(...). Where the optimizer is loaded first, "
            'give it to attach(..., bind={"initial": ...}). What attach(..., save_references=True) adds is in '
            "optimizer.state_dict(), but not in what torch.distributed.checkpoint makes of it: there name the handle "
            'beside the rest, dcp.save({"app": app, "decay": handle}). Else bind the same tensors as then.',
        )
    if left.get("rows owe"):
        raise LoadError(
            "the checkpoint has lost what rows of lazy tables owe.",
            _LOST,
            "Attach the plan first, then load optimizer.state_dict(), saved whole; for torch.distributed.checkpoint "
            "call handle.flush() before saving.",
        )
    # By number a parameter is known by its place; formats that name it have put it where it is here.
    by_place = all(isinstance(key, int) for group in state["param_groups"] for key in group["params"])
    order = "in order" if by_place else "sorted"
    for index, (own, then) in enumerate(zip(ledger.orders, left["names"], strict=False)):
        if then is not None and then[order] != own[order]:
            raise LoadError(
                f"group {index} of the checkpoint has other parameters, or has them in another order.",
                "torch loads by place: moments, counters and peaks would go to the wrong weights.",
                "Load it by name: td.load_optimizer(optimizer, state_dict).",
            )
    now = plan.with_coefficients_of(theirs) if different and on_load == "checkpoint" else plan
    return Loaded([GroupState(**group) for group in left["groups"]], left["scalars"], now, kept, left["paused"])


def _with_decays(plan: Plan, decays: Mapping[str, Decay | None]) -> Plan:
    """The plan with other decays of some parameters, and as its own what the first that had its own has."""
    rows = [replace(row, decay=decays[row.name]) if row.name in decays else row for row in plan.rows]
    own = next((new.decay for row, new in zip(plan.rows, rows, strict=True) if row.decay == plan.decay), plan.decay)
    return replace(plan, rows=tuple(rows), decay=own)


def check_class(optimizer: Optimizer, groups: Iterable[Mapping[str, Any]], states: Iterable[Mapping[str, Any]]) -> None:
    """Refuse groups and states that an optimizer of another class has left."""
    card = card_of(optimizer)
    if card is None:
        return
    # What every version of a class of torch has in its groups, or needs in its steps.
    needed = [key for key in optimizer.defaults if card.name in torch_names() and key not in _OF_MANY]
    lacking = dict.fromkeys(key for group in groups for key in needed if key not in group)
    # Of a family, or of what holds another, a card does not say which state there is.
    known = set(card.state) if card.state or card.name in torch_names() else ELEMENTWISE
    foreign = dict.fromkeys(key for state in states for key in state if key in ELEMENTWISE and key not in known)
    if lacking or foreign:
        said = f"its groups have no {listed(lacking)}" if lacking else f"{card.name} keeps no {listed(foreign)}"
        raise LoadError(
            f"the checkpoint is not of {card.name}: {said}.",
            "The state of another optimizer means something else, or nothing, to this one.",
            "Build the optimizer that wrote the checkpoint; to begin with fresh state, load nothing.",
        )


def _joined(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            made[key] = _joined([made.get(key, {}), value]) if isinstance(value, Mapping) else value
    return made
