"""`Handle`: a plan at work on an optimizer, through its hooks."""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MethodType, TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchdecay.apply.bindings import Bindings, check_masks
from torchdecay.apply.compiled import runner
from torchdecay.apply.copies import (
    Bond,
    Remembered,
    carry,
    forget_copying,
    is_there,
    readable,
    remembered_by,
    what_is_copied,
)
from torchdecay.apply.engine import Engine, members, origins
from torchdecay.apply.kernels import in_parts
from torchdecay.apply.loss import penalty_of
from torchdecay.apply.lowering import Lowering, lower
from torchdecay.apply.ranks import Agreement, holders, meet
from torchdecay.apply.routes import Via
from torchdecay.apply.row_pulls import RowPulls
from torchdecay.apply.state import GroupState, Loaded, OnLoad, check_class, initial_in, mark_of, pack, stood_in, unpack
from torchdecay.apply.stepping import Arguments, guard_steps, leave_traceback, run_last, step_depth, with_closure
from torchdecay.apply.work import Cost, lasting
from torchdecay.errors import (
    ApplyError,
    ForgottenPenaltyWarning,
    OwnershipWarning,
    TorchdecayError,
    warn_in_step,
)
from torchdecay.optimizers.cards import SWITCH, late_because
from torchdecay.optimizers.gradients import maximizes
from torchdecay.optimizers.wrappers import unwrap
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import parameters_by_name
from torchdecay.records import collecting_later, is_opaque
from torchdecay.text import nearest

# The optimizer's hooks keep the handle alive; a strong reference here would keep the optimizer alive.
_ATTACHED: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Handle]] = weakref.WeakKeyDictionary()
_OWNED = (MARK, SWITCH, "weight_decay")
_LIVE = ("optimizer", "model", "scheduler", "_engine", "_marks", "_former", "_is_gone", "_penalty_called")
"""What a handle has that is at work, and one that was pickled has not."""


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

    def peaks(self, count: int) -> list[float | None]:
        """The peak that was given for each group; groups that came later than the numbers find their own."""
        given = list(self.max_lr) if isinstance(self.max_lr, Sequence) else [self.max_lr] * count
        return [*given, *[None] * count][:count]


def handle_of(optimizer: object) -> Handle | None:
    """The handle of the plan that is attached to this optimizer, or inside it; None also of what is none."""
    found = _ATTACHED.get(optimizer) if isinstance(optimizer, Optimizer) else None
    if found is None and isinstance(inside := unwrap(optimizer), Optimizer):
        found = _ATTACHED.get(inside)
    return found() if found is not None else None


_TABLES = (nn.Embedding, nn.EmbeddingBag)


class _CatchUp:
    """What a module of the model calls before it reads rows that pay late: all, where it reads more than it is told.

    It is saved and copied with the model, and is then nobody's: the optimizer and its plan are no part of a model.
    """

    def __init__(self, rows: RowPulls | None = None, *, whole: bool = False) -> None:
        self._rows, self._whole = rows, whole

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._rows is None:
            return
        read = args[0] if args else kwargs.get("input")
        for weight in module._parameters.values():
            if weight is not None:
                self._rows.catch_up(weight, None if self._whole or not isinstance(read, Tensor) else read)

    def __reduce__(self) -> tuple[type[_CatchUp], tuple[()]]:
        return _CatchUp, ()


