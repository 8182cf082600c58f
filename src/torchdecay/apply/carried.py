"""A plan on an optimizer: what it is built of, what stood in the groups before, and the plan that comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchdecay.apply.bindings import Bindings, check_masks
from torchdecay.apply.compiled import runner
from torchdecay.apply.copies import Remembered, remembered_by
from torchdecay.apply.engine import Engine, members, origins
from torchdecay.apply.kernels import in_parts
from torchdecay.apply.lowering import lower
from torchdecay.apply.ranks import Agreement, check_in_place, check_stages, holders, meet
from torchdecay.apply.readers import watch
from torchdecay.apply.routes import Via
from torchdecay.apply.state import OnLoad, mark_of, stood_in
from torchdecay.apply.unwritten import Unwritten
from torchdecay.apply.work import lasting
from torchdecay.optimizers.cards import SWITCH
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import parameters_by_name
from torchdecay.records import collecting_later

OWNED = (MARK, SWITCH, "weight_decay")
"""Keys of a group that a plan owns."""


@dataclass(frozen=True)
class Options:
    """How a plan is carried out; `torchdecay.attach` documents each."""

    via: Via = "auto"
    on_load: OnLoad = "plan"
    bind: Bindings = field(default_factory=dict)
    scheduler: Any = None
    compile: bool = False
    save_references: bool | torch.dtype = False
    max_lr: float | Sequence[float] | None = None
    step: int | None = None
    check_ranks: bool = True
    stages: Any = None

    def peaks(self, count: int) -> list[float | None]:
        """The peak that was given for each group; groups that came later than the numbers find their own."""
        given = list(self.max_lr) if isinstance(self.max_lr, Sequence) else [self.max_lr] * count
        return [*given, *[None] * count][:count]


class Carried:
    """A plan that is carried out on an optimizer; `torchdecay.apply.handle.Handle` is what people hold."""

    _is_gone = False
    """Whether the plan was removed."""
    _unwritten: Unwritten | None = None
    """What the plan has measured, until the first step that moves weights, or a load."""

    def __init__(
        self,
        optimizer: Optimizer,
        plan: Plan,
        *,
        model: nn.Module | Mapping[str, Tensor] | None,
        options: Options,
        remembered: Remembered | None = None,
    ) -> None:
        self.optimizer, self.plan, self.scheduler = optimizer, plan, options.scheduler
        self.model = model if isinstance(model, nn.Module) else None
        self._options, self._named = options, model
        self._run = runner() if options.compile else in_parts
        # Also a plan that begins anew puts back what stood there before the one that left its marks.
        left = (remembered or remembered_by(optimizer) or {}).get(MARK, {})
        self._before = [dict(stood) for stood in left.get("stood", ())] or list(map(owned, optimizer.param_groups))
        # Of parameters that were taken out of the optimizer, for when they come back: oldest first.
        self._former: list[tuple[Engine, list[dict[str, Any]]]] = []
        self._watches: list[RemovableHandle] = []
        params = [param for group in optimizer.param_groups for param in group["params"]]
        if self.model is None:
            check_in_place(params)
        if options.check_ranks:
            meet("td.attach", params)
        self._engine = self._build(plan, self._before)

    def is_outdated(self) -> bool:
        """Whether parameters were added, replaced, frozen, unfrozen or cast since the plan was lowered."""
        return self._engine.is_outdated()

    def update(self, plan: Plan) -> None:
        """Go on with another plan from the next step; counters and peaks are kept, references of new rows are made.

        Also the way to tell the handle of parameters that were added or unfrozen since.

        Raises:
            ApplyError: as `torchdecay.attach`; the old plan is then still at work.
        """
        before = self._stood()
        engine = self._build(plan, before)
        present = {id(param) for params in engine.members for param in params}
        back = [one for one, _ in self._former if any(id(p) in present for params in one.members for p in params)]
        engine.inherit(self._engine, back)
        if self._options.step is not None:
            self._count_by_run(engine)
        values = engine.check()
        self._engine.passes.give_back()
        ran = [*self._former, (self._engine, self._before)]
        self._former = [(one, stood) for one, stood in ran if one.shed(present)]
        self._engine, self.plan, self._before = engine, plan, before
        for one in self._watches:
            one.remove()
        self._watches = watch(self.model, engine.passes.rows)
        self._take_over(values)

    def _count_by_run(self, engine: Engine) -> None:
        """Groups that came since count as the run does, which is at the step of the group that took most."""
        known = {id(param) for params in self._engine.members for param in params}
        at = max((program.state.steps for program in self._engine.programs), default=0)
        for program, params in zip(engine.programs, engine.members, strict=True):
            if not any(id(param) in known for param in params):
                program.state.steps = max(at, program.state.steps)

    def _agree(self) -> Agreement | None:
        """Compare the plan with those of the other processes."""
        if self._options.stages is not None:
            check_stages(self._options.stages, self.plan)
        if not self._options.check_ranks:
            return None
        groups = zip(self._engine.lowering.groups, self._engine.members, strict=True)
        named = {name: param for group, params in groups for name, param in zip(group.names, params, strict=True)}
        wrapped = self.model.process_group if isinstance(self.model, DistributedDataParallel) else None
        expected = max(len(holders(named.values())), 0 if wrapped is None else wrapped.size())
        measured = (one.param for one in self._engine.measured())
        return Agreement(self.plan, self._engine.ledger.decays, named, expected, measured)

    def _build(self, plan: Plan, before: Sequence[Mapping[str, Any]]) -> Engine:
        # A model may have grown since: a backbone behind a head.
        named = self._named if self.model is None else self.model
        lowering = lower(plan, self.optimizer, model=named, via=self._options.via)
        masks = {row.decay.mask for row in plan.rows if row.decay is not None and row.decay.mask is not None}
        if masks:
            known = {name for row in plan.rows for name in row.names}
            known |= {name for group in lowering.groups for name in group.names}
            known |= set() if self.model is None else set(parameters_by_name(self.model))
            check_masks(masks, known, self._options.bind)
        groups = tuple(
            replace(group, replaces=stood.get("weight_decay"))
            for group, stood in zip(lowering.groups, before, strict=True)
        )
        with lasting(), collecting_later():
            lowered = replace(lowering, groups=groups)
            options, peaks = self._options, self._options.peaks(len(groups))
            return Engine(self.optimizer, lowered, options.bind, self.scheduler, self._run, peaks, options.stages)

    def _stood(self) -> list[dict[str, Any]]:
        """What stood in each group before the plan came."""
        groups, now = self.optimizer.param_groups, members(self.optimizer)
        found = [owned(group) for group in groups]
        for engine, before in (*self._former, (self._engine, self._before)):
            for index, place in enumerate(origins(engine.members, now)):
                # A group that was made anew of parameters that come back stands as it was made.
                if place is not None and (
                    engine is self._engine or str(groups[index].get(MARK)).startswith("attached")
                ):
                    found[index] = before[place]
        return found

    def _take_over(self, values: Sequence[float | Tensor | None]) -> None:
        """Write what native rows need into the groups; everything else decays by hook or not at all."""
        mark = mark_of(self.plan)
        self._marks = [mark] * len(self._engine.programs)
        for program, group in zip(self._engine.programs, self.optimizer.param_groups, strict=True):
            if program.lowering.switch is not None:
                group[SWITCH] = program.lowering.switch
            group[MARK] = mark
        self._engine.write(values)


def owned(group: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a group that a plan takes over, or stood there before a plan that has left its mark."""
    found = {key: group[key] for key in OWNED if key in group and not str(group[key]).startswith("attached")}
    return found | stood_in(group)
