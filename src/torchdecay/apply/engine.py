"""One step of a lowered plan: what happens before the optimizer's update, and what after.

The engine knows nothing of hooks, closures or checkpoints (see `handle`). It checks everything that a step needs
before it changes the first tensor, so that a step that is refused leaves the weights as they were.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from operator import attrgetter, is_
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.kernels import Run
from torchdecay.apply.ledger import Ledger
from torchdecay.apply.lowering import Lowering
from torchdecay.apply.passes import Passes
from torchdecay.apply.program import GroupProgram
from torchdecay.apply.routes import turns_on
from torchdecay.apply.state import References
from torchdecay.apply.work import Target, Work
from torchdecay.errors import ApplyError
from torchdecay.optimizers.cards import SWITCH
from torchdecay.plans.controllers import NormRatio
from torchdecay.plans.decay import Site
from torchdecay.plans.groups import MARK
from torchdecay.plans.references import Average, Initial
from torchdecay.plans.schedules import Constant
from torchdecay.text import listed

_FACTS = attrgetter("requires_grad", "dtype")
"""What of a parameter a lowering depends on, beside its group."""


def _are_as_lowered(params: list[Tensor], known: list[Tensor], facts: list[Any]) -> bool:
    """Whether these are the parameters of a group that were lowered, with what a lowering depends on as it was."""
    return len(params) == len(known) and all(map(is_, params, known)) and list(map(_FACTS, params)) == facts


class _Alike(NamedTuple):
    """What of a group has to be as it is for a step at which nothing is to be done; its `lr` at most `most`."""

    program: GroupProgram
    members: list[Tensor]
    facts: list[Any]
    options: list[Any]
    owned: tuple[tuple[str, Any], ...]
    value: float
    most: float


class Engine:
    """Carries out a lowering step by step."""

    def __init__(
        self,
        optimizer: Optimizer,
        lowering: Lowering,
        bind: Bindings,
        scheduler: Any,
        run: Run,
        max_lrs: Sequence[float | None],
        stages: Any = None,
    ) -> None:
        self.optimizer = optimizer
        self.programs = [
            GroupProgram(optimizer, group, bind, scheduler, max_lr)
            for group, max_lr in zip(lowering.groups, max_lrs, strict=True)
        ]
        pulls = [pull for program in self.programs for pull in program.pulls]
        self.passes = Passes(optimizer, pulls, run, stages)
        everything = [*pulls, *(pull for program in self.programs for pull in program.penalties)]
        self.members = members(optimizer)
        pairs = zip(lowering.groups, self.members, strict=True)
        self._named = {name: one for group, params in pairs for name, one in zip(group.names, params, strict=True)}
        self.references = References(everything, self._named)
        self.targets = {one.name: (pull.decay, one) for pull in everything for one in pull.targets}
        self.lowering = _with_lacking(lowering, self.references.lacking())
        self._facts = [list(map(_FACTS, params)) for params in self.members]
        kept = [
            one
            for _, one in self.targets.values()
            if any(part is not None for part in (one.held, one.mask, one.weights))
        ]
        self._shapes = [(one.param, one.param.shape) for one in kept if not is_lazy(one.param)]
        self._options = list(map(turns_on, optimizer.param_groups))
        self.has_penalties = any(program.penalties for program in self.programs)
        self.under_way = self._pulls_now = False
        self._alike: list[_Alike] = []
        self._stepping: list[tuple[GroupProgram, float | None]] = []

    @cached_property
    def ledger(self) -> Ledger:
        """What the plan says of each parameter here, as a checkpoint keeps it."""
        decays = {row.name: row.decay for row in self.lowering.rows}
        return Ledger([group.names for group in self.lowering.groups], decays)

    def pulled(self) -> dict[str, Tensor]:
        """What runs by hook or through the loss, by name."""
        return {name: one.param for name, (_, one) in self.targets.items()}

    def measured(self) -> Iterator[Target]:
        """Those of which something was measured when this was made, and once: where they are, or a norm."""
        for decay, one in self.targets.values():
            began = isinstance(decay.reference, (Initial, Average)) and not self.references.are_loaded
            bound, radius = getattr(decay.controller, "kind", ""), getattr(decay.update, "radius", "")
            if began or isinstance(decay.controller, NormRatio) or "initial" in (bound, radius):
                yield one

    def is_outdated(self) -> bool:
        """Whether parameters came, went, were frozen, unfrozen, cast or reshaped, or options set, since lowered."""
        if self._shapes and any(param.shape != shape for param, shape in self._shapes):
            return True
        groups = self.optimizer.param_groups
        if len(groups) != len(self.members):
            return True
        for place, (group, known, facts) in enumerate(zip(groups, self.members, self._facts, strict=True)):
            params = group["params"]
            if not _are_as_lowered(params, known, facts):
                return True
            if (options := turns_on(group)) != self._options[place]:
                # Mostly a momentum that follows a schedule.
                if list(map(bool, options)) != list(map(bool, self._options[place])):
                    return True
                self._options[place] = options
        return False

    def repeats(self) -> bool:
        """Begin the step that comes, if it is one more of those at which nothing is to be done; whether it is."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self._alike) or getattr(self.optimizer, "found_inf", None) is not None:
            return False
        stepping: list[tuple[GroupProgram, float | None]] = []
        for group, (program, known, facts, options, owned, value, most) in zip(groups, self._alike, strict=True):
            params, lr = group["params"], group["lr"]
            if not _are_as_lowered(params, known, facts):
                return False
            for key, mine in owned:
                if group.get(key) is not mine:
                    return False
            if turns_on(group) != options or not 0 < lr <= most or not lr * value < 1:
                return False
            for param in params:
                if param.grad is not None:
                    stepping.append((program, program.state.max_lr))
                    break
        self._stepping, self.under_way = stepping, True
        return True

    def _all_alike(self) -> list[_Alike]:
        """What has to be as it is for steps at which nothing is to be done; [] where there are none."""
        groups = self.optimizer.param_groups
        if self.has_penalties or not all(one.is_settled and not one.pulls for one in self.programs):
            return []
        found = []
        for program, group, known, facts in zip(self.programs, groups, self.members, self._facts, strict=True):
            if isinstance(program.written, Tensor) or not isinstance(group.get("lr"), float):
                return []
            keys = {MARK: group[MARK], "weight_decay": program.written}
            keys |= {} if program.lowering.switch is None else {SWITCH: program.lowering.switch}
            value = program.written or 0.0 if program.is_checked else 0.0
            found.append(_Alike(program, known, facts, turns_on(group), tuple(keys.items()), value, program.most_lr))
        return found

    def expects_penalty(self) -> bool:
        """Whether the step that comes would have moved weights through a penalty in the loss."""
        return any(program.penalties and program.moves for program in self.programs)

    def before(self, *, late: bool = False) -> None:
        """All that comes before the optimizer's update; a step at learning rate 0 does not count.

        Args:
            late: let pulls that would come before the update come after it.
        """
        if _found_inf(self.optimizer):
            return
        self._refuse_capture()
        works: list[Work] = []
        writes: list[tuple[GroupProgram, float | Tensor]] = []
        self._alike = []
        stepping: list[tuple[GroupProgram, float | None]] = []
        for program in self.programs:
            for param in program.group["params"]:
                if param.grad is not None:
                    break
            else:
                continue
            if program.moves:
                stepping.append((program, program.state.max_lr))
                if program.by_peaks:
                    program.keep_peak()
            if program.lowering.native is not None:
                value = program.native_value(program.lowering.native, anew=False)
                if not program.is_settled:
                    writes.append((program, value))
            if program.pulls:
                works += program.works()
        for work in works:
            _refuse_sparse(work)
        for program, value in writes:
            program.write(value)
        self._stepping, self.under_way, self._pulls_now = stepping, True, bool(works)
        if works:
            self.passes.before(works, late=late)

    def _refuse_capture(self) -> None:
        """A captured graph repeats the numbers of the step that it was captured at."""
        if not any(group.get("capturable") for group in self.optimizer.param_groups):
            return
        if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            return
        for program in self.programs:
            for decay in program.decays():
                if decay.site is not Site.LOSS and decay.schedule != Constant():
                    raise ApplyError(
                        f"group {program.lowering.index}: {decay!r} follows a schedule, inside a CUDA graph.",
                        "The graph would repeat the coefficient of the step that it was captured at, for ever.",
                        "Capture forward and backward only and step outside, or give the decay no schedule.",
                    )

    def after(self) -> None:
        """All that comes after the optimizer's update; `.grad` is the user's again."""
        if self._pulls_now:
            self.passes.after()
        elif not self._alike:
            self._alike = self._all_alike()
        for program, _ in self._stepping:
            program.state.steps += 1
        self._stepping, self.under_way, self._pulls_now = [], False, False

    def reset(self) -> None:
        """Forget a step that was begun and never ended, because the optimizer raised."""
        self.passes.reset()
        for program, peak in self._stepping:
            program.state.max_lr, program.is_settled = peak, False
        self._stepping, self.under_way, self._pulls_now, self._alike = [], False, False, []

    def check(self) -> list[float | Tensor | None]:
        """What each group needs under `weight_decay`, None where nothing is owned; raises what the next step would."""
        values: list[float | Tensor | None] = []
        for program in self.programs:
            native = program.lowering.native
            nothing = 0.0 if "weight_decay" in program.group else None
            values.append(nothing if native is None else program.native_value(native))
            for pull in program.pulls:
                if program.moves:
                    program.amount(pull.decay, pull.heaviest)
        return values

    def write(self, values: Sequence[float | Tensor | None]) -> None:
        """Own the groups' `weight_decay`: write what `check` returned."""
        self._alike = []
        for program, value in zip(self.programs, values, strict=True):
            if value is None:
                program.written = None
            else:
                program.write(value)

    def inherit(self, other: Engine, former: Sequence[Engine] = ()) -> None:
        """Take over counters, peaks, controllers and kept references from the engine that ran before.

        Args:
            other: the engine that ran before.
            former: those that ran before it, oldest first, of parameters that come back.
        """
        for before in (*former, other):
            for program, origin in zip(self.programs, origins(before.members, self.members), strict=True):
                if origin is not None:
                    program.state = replace(before.programs[origin].state)
            self.references.inherit(before.references)
            self.passes.inherit_controllers(before.passes)
        self.passes.inherit(other.passes)
        self.passes.debts.settle({name: one for name, one in self._named.items() if name not in self.targets})

    def shed(self, present: Container[int]) -> bool:
        """Let go of all but what parameters that are no longer there have left; whether there are any."""
        for pull in (pull for program in self.programs for pull in (*program.pulls, *program.penalties)):
            pull.targets = [one for one in pull.targets if id(one.param) not in present]
        self.targets = {}
        self.members = [[param for param in params if id(param) not in present] for params in self.members]
        return any(self.members)


