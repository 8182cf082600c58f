"""What a plan at work leaves in a checkpoint, and what it takes from one: counters, peaks, controllers, references."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.bindings import digest
from torchdecay.apply.carried import Carried
from torchdecay.apply.copies import Remembered, remembered_by
from torchdecay.apply.engine import Engine
from torchdecay.apply.state import VERSION, GroupState, Loaded, check_class, initial_in, mark_of, unpack
from torchdecay.errors import ApplyError
from torchdecay.plans.groups import MARK


class Saved(Carried):
    """A plan that is saved with its optimizer, and loaded with it."""

    _loaded: Loaded | None = None
    """Of a checkpoint that is being loaded, what its pre-hook has read."""

    def _resume(self, remembered: Remembered | None) -> None:
        """Begin where the run is that goes on."""
        options, plan = self._options, self.plan
        if "initial" in options.bind:
            self.load_state_dict(initial_in(options.bind["initial"]) or options.bind["initial"])
        if remembered is not None:
            loaded = self._read(remembered)
            self._take_in(loaded)
            if loaded is not None and loaded.plan is not plan:
                self.plan, engine = loaded.plan, self._build(loaded.plan, self._before)
                engine.inherit(self._engine)
                self._engine = engine
        elif options.step is not None:
            for program in self._engine.programs:
                program.state.steps = options.step

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of "initial" references by parameter name: to be saved beside the optimizer's state.

        Those of parameters that another plan pulls elsewhere for now stand under "paused/" and the name.
        """
        self._follow_known()
        return dict(self._engine.references.initial())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take "initial" references from `state_dict()` of the run that is resumed.

        Raises:
            LoadError: a name is missing or unknown, or a shape differs; nothing is changed then.
        """
        self._engine.references.check(state)
        self._engine.references.load(state, given=True)
        self._unwritten = None

    def _remembered(self, *, keep: bool | torch.dtype = True) -> Remembered:
        """What a copy of the optimizer takes along, with what it is pulled toward or without."""
        self._follow_known()
        state: dict[str, Any] = {"param_groups": [dict(group) for group in self.optimizer.param_groups]}
        self._pack(state, keep=keep)
        found: Remembered = state[MARK] | {"stood": self._stood()}
        return found

    def _follow_groups(self) -> None:
        """Take over parameters that were added, unfrozen or cast since, and what was loaded past the hooks."""
        if self._is_gone:
            return
        if self.is_outdated():
            self.update(self.plan)
        elif self._marks != [group.get(MARK) for group in self.optimizer.param_groups]:
            self._follow_load()

    def _follow_own_load(self) -> Callable[[], None]:
        """Come after a load of the class itself that calls no hook, as 8-bit optimizers have; what takes this away."""
        optimizer, load = self.optimizer, self.optimizer.load_state_dict
        if type(optimizer).load_state_dict is Optimizer.load_state_dict:
            return lambda: None

        def load_state_dict(state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
            load(cast(Any, state_dict), *args, **kwargs)
            # A hook would have put its own mark there.
            if MARK in state_dict and any("; " in str(group.get(MARK)) for group in optimizer.param_groups):
                self._loaded = self._read(state_dict)
                self._finish_load(optimizer)

        optimizer.load_state_dict = load_state_dict  # type: ignore[method-assign]
        return lambda: vars(optimizer).pop("load_state_dict", None)

    def _follow_load(self) -> None:
        """Such a load, of a state that keeps no more than the groups' marks, or of who was copied."""
        remembered = remembered_by(self.optimizer)
        if remembered is not None:
            self._loaded = self._read(remembered)
        self._finish_load(self.optimizer)

    def _follow_known(self) -> None:
        """The same for who only reads: of a parameter that the plan does not know the next step complains."""
        with suppress(ApplyError):
            self._follow_groups()

    def _save(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        self._follow_known()
        if len(state["param_groups"]) == len(self.optimizer.param_groups):
            self._pack(state, keep=self._options.save_references)

    def _pack(self, state: dict[str, Any], *, keep: bool | torch.dtype) -> None:
        """Write what has to survive into a state dict, and where pulls lead if it is to `keep` that, in which dtype."""
        ledger, references, scalars = self._engine.ledger, self._engine.references, self._engine.passes.scalars()
        shared = {"version": VERSION, "who": ledger.who, "decays": ledger.decays}
        shared |= {"references": references.digest(over_ranks=True)}
        groups = [program.state.to_dict() for program in self._engine.programs]
        rows, stood = ledger.written_by_name, self._stood()
        whole = zip(state["param_groups"], groups, ledger.names, ledger.orders, rows, stood, strict=False)
        for packed, group, own, orders, said, before in whole:
            # The state dict would hold the very tensor that later steps fill.
            if isinstance(packed.get("weight_decay"), Tensor):
                packed["weight_decay"] = packed["weight_decay"].item()
            of_group = {
                "groups": [group],
                "names": [orders],
                "rows": said,
                "scalars": _part({key: value for key, value in scalars.items() if key != "rows"}, set(own)),
                "rows owe": "rows" in scalars,
                "paused": sorted(references.paused & set(own)),
                "stood": {key: value.item() if hasattr(value, "item") else value for key, value in before.items()},
            }
            packed[MARK] = f"{mark_of(self.plan)}; {json.dumps(shared | of_group)}"
        state[MARK] = shared | {
            "fingerprint": self.plan.fingerprint,
            "plan": ledger.written,
            "groups": groups,
            "names": ledger.orders,
            "scalars": scalars,
            "paused": sorted(references.paused),
        }
        if keep and (initial := references.initial()):
            state[MARK]["initial"] = _once_each(initial, None if keep is True else keep)

    def _read(self, state: Mapping[str, Any]) -> Loaded | None:
        return unpack(state, self.plan, self._engine.ledger, self._engine.references, self._options.on_load)

    def _check_load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Refuse a checkpoint that means something else, or has no next step, before torch has changed anything."""
        self._follow_groups()
        loaded = self._read(state)
        check_class(optimizer, state["param_groups"], state["state"].values())
        if len(state["param_groups"]) == len(optimizer.param_groups):
            self._rehearse(state["param_groups"], loaded)
        self._loaded = loaded

    def _rehearse(self, saved: Sequence[Mapping[str, Any]], loaded: Loaded | None) -> None:
        """Raise what the step after a load would."""
        plan = self.plan if loaded is None else loaded.plan
        engine = self._engine if plan is self.plan else self._build(plan, self._before)
        groups, states = self.optimizer.param_groups, [program.state for program in engine.programs]
        try:
            self.optimizer.param_groups = [
                old | {key: value for key, value in new.items() if key in old and key != "params"}
                for old, new in zip(groups, saved, strict=True)
            ]
            self._count(engine, states if loaded is None else loaded.groups)
            engine.check()
        finally:
            self.optimizer.param_groups = groups
            self._count(engine, states)

    def _finish_load(self, optimizer: Optimizer) -> None:
        loaded, self._loaded = self._loaded, None
        self._take_in(loaded)
        if loaded is not None and loaded.plan is not self.plan:
            self.update(loaded.plan)
            return
        self._take_over(self._engine.check())

    def _take_in(self, loaded: Loaded | None) -> None:
        """Counters, peaks, controllers and references of the run that is resumed."""
        if loaded is not None:
            self._unwritten = None
            self._count(self._engine, loaded.groups)
            self._engine.passes.load(loaded.scalars)
            if loaded.references:
                self._engine.references.load(loaded.references, given=False)
            self._engine.references.lose(loaded.paused)

    @staticmethod
    def _count(engine: Engine, states: Sequence[GroupState]) -> None:
        for program, state in zip(engine.programs, states, strict=False):
            program.state = state


def _part(numbers: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Of nested numbers those that go by these names, or by "", which is all together."""
    return {
        key: _part(value, names) if isinstance(value, Mapping) else value
        for key, value in numbers.items()
        if isinstance(value, Mapping) or key in names or not key
    }


def _once_each(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Any]:
    """Tensors by name, those that are equal only once: zeros and ones that many layers began as."""
    held: dict[str, Tensor] = {}
    keys = {}
    for name, tensor in tensors.items():
        kept = tensor if dtype is None or tensor.is_complex() else tensor.to(dtype)
        sharded = hasattr(kept, "device_mesh")
        keys[name] = name if sharded else f"{kept.dtype} {tuple(kept.shape)} {digest([kept])}"
        held.setdefault(keys[name], kept)
    return {"keys": keys, "held": held}