class Handle:
    """A plan at work on an optimizer. Made by `torchdecay.attach`.

    Attributes:
        optimizer: the optimizer.
        plan: the plan that is carried out.
        model: the model that was given, or None.
        scheduler: the scheduler that was given, or None.
        left: of a handle that was pickled, what `torchdecay.attach` goes on from; None of one that is at work.
    """

    left: Remembered | None = None

    def __init__(
        self,
        optimizer: Optimizer,
        plan: Plan,
        *,
        model: nn.Module | None,
        options: Options,
        remembered: Remembered | None = None,
        names: Mapping[str, Tensor] | None = None,
        outer: Sequence[Optimizer] = (),
    ) -> None:
        self.optimizer, self.plan, self.model, self.scheduler = optimizer, plan, model, options.scheduler
        self._options, self._names, self._outer, self._bond = options, names, outer, Bond()
        self._run, self.left = runner() if options.compile else in_parts, None
        # Also a plan that begins anew puts back what stood there before the one that left its marks.
        left = (remembered or remembered_by(optimizer) or {}).get(MARK, {})
        self._before = [dict(stood) for stood in left.get("stood", ())] or list(map(_owned, optimizer.param_groups))
        # Of parameters that were taken out of the optimizer, for when they come back: oldest first.
        self._former: list[tuple[Engine, list[dict[str, Any]]]] = []
        if options.check_ranks:
            meet("td.attach", (param for group in optimizer.param_groups for param in group["params"]))
        self._engine = self._build(plan, self._before)
        if "initial" in options.bind:
            self.load_state_dict(initial_in(options.bind["initial"]) or options.bind["initial"])
        if remembered is not None:
            loaded = unpack(remembered, plan, self._engine.ledger, self._engine.references, options.on_load)
            self._take_in(loaded)
            if loaded is not None and loaded.plan is not plan:
                self.plan, engine = loaded.plan, self._build(loaded.plan, self._before)
                engine.inherit(self._engine)
                self._engine = engine
        elif options.step is not None:
            for program in self._engine.programs:
                program.state.steps = options.step
        values = self._engine.check()
        self._agreement = self._agree()
        self._engine.passes.debts.take(self._engine.pulled())
        self._depth = 0
        self._is_gone = self._penalty_called = False
        self._loaded: Loaded | None = None
        self._watches: list[RemovableHandle] = []
        self._hooks: list[RemovableHandle] = []
        self._undo: list[Callable[[], None]] = []
        _ATTACHED[optimizer] = weakref.ref(self)
        try:
            self._install(values)
        except BaseException:
            # Half of it would break the next step, or decay a part.
            self.remove()
            raise

    def _install(self, values: Sequence[float | Tensor | None]) -> None:
        optimizer, disable = self.optimizer, cast(Callable[..., Any], torch.compiler.disable)
        self._watches = self._watch()
        # torch.compile(optimizer.step) would trace what runs here, and again whenever a counter changes.
        self._hooks = [
            optimizer.register_step_pre_hook(MethodType(disable(Handle._pre_step), self)),
            optimizer.register_step_post_hook(MethodType(disable(Handle._post_step), self)),
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_pre_hook(self._check_load),
            optimizer.register_load_state_dict_post_hook(self._finish_load),
        ]
        # Other hooks find gradients and weights as they are without a plan, before the step, and after it.
        optimizer._optimizer_step_post_hooks.move_to_end(self._hooks[1].id, last=False)  # type: ignore[attr-defined]
        self._hooks += [one.register_state_dict_post_hook(self._save) for one in self._outer]
        bond = carry(optimizer, self._bond, self._remembered)
        self._undo = [guard_steps(optimizer, handle_of), bond, self._follow_own_load()]
        forget_copying(optimizer)
        self._take_over(values)

    @property
    def lowering(self) -> Lowering:
        """How each row is carried out."""
        self._follow_known()
        return self._engine.lowering

    def steps(self, index: int) -> int:
        """Steps that a parameter group has really taken, which its schedules count."""
        self._follow_known()
        return self._engine.programs[index].state.steps

    def max_lr(self, index: int, decay: Decay | None = None) -> float | None:
        """The peak learning rate that a group's decay is scaled by.

        Args:
            index: of the parameter group.
            decay: a decay in this group; None asks for what the group keeps for all that give no `max_lr`, which is
                None before its first step, or when nothing needs it.

        Raises:
            ApplyError: the peak of the `decay`, found as for the step that comes next, is not above 0.
        """
        self._follow_known()
        program = self._engine.programs[index]
        return program.state.max_lr if decay is None else program.peak(decay)

    def outgrown(self, index: int) -> float | None:
        """The peak that a group's decay went by until its learning rate rose above it; None where it never did."""
        self._follow_known()
        return self._engine.programs[index].state.outgrown

    def reference(self, name: str) -> Tensor | None:
        """The tensor that a parameter is pulled toward, not a copy; None is 0."""
        return self._engine.targets[name][1].held if name in self._engine.targets else None

    def mask(self, name: str) -> Tensor | None:
        """The entries of a parameter that take part in its pull, or what each is multiplied by; None is all."""
        one = self._engine.targets[name][1] if name in self._engine.targets else None
        return None if one is None else one.mask if one.weights is None else one.weights

    def cost(self, name: str) -> Cost:
        """What the decay of one parameter costs beside the optimizer's own step."""
        if name not in self._engine.targets:
            return Cost()
        decay, one = self._engine.targets[name]
        read = sum(tensor.nbytes for tensor in (one.held, one.mask, one.weights) if tensor is not None)
        copy = one.param.nbytes if decay.update is not None and decay.update.keeps_copy else 0
        # The copy is written, and read for the norms and for the sum, each time beside the weights.
        passes = {Site.LOSS: 0, Site.GRADIENT: 3}.get(decay.site, 7 if copy else 3 if decay.update is not None else 2)
        return Cost(read + copy, passes and passes * one.param.nbytes + read)

    def is_emptied(self, name: str) -> bool:
        """Whether a parameter is 0 just now, while the optimizer steps, so that its update is seen whole."""
        return self._engine.passes.is_emptied(name)

    @property
    def debts(self) -> dict[str, float]:
        """What low-precision weights still owe, by parameter name: below 0 as a log-shrink, above as a displacement."""
        return self._engine.passes.debts.added | self._engine.passes.debts.owed

    @property
    def duals(self) -> dict[str, float]:
        """The dual variable μ of each parameter that `constrained` holds, by name."""
        return self._engine.passes.duals()

    def penalty(self, model: nn.Module | None = None) -> Tensor:
        """The penalty of the plan's LOSS rows, Σ λ_t·R(θ − ref): add it to the loss, at every evaluation.

        Negative for groups that maximize, so that added to what is maximized it shrinks weights there too.

        Args:
            model: where to look the parameters up by name; None takes those of the optimizer.

        Returns:
            A 0-d tensor; 0 when the plan has no LOSS rows.
        """
        self._penalty_called = True
        self._follow_groups()
        terms = []
        tensors = None if model is None else parameters_by_name(model)
        for program in self._engine.programs:
            sign = -1.0 if maximizes(self.optimizer, program.group) else 1.0
            for pull in program.penalties:
                params = [one.param if tensors is None else _found(tensors, one.name) for one in pull.targets]
                coefficient = sign * program.coefficient(pull.decay)
                terms.append(penalty_of(pull.decay.regularizer, coefficient, params, pull.targets))
        return sum(terms[1:], start=terms[0]) if terms else torch.zeros(())

    def flush(self) -> None:
        """Let every row of tables with `rows="lazy"` pay what it owes: the weights are then those of `rows="all"`.

        Needed before the weights are read other than by the steps and by the embeddings of `attach(..., model=)`,
        whose rows catch up as they are read: before exporting the weights, say. `update` and `remove` do it. A
        checkpoint needs no flush: what is owed is saved in the optimizer's state dict, and paid by the run that
        resumes; but save the model's state and the optimizer's without a step or a forward pass in between.
        """
        self._engine.passes.rows.flush()

    def forgive(self) -> None:
        """Forget what rows of tables with `rows="lazy"` owe, for a measurement that begins where nothing is owed."""
        self._engine.passes.rows.forget()

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
        for watch in self._watches:
            watch.remove()
        self._watches = self._watch()
        self._take_over(values)

    def _count_by_run(self, engine: Engine) -> None:
        """Groups that came since count as the run does, which is at the step of the group that took most."""
        known = {id(param) for params in self._engine.members for param in params}
        at = max((program.state.steps for program in self._engine.programs), default=0)
        for program, params in zip(engine.programs, engine.members, strict=True):
            if not any(id(param) in known for param in params):
                program.state.steps = max(at, program.state.steps)

    def remove(self) -> None:
        """Stop: hooks gone, and every group's `weight_decay` what it was before. Calling it twice is fine."""
        if handle_of(self.optimizer) is not self:
            return
        self._engine.passes.give_back()
        self._engine.passes.rows.flush()
        self._engine.passes.debts.leave(self._engine.pulled())
        self._is_gone = True
        self.depart()
        for group, before in zip(self.optimizer.param_groups, self._stood(), strict=True):
            for key in _OWNED:
                if key in before:
                    group[key] = before[key]
                else:
                    group.pop(key, None)
        del _ATTACHED[self.optimizer]

    def depart(self) -> None:
        """Take the hooks of a handle that is removed away, unless a step is under way, which goes through them."""
        if self._is_gone and not step_depth(self.optimizer):
            for hook in (*self._hooks, *self._watches):
                hook.remove()
            for undo in self._undo:
                undo()

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

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

    def _remembered(self, *, keep: bool | torch.dtype = True) -> Remembered:
        """What a copy of the optimizer takes along, with what it is pulled toward or without."""
        self._follow_known()
        state: dict[str, Any] = {"param_groups": [dict(group) for group in self.optimizer.param_groups]}
        self._pack(state, keep=keep)
        found: Remembered = state[MARK] | {"stood": self._stood()}
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
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
            memo[id(self)] = sleeping = Handle.__new__(Handle)
            sleeping.__setstate__(copy.deepcopy(self.__getstate__(), memo) | {"_twin": memo.get(id(self.model))})
            return sleeping
        optimizer, model = copy.deepcopy((self.optimizer, self.model), memo)
        # Attached only now, since a scheduler's copy looks at the step that it wraps.
        options = replace(self._options, scheduler=copy.deepcopy(self.scheduler, memo))
        memo[id(self)] = made = Handle(
            optimizer, self.plan, model=model, options=options, remembered=remembered_by(optimizer)
        )
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Plan and counters, detached: a pickle has no hooks, and of the optimizer only what is pickled with it."""
        names = [list(group.names) for group in self._engine.lowering.groups]
        options = replace(self._options, bind={}, scheduler=None)
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
            given, left = vars(self).get("_twin"), remembered_by(optimizer)
            Handle.__init__(
                self, optimizer, self.plan, model=given, options=self._options, remembered=left, names=named
            )
        except TorchdecayError as error:
            return error.what
        return ""

    def begin(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """Come before a step that is under way."""
        return self._pre_step(optimizer, args, kwargs)

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

    def __repr__(self) -> str:
        if "_engine" not in vars(self):
            return f"<Handle, detached: {self.plan!r}>"
        routes = [row.route for row in self.lowering.rows]
        counts = ", ".join(f"{routes.count(route)} by {route}" for route in dict.fromkeys(routes))
        return f"<Handle on {type(self.optimizer).__name__}: {counts}>"

    def _agree(self) -> Agreement | None:
        """Compare the plan with those of the other processes."""
        if not self._options.check_ranks:
            return None
        groups = zip(self._engine.lowering.groups, self._engine.members, strict=True)
        named = {name: param for group, params in groups for name, param in zip(group.names, params, strict=True)}
        wrapped = self.model.process_group if isinstance(self.model, DistributedDataParallel) else None
        expected = max(len(holders(named.values())), 0 if wrapped is None else wrapped.size())
        return Agreement(self.plan, self._engine.ledger.decays, named, expected, self._engine.measured())

    def _build(self, plan: Plan, before: Sequence[Mapping[str, Any]]) -> Engine:
        named = self._names if self.model is None else self.model
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
            peaks = self._options.peaks(len(groups))
            return Engine(self.optimizer, lowered, self._options.bind, self.scheduler, self._run, peaks)

    def _stood(self) -> list[dict[str, Any]]:
        """What stood in each group before the plan came."""
        groups, now = self.optimizer.param_groups, members(self.optimizer)
        found = [_owned(group) for group in groups]
        for engine, before in (*self._former, (self._engine, self._before)):
            for index, place in enumerate(origins(engine.members, now)):
                # A group that was made anew of parameters that come back stands as it was made.
                if place is not None and (
                    engine is self._engine or str(groups[index].get(MARK)).startswith("attached")
                ):
                    found[index] = before[place]
        return found

    def _watch(self) -> list[RemovableHandle]:
        """Hooks by which rows that pay late catch up before they are read; all, where a table is tied to another."""
        late = {id(param) for param in self._engine.passes.rows.lazy_params()}
        modules = () if self.model is None or not late else self.model.modules()
        readers = [(one, [id(p) for p in one._parameters.values() if id(p) in late]) for one in modules]
        held = Counter(key for _, keys in readers for key in keys)
        return [
            module.register_forward_pre_hook(
                _CatchUp(
                    self._engine.passes.rows,
                    whole=not isinstance(module, _TABLES) or any(held[key] > 1 for key in keys),
                ),
                with_kwargs=True,
            )
            for module, keys in readers
            if keys
        ]

    def _take_over(self, values: Sequence[float | Tensor | None]) -> None:
        """Write what native rows need into the groups; everything else decays by hook or not at all."""
        mark = mark_of(self.plan)
        self._marks = [mark] * len(self._engine.programs)
        for program, group in zip(self._engine.programs, self.optimizer.param_groups, strict=True):
            if program.lowering.switch is not None:
                group[SWITCH] = program.lowering.switch
            group[MARK] = mark
        self._engine.write(values)

    def arrange(self) -> None:
        """Come after the hooks of others, which then see the gradients that are theirs."""
        run_last(self.optimizer._optimizer_step_pre_hooks, self._hooks[0])

    def abandon(self) -> None:
        """Take back what can be taken back of a step that raised; it does not count."""
        # Who retries the step need not ask for the penalty again.
        self._depth, self._penalty_called = 0, True
        self._engine.passes.take_back()
        self._engine.reset()

    def _pre_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        if self._is_gone:
            return None
        if self._depth and step_depth(self.optimizer) < 2:
            # The step before this one raised, so its post hook never came.
            self._depth = 0
        self._depth += 1
        if self._depth > 1:
            return None
        self._engine.reset()
        self._follow_groups()
        self._reclaim()
        changed = with_closure(args, kwargs, self._after_closure)
        if changed is None:
            self._begin()
        return changed

    def _begin(self, *, late: bool = False) -> None:
        """What a step needs once its gradients are there."""
        if self._agreement is not None:
            self._agreement.check()
            self._agreement = None
        self._ask_for_penalty()
        self._engine.before(late=late or bool(late_because(self.optimizer)))

    def _after_closure(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        called, start = False, self._engine.passes.versions()

        def evaluate() -> Any:
            nonlocal called
            # What moves the weights before it evaluates puts them back after that, and a pull with them.
            late = self._engine.passes.versions() != start
            if called:
                self._engine.passes.give_back()
            try:
                loss = closure()
            except BaseException as error:
                leave_traceback(error)
                raise
            if self._is_gone:
                return loss
            if called:
                self._engine.passes.again()
            else:
                self._begin(late=late)
            called = True
            return loss

        return evaluate

    def _post_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0 and not self._is_gone:
            self._engine.after()

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
                engine = self._engine
                self._loaded = unpack(state_dict, self.plan, engine.ledger, engine.references, self._options.on_load)
                self._finish_load(optimizer)

        optimizer.load_state_dict = load_state_dict  # type: ignore[method-assign]
        return lambda: vars(optimizer).pop("load_state_dict", None)

    def _follow_load(self) -> None:
        """Such a load, of a state that keeps no more than the groups' marks, or of who was copied."""
        remembered = remembered_by(self.optimizer)
        if remembered is not None:
            engine = self._engine
            self._loaded = unpack(remembered, self.plan, engine.ledger, engine.references, self._options.on_load)
        self._finish_load(self.optimizer)

    def _follow_known(self) -> None:
        """The same for who only reads: of a parameter that the plan does not know the next step complains."""
        with suppress(ApplyError):
            self._follow_groups()

    def _reclaim(self) -> None:
        """Own `weight_decay`, and the switch of what it means, again where another hand wrote them."""
        for program, group in zip(self._engine.programs, self.optimizer.param_groups, strict=True):
            owned: dict[str, Any] = {"weight_decay": program.written}
            if program.lowering.switch is not None:
                owned[SWITCH] = program.lowering.switch
            for key, mine in owned.items():
                found = group.get(key)
                if found is mine:
                    continue
                if found != mine:
                    warn_in_step(
                        f"group {program.lowering.index}: {key} was set to {found!r} after attach, which owns "
                        f"it; it is {mine!r} again. To change a running job, use handle.update(plan).",
                        OwnershipWarning,
                        stacklevel=6,
                    )
                group[key] = mine

    def _ask_for_penalty(self) -> None:
        if not self._penalty_called and self._engine.expects_penalty():
            warn_in_step(
                "the plan has rows that decay through a penalty in the loss, but handle.penalty() was not called "
                "since the last step, so these weights do not decay. Write loss = loss + handle.penalty(model).",
                ForgottenPenaltyWarning,
                stacklevel=7,
            )
        self._penalty_called = False

    def _save(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        self._follow_known()
        if len(state["param_groups"]) == len(self.optimizer.param_groups):
            self._pack(state, keep=self._options.save_references)

    def _pack(self, state: dict[str, Any], *, keep: bool | torch.dtype) -> None:
        engine = self._engine
        groups = [program.state for program in engine.programs]
        pack(state, self.plan, groups, engine.ledger, engine.passes.scalars(), engine.references, self._stood(), keep)

    def _check_load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Refuse a checkpoint that means something else, or has no next step, before torch has changed anything."""
        self._follow_groups()
        loaded = unpack(state, self.plan, self._engine.ledger, self._engine.references, self._options.on_load)
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
            self._count(self._engine, loaded.groups)
            self._engine.passes.load(loaded.scalars)
            if loaded.references:
                self._engine.references.load(loaded.references, given=False)
            self._engine.references.lose(loaded.paused)

    @staticmethod
    def _count(engine: Engine, states: Sequence[GroupState]) -> None:
        for program, state in zip(engine.programs, states, strict=False):
            program.state = state


def _owned(group: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a group that a plan takes over, or stood there before a plan that has left its mark."""
    found = {key: group[key] for key in _OWNED if key in group and not str(group[key]).startswith("attached")}
    return found | stood_in(group)


def _found(tensors: Mapping[str, nn.Parameter], name: str) -> nn.Parameter:
    if name not in tensors:
        raise ApplyError(
            f'handle.penalty(model): the model has no parameter "{name}".',
            "The plan has a row for it that decays through the loss.",
            nearest(name, tensors) or "Pass the model that the plan was made for, or no model at all.",
        )
    return tensors[name]