def members(optimizer: Optimizer) -> list[list[Tensor]]:
    """The parameters of each group, in lists of their own."""
    return [list(group["params"]) for group in optimizer.param_groups]


def origins(before: Sequence[Sequence[Tensor]], now: Sequence[Sequence[Tensor]]) -> list[int | None]:
    """For each group its place before, by its parameters: groups are added, taken out and put in another order."""
    places = {id(param): index for index, params in enumerate(before) for param in params}
    empty = {index for index, params in enumerate(before) if not params}
    return [
        next((places[id(param)] for param in params if id(param) in places), None)
        if params
        else (index if index in empty else None)
        for index, params in enumerate(now)
    ]


def _with_lacking(lowering: Lowering, lacking: set[str]) -> Lowering:
    """The lowering, saying of which parameters the reference has nothing."""
    said = "; the reference lacks it, so it is pulled toward 0"
    rows = tuple(replace(row, why=row.why + said) if row.name in lacking else row for row in lowering.rows)
    return replace(lowering, rows=rows)


def _refuse_sparse(work: Work) -> None:
    if work.pull.decay.site is not Site.GRADIENT:
        return
    sparse = [one.name for one in work.targets if one.grad.is_sparse]
    if sparse:
        raise ApplyError(
            f"{work.pull.decay!r} can't be added to the sparse gradient of {listed(sparse)}.",
            "Coupled decay would make it dense; torch's own optimizers refuse it too.",
            "Use td.decoupled(wd) for these, or spare them with a rule.",
        )


def _found_inf(optimizer: Optimizer) -> bool:
    """Whether a gradient scaler told a fused optimizer to skip this step."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)
