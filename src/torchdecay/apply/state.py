"""What an attached plan leaves in an optimizer's state dict, and what is read back from it.

All of it stands under one key beside "state" and "param_groups". Checkpoint formats that keep only these two, as
torch.distributed.checkpoint does, still carry each group's mark, so the mark holds the group's counters as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from torchdecay.apply.bindings import digest
from torchdecay.apply.work import Pull
from torchdecay.errors import LoadError
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.references import Average, Bound, Initial, Reference, Tensors

OnLoad = Literal["plan", "checkpoint", "equal"]
_VERSION = 1
_MARK = re.compile(
    r"attached: (?P<fingerprint>\w+)(; steps (?P<steps>\d+))?(; max_lr (?P<max_lr>\S+))?(?P<rows>; rows owe)?"
)
_OTHER_PLAN = "the checkpoint was written under another plan: other parameters decay, or in another form."
_WHY = "Going on would silently change what the weights are pulled toward."
_FIX = "Attach the plan that the checkpoint was written with, then handle.update(plan) to change it."


@dataclass
class GroupState:
    """What one group remembers: steps really taken, and its own peak learning rate once that is known."""

    steps: int = 0
    max_lr: float | None = None


class References:
    """The tensors that pulls lead toward, by parameter name."""

    def __init__(self, pulls: Sequence[Pull]) -> None:
        self._pulls = [pull for pull in pulls if pull.decay.reference is not None]
        self._digest: str | None = None

    def initial(self) -> dict[str, Tensor]:
        """Those that only this run knows: "initial" ones and averages; the tensors themselves, not copies."""
        return self._of(Initial, Average)

    def lacking(self) -> set[str]:
        """Parameters of which the reference has nothing."""
        return {
            name
            for pull in self._pulls
            for name, reference in zip(pull.names, pull.references, strict=True)
            if reference is None
        }

    def digest(self) -> str:
        """SHA-256 of those that only memory holds, or "": a file has a hash in the plan."""
        if self._digest is None or self._of(Average):
            held = self._of(Initial, Average, Tensors, Bound)
            self._digest = digest([held[name] for name in sorted(held)]) if held else ""
        return self._digest

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Overwrite the initial ones."""
        for name, tensor in self.initial().items():
            if name in state and state[name].shape == tensor.shape:
                tensor.copy_(state[name])
        self._digest = None

    def _of(self, *kinds: type[Reference]) -> dict[str, Tensor]:
        return {
            name: tensor
            for pull in self._pulls
            if isinstance(pull.decay.reference, kinds)
            for index, name in enumerate(pull.names)
            if (tensor := pull.reference(index)) is not None
        }


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint says about decay.

    Attributes:
        groups: counters and peak of each group.
        scalars: what controllers and low-precision weights carry; None when the checkpoint has lost it.
        plan: the plan that was at work, to read coefficients from; None when the checkpoint has lost it.
    """

    groups: Sequence[GroupState]
    scalars: Mapping[str, Any] | None
    plan: Plan | None


def mark_of(plan: Plan) -> str:
    """The string that says, in a live group, which plan is attached."""
    return f"attached: {plan.fingerprint}"


def pack(
    state: dict[str, Any], plan: Plan, groups: Sequence[GroupState], scalars: Mapping[str, Any], references: str
) -> None:
    """Write what has to survive into the state dict of an optimizer.

    Args:
        state: the state dict.
        plan: the plan at work.
        groups: what each group remembers.
        scalars: what controllers, low-precision weights and rows carry.
        references: digest of the references.
    """
    mark = mark_of(plan)
    rows = "; rows owe" if "rows" in scalars else ""
    for packed, group in zip(state["param_groups"], groups, strict=False):
        # The state dict would hold the very tensor that later steps fill.
        if isinstance(packed.get("weight_decay"), Tensor):
            packed["weight_decay"] = packed["weight_decay"].item()
        peak = "" if group.max_lr is None else f"; max_lr {group.max_lr!r}"
        packed[MARK] = f"{mark}; steps {group.steps}{peak}{rows}"
    state[MARK] = {
        "version": _VERSION,
        "plan": plan.to_json(opaque=True),
        "groups": [{"steps": group.steps, "max_lr": group.max_lr} for group in groups],
        "references": references,
        "scalars": scalars,
    }


def unpack(state: Mapping[str, Any], plan: Plan, references: str, on_load: OnLoad) -> Loaded | None:
    """What the state dict says, None when it says nothing; changes nothing.

    Raises:
        LoadError: another who or form, other references, a newer version; or other coefficients where `on_load` is
            "equal".
    """
    saved = state.get(MARK)
    if saved is None:
        return _from_marks(state, plan)
    if saved.get("version") != _VERSION:
        raise LoadError(
            f"the checkpoint's decay state is of version {saved.get('version')!r}, this one reads {_VERSION}.",
            fix="Upgrade torchdecay.",
        )
    theirs = Plan.from_json(saved["plan"], callables="describe")
    mine = Plan.from_json(plan.to_json(opaque=True), callables="describe")
    if theirs.fingerprint != mine.fingerprint:
        raise LoadError(f"{_OTHER_PLAN}\n{theirs.diff(mine)}", _WHY, _FIX)
    different = theirs.diff(mine)
    if different and on_load == "equal":
        raise LoadError(
            f'the checkpoint has other coefficients, and on_load is "equal".\n{different}',
            fix='Write on_load="plan" or on_load="checkpoint" to say whose coefficients win.',
        )
    if saved["references"] != references:
        raise LoadError(
            "the weights that the plan pulls toward are not those of the run that is resumed.",
            "The pull would lead somewhere else from here on.",
            'For "initial", save handle.state_dict() with the checkpoint, and call handle.load_state_dict(...) '
            "before optimizer.load_state_dict(...); else bind the same tensors as then.",
        )
    groups = [GroupState(steps=group["steps"], max_lr=group["max_lr"]) for group in saved["groups"]]
    return Loaded(groups, saved["scalars"], theirs)


def _from_marks(state: Mapping[str, Any], plan: Plan) -> Loaded | None:
    found = [_MARK.fullmatch(str(group.get(MARK, ""))) for group in state["param_groups"]]
    marks = [mark for mark in found if mark is not None and mark["steps"] is not None]
    if len(marks) < len(found) or not marks:
        return None
    if any(mark["fingerprint"] != plan.fingerprint for mark in marks):
        raise LoadError(_OTHER_PLAN, _WHY, _FIX)
    if any(mark["rows"] for mark in marks):
        raise LoadError(
            "the checkpoint has lost what rows of lazy tables owe.",
            "Its format keeps only the state and the groups of an optimizer.",
            "Call handle.flush() before saving in this format.",
        )
    peaks = [None if mark["max_lr"] is None else float(mark["max_lr"]) for mark in marks]
    return Loaded([GroupState(int(mark["steps"]), peak) for mark, peak in zip(marks, peaks, strict=True)], None, None)
