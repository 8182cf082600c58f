"""`Handle`: a plan at work on an optimizer, through its hooks."""

from __future__ import annotations

import copy
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MethodType, TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.compiled import runner
from torchdecay.apply.engine import Engine, members, origins
from torchdecay.apply.kernels import in_parts
from torchdecay.apply.loss import penalty_of
from torchdecay.apply.lowering import Lowering, lower
from torchdecay.apply.routes import Via
from torchdecay.apply.row_pulls import RowPulls
from torchdecay.apply.sharded import lasting
from torchdecay.apply.state import GroupState, Loaded, OnLoad, check_class, mark_of, pack, unpack
from torchdecay.apply.stepping import Arguments, guard_steps, leave_traceback, run_last, step_depth, with_closure
from torchdecay.apply.work import Cost
from torchdecay.errors import ApplyError, ForgottenPenaltyWarning, LoadError, OwnershipWarning
from torchdecay.optimizers.cards import SWITCH
from torchdecay.optimizers.gradients import maximizes
from torchdecay.optimizers.wrappers import unwrap
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import parameters_by_name
from torchdecay.text import nearest

# The optimizer's hooks keep the handle alive; a strong reference here would keep the optimizer alive.
_ATTACHED: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Handle]] = weakref.WeakKeyDictionary()
_OWNED = (MARK, SWITCH, "weight_decay")


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
    """

    def __init__(
        self,
        optimizer: Optimizer,
        plan: Plan,
        *,
        model: nn.Module | None,
        via: Via,
        on_load: OnLoad,
        bind: Bindings,
        scheduler: Any,
        compile: bool,
    ) -> None:
        self.optimizer, self.plan, self.model, self.scheduler = optimizer, plan, model, scheduler
        self._via, self._on_load, self._bind = via, on_load, bind
        self._run = runner() if compile else in_parts
        self._before = [_owned(group) for group in optimizer.param_groups]
        # Of parameters that were taken out of the optimizer, for when they come back: oldest first.
        self._former: list[tuple[Engine, list[dict[str, Any]]]] = []
        self._engine = self._build(plan, self._before)
        # Of a checkpoint that was loaded before, the groups' marks are left.
        groups = optimizer.param_groups
        loaded = unpack({"param_groups": groups}, plan, self._engine.ledger, self._engine.references, on_load)
        if loaded is not None:
            self._count(self._engine, loaded.groups)
            self._engine.passes.load(loaded.scalars)
        values = self._engine.check()
        self._engine.passes.debts.take(self._engine.pulled())
        self._depth = 0
        self._is_gone = self._penalty_called = False
        self._loaded: Loaded | None = None
        self._watches: list[RemovableHandle] = []
        self._hooks: list[RemovableHandle] = []
        self._unguard: Callable[[], None] = lambda: None
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
        self._unguard = guard_steps(optimizer, handle_of)
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

    def reference(self, name: str) -> Tensor | None:
        """The tensor that a parameter is pulled toward, not a copy; None is 0."""
        return self._engine.targets[name][1].held if name in self._engine.targets else None

    def mask(self, name: str) -> Tensor | None:
        """The entries of a parameter that take part in its pull; None is all."""
        return self._engine.targets[name][1].mask if name in self._engine.targets else None

    def cost(self, name: str) -> Cost:
        """What the decay of one parameter costs beside the optimizer's own step."""
        if name not in self._engine.targets:
            return Cost()
        decay, one = self._engine.targets[name]
        read = sum(tensor.nbytes for tensor in (one.held, one.mask) if tensor is not None)
        passes = {Site.LOSS: 0, Site.GRADIENT: 3}.get(decay.site, 2)
        return Cost(read, passes and passes * one.param.nbytes + read)

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
        values = engine.check()
        self._engine.passes.give_back()
        ran = [*self._former, (self._engine, self._before)]
        self._former = [(one, stood) for one, stood in ran if one.shed(present)]
        self._engine, self.plan, self._before = engine, plan, before
        for watch in self._watches:
            watch.remove()
        self._watches = self._watch()
        self._take_over(values)

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
            self._unguard()

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of "initial" references by parameter name: to be saved beside the optimizer's state."""
        self._follow_known()
        return dict(self._engine.references.initial())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take "initial" references from `state_dict()` of the run that is resumed.

        Raises:
            LoadError: a name is missing or unknown, or a shape differs; nothing is changed then.
        """
        mine = self._engine.references.initial()
        for name in state:
            if name not in mine:
                raise LoadError(f'"{name}" has no "initial" reference here.', fix=nearest(name, mine))
        for name, tensor in mine.items():
            if name not in state or state[name].shape != tensor.shape:
                found = f"of shape {tuple(state[name].shape)}" if name in state else "missing"
                raise LoadError(f'the reference of "{name}", of shape {tuple(tensor.shape)}, is {found}.')
        self._engine.references.load(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        """The plan at work on a copy of the optimizer: its hooks are not copied with it."""
        optimizer, model, scheduler = copy.deepcopy((self.optimizer, self.model, self.scheduler), memo)
        memo[id(self)] = made = Handle(
            optimizer,
            self.plan,
            model=model,
            via=self._via,
            on_load=self._on_load,
            bind=self._bind,
            scheduler=scheduler,
            compile=self._run is not in_parts,
        )
        made._before = copy.deepcopy(self._before)
        made._count(made._engine, [replace(program.state) for program in self._engine.programs])
        made._engine.passes.load(self._engine.passes.scalars())
        made._engine.references.load(self._engine.references.initial())
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        raise ApplyError(
            "a handle can't be pickled.",
            "The hooks of an optimizer are not saved with it.",
            "Save optimizer.state_dict(), and handle.state_dict() beside it; attach the plan again, and load them.",
        )

    def __repr__(self) -> str:
        routes = [row.route for row in self.lowering.rows]
        counts = ", ".join(f"{routes.count(route)} by {route}" for route in dict.fromkeys(routes))
        return f"<Handle on {type(self.optimizer).__name__}: {counts}>"

    def _build(self, plan: Plan, before: Sequence[Mapping[str, Any]]) -> Engine:
        lowering = lower(plan, self.optimizer, model=self.model, via=self._via)
        groups = tuple(
            replace(group, replaces=stood.get("weight_decay"))
            for group, stood in zip(lowering.groups, before, strict=True)
        )
        with lasting():
            return Engine(self.optimizer, replace(lowering, groups=groups), self._bind, self.scheduler, self._run)

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
        self._ask_for_penalty()
        self._engine.before(late=late)

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
            if called:
                self._engine.passes.again()
            elif not self._is_gone:
                self._begin(late=late)
            called = True
            return loss

        return evaluate

    def _post_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0 and not self._is_gone:
            self._engine.after()

    def _follow_groups(self) -> None:
        """Take over parameters that were added, unfrozen or cast since."""
        if self.is_outdated():
            self.update(self.plan)

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
                    warnings.warn(
                        f"group {program.lowering.index}: {key} was set to {found!r} after attach, which owns "
                        f"it; it is {mine!r} again. To change a running job, use handle.update(plan).",
                        OwnershipWarning,
                        stacklevel=6,
                    )
                group[key] = mine

    def _ask_for_penalty(self) -> None:
        if not self._penalty_called and self._engine.expects_penalty():
            warnings.warn(
                "the plan has rows that decay through a penalty in the loss, but handle.penalty() was not called "
                "since the last step, so these weights do not decay. Write loss = loss + handle.penalty(model).",
                ForgottenPenaltyWarning,
                stacklevel=7,
            )
        self._penalty_called = False

    def _save(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        self._follow_known()
        engine = self._engine
        groups = [program.state for program in engine.programs]
        pack(state, self.plan, groups, engine.ledger, engine.passes.scalars(), engine.references)

    def _check_load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Refuse a checkpoint that means something else, or has no next step, before torch has changed anything."""
        self._follow_groups()
        loaded = unpack(state, self.plan, self._engine.ledger, self._engine.references, self._on_load)
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
        if loaded is not None:
            self._count(self._engine, loaded.groups)
            self._engine.passes.load(loaded.scalars)
            if loaded.plan is not self.plan:
                self.update(loaded.plan)
                return
        self._take_over(self._engine.check())

    @staticmethod
    def _count(engine: Engine, states: Sequence[GroupState]) -> None:
        for program, state in zip(engine.programs, states, strict=False):
            program.state = state


def _owned(group: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a group that a plan takes over; what a plan before has left is no one's."""
    return {key: group[key] for key in _OWNED if key in group and not str(group[key]).startswith("attached")}


def _found(tensors: Mapping[str, nn.Parameter], name: str) -> nn.Parameter:
    if name not in tensors:
        raise ApplyError(
            f'handle.penalty(model): the model has no parameter "{name}".',
            "The plan has a row for it that decays through the loss.",
            nearest(name, tensors) or "Pass the model that the plan was made for, or no model at all.",
        )
    return tensors[name]
