"""A handle that is copied or pickled: alone it can't be, and with its optimizer it finds that one again."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from torch.optim import Optimizer

from torchdecay.apply.copies import Remembered, is_there, readable, remembered_by, what_is_copied
from torchdecay.apply.hooks import Stepped
from torchdecay.encoding import is_opaque
from torchdecay.errors import ApplyError, TorchdecayError
from torchdecay.plans.groups import MARK

_LIVE = ("optimizer", "model", "scheduler", "_engine", "_marks", "_former", "_is_gone", "_penalty_called")
"""What a handle has that is at work, and one that was pickled has not."""


class Copied(Stepped):
    """A plan at work that can be copied with its optimizer."""

    left: Remembered | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Copied:
        """The plan at work on the copy of the optimizer that is copied along: its hooks are not."""
        whole, unfinished = what_is_copied()
        if whole is self:
            raise ApplyError(
                "a handle can't be copied alone.",
                "It would hold a copy of the optimizer that nothing steps, or decay the weights of this one twice.",
                "Copy both: model, optimizer, handle = copy.deepcopy((model, optimizer, handle)).",
            )
        copied = [memo.get(id(one)) for one in (self.optimizer, self.model) if one is not None]
        if unfinished and not all(map(is_there, copied)):
            # In the middle of an object, whose optimizer may come later.
            memo[id(self)] = sleeping = type(self).__new__(type(self))
            sleeping.__setstate__(copy.deepcopy(self.__getstate__(), memo) | {"_twin": memo.get(id(self.model))})
            return sleeping
        optimizer, model = copy.deepcopy((self.optimizer, self.model), memo)
        # Attached only now, since a scheduler's copy looks at the step that it wraps.
        options = replace(self._options, scheduler=copy.deepcopy(self.scheduler, memo))
        memo[id(self)] = made = type(self)(
            optimizer, self.plan, model=model, options=options, remembered=remembered_by(optimizer)
        )
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Plan and counters, detached: a pickle has no hooks, and of the optimizer only what is pickled with it."""
        names = [list(group.names) for group in self._engine.lowering.groups]
        options = replace(self._options, bind={}, scheduler=None, stages=None)
        left = self._remembered(keep=self._options.save_references)
        return {
            "plan": readable(self.plan),
            "left": left,
            "_options": options,
            "_places": names,
            "_bond": self._bond,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bond.handle = self
        optimizer = self._bond.optimizer
        if optimizer is not None and MARK in vars(optimizer) and "_twin" not in state:
            self.wake(optimizer)

    def wake(self, optimizer: Optimizer) -> str:
        """Be at work on the optimizer that was copied with this handle; what is in the way, or ""."""
        places = zip(optimizer.param_groups, self._places, strict=False)
        pairs = [pair for group, names in places for pair in zip(names, group["params"], strict=False)]
        named = {name: param for name, param in pairs if name}
        try:
            if any(is_opaque(row.decay) for row in self.plan.rows):
                raise ApplyError("of a function without a name a copy has a description alone.")
            left, given = remembered_by(optimizer), vars(self).get("_twin")
            model = named if given is None else given
            type(self).__init__(self, optimizer, self.plan, model=model, options=self._options, remembered=left)
        except TorchdecayError as error:
            return error.what
        return ""

    def __getattr__(self, name: str) -> Any:
        # Only of a handle that was copied by a pickle, which has neither optimizer nor model.
        if "_places" not in vars(self) or name not in _LIVE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        optimizer, self._bond.optimizer = self._bond.optimizer, None
        if optimizer is not None and MARK in vars(optimizer) and not self.wake(optimizer):
            return getattr(self, name)
        raise ApplyError(
            "this handle is detached: it was pickled, and a pickle has no hooks.",
            "It has its plan and counters; where its optimizer was pickled with it, that one's next step attaches it.",
            "Go on from it: td.attach(optimizer, handle, model=...).",
        )
