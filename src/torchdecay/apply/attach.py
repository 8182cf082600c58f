"""`attach`: carry a plan out on an optimizer, through its hooks, and `Handle`, which owns that."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.compiled import runner
from torchdecay.apply.engine import Engine
from torchdecay.apply.kernels import in_parts
from torchdecay.apply.loss import penalty_of
from torchdecay.apply.lowering import Lowering, Via, lower
from torchdecay.apply.state import Loaded, OnLoad, mark_of, pack, unpack
from torchdecay.errors import ApplyError, ForgottenPenaltyWarning, LoadError, OwnershipWarning
from torchdecay.optimizers.cards import SWITCH
from torchdecay.plans.decay import Decay
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan as make_plan
from torchdecay.plans.tree import parameters_by_name
from torchdecay.text import nearest

# The optimizer's hooks keep the handle alive; a strong reference here would keep the optimizer alive.
_ATTACHED: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Handle]] = weakref.WeakKeyDictionary()
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_OWNED = (MARK, SWITCH, "weight_decay")
# What torch puts around every `step`, found on the stack while one is under way.
_STEP_WRAPPER = Optimizer.profile_hook_step(lambda self: None).__code__


def attach(
    optimizer: Optimizer,
    plan: Plan | Decay | float,
    *,
    model: nn.Module | None = None,
    via: Via = "auto",
    on_load: OnLoad = "plan",
    bind: Bindings | None = None,
    scheduler: Any = None,
    compile: bool = False,
) -> Handle:
    """Carry a plan out on an optimizer from its next step on.

    Rows that are the optimizer's own weight_decay are written into its groups and cost nothing; the rest runs in
    hooks around `step`, also with closures, gradient scaling and gradient accumulation. From here on the handle owns
    `weight_decay` in every group: what stood there is reported in `handle.lowering` and put back by
    `handle.remove()`. A step at learning rate 0 changes no weight, and a skipped step does not count.

    Args:
        optimizer: any torch optimizer; LBFGS takes penalties only.
        plan: a `Plan`; or a Decay or number, planned for `model` with the standard rules.
        model: the model, needed when the optimizer's groups have no `param_names`.
        via: "hook" never uses the optimizer's own weight_decay.
        on_load: whose coefficients win when a checkpoint has others: "plan" (this one), "checkpoint", or "equal"
            (differing is an error). Another who or form is an error always.
        bind: tensors for the names that references and masks in the plan go by: {name: {parameter name: tensor}}.
        scheduler: the learning rate scheduler, where the peak is known to it alone (CyclicLR).
        compile: run the passes that are more than one multiplication (cautious, L1, Huber, ...) through
            torch.compile: one read and one write of each tensor. The first step takes seconds; worth it for models
            of tens of millions of weights. Where nothing can be compiled they run as they are, with a warning.

    Returns:
        A `Handle`, also a context manager.

    Raises:
        ApplyError: a plan is attached already, the optimizer can't carry a row out, or lr·λ is 1 or more.
        PlanError: the plan and the model do not fit.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> handle = td.attach(optimizer, td.plan(model, td.decoupled(0.01)), model=model)
        >>> model(torch.ones(2)).sum().backward()
        >>> optimizer.step()
        >>> handle.remove()
    """
    if not isinstance(optimizer, Optimizer):
        raise ApplyError(
            f"attach got a {type(optimizer).__name__} where a torch optimizer belongs.",
            fix="Attach to each torch.optim.Optimizer on its own, before it is wrapped.",
        )
    if handle_of(optimizer) is not None:
        raise ApplyError(
            "a plan is attached to this optimizer already.",
            "Two would decay the weights twice.",
            "Use handle.update(plan) to change it, or handle.remove() first.",
        )
    if on_load not in ("plan", "checkpoint", "equal"):
        raise ApplyError(f"on_load is {on_load!r}.", fix='Write "plan", "checkpoint" or "equal".')
    if not isinstance(plan, Plan):
        if model is None:
            raise ApplyError(f"{plan!r} is not a plan.", fix="Give td.plan(model, ...), or pass model= as well.")
        plan = make_plan(model, plan)
    handle = Handle(
        optimizer, plan, model=model, via=via, on_load=on_load, bind=bind or {}, scheduler=scheduler, compile=compile
    )
    _ATTACHED[optimizer] = weakref.ref(handle)
    return handle


def handle_of(optimizer: Optimizer) -> Handle | None:
    """The handle of the plan that is attached to this optimizer, or None."""
    found = _ATTACHED.get(optimizer)
    return found() if found is not None else None


class Handle:
    """A plan at work on an optimizer. Made by `torchdecay.attach`.

    Attributes:
        optimizer: the optimizer.
        plan: the plan that is carried out.
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
        self.optimizer, self.plan = optimizer, plan
        self._model, self._via, self._on_load = model, via, on_load
        self._bind, self._scheduler = bind, scheduler
        self._run = runner() if compile else in_parts
        self._before = [_owned(group) for group in optimizer.param_groups]
        self._engine = self._build(plan)
        values = self._engine.check()
        self._depth = 0
        self._penalty_called = False
        self._loaded: Loaded | None = None
        self._watches = self._watch()
        # torch.compile(optimizer.step) would trace what runs here, and again whenever a counter changes.
        disable: Callable[..., Any] = torch.compiler.disable
        self._prepare_uncompiled: Callable[..., _Arguments | None] = disable(self._prepare)
        self._finish_uncompiled: Callable[[], None] = disable(self._finish)
        self._hooks = [
            optimizer.register_step_pre_hook(self._pre_step),
            optimizer.register_step_post_hook(self._post_step),
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_pre_hook(self._check_load),
            optimizer.register_load_state_dict_post_hook(self._finish_load),
        ]
        self._take_over(values)

    @property
    def lowering(self) -> Lowering:
        """How each row is carried out."""
        return self._engine.lowering

    def max_lr(self, index: int) -> float | None:
        """The peak learning rate that a group's decay is scaled by; None before the first step, or when none is."""
        return self._engine.programs[index].state.max_lr

    def penalty(self, model: nn.Module | None = None) -> Tensor:
        """The penalty of the plan's LOSS rows, Σ λ_t·R(θ − ref): add it to the loss, at every evaluation.

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
            for pull in program.penalties:
                params = pull.params if tensors is None else [_found(tensors, name) for name in pull.names]
                coefficient = self._engine.coefficient(program, pull.decay)
                terms.append(penalty_of(pull.decay.regularizer, coefficient, params, pull.references, pull.masks))
        return sum(terms[1:], start=terms[0]) if terms else torch.zeros(())

    def flush(self) -> None:
        """Let every row of tables with `rows="lazy"` pay what it owes: the weights are then those of `rows="all"`.

        Needed before the weights are read other than by the steps and by the embeddings of `attach(..., model=)`,
        whose rows catch up as they are read: before exporting the weights, say. `update` and `remove` do it. A
        checkpoint needs no flush: what is owed is saved in the optimizer's state dict, and paid by the run that
        resumes; but save the model's state and the optimizer's without a step or a forward pass in between.
        """
        self._engine.flush()

    def update(self, plan: Plan) -> None:
        """Go on with another plan from the next step; counters and peaks are kept, references of new rows are made.

        Also the way to tell the handle of parameters that were added or unfrozen since.

        Raises:
            ApplyError: as `torchdecay.attach`; the old plan is then still at work.
        """
        engine = self._build(plan)
        engine.inherit(self._engine)
        values = engine.check()
        self._engine.give_back()
        self._engine, self.plan = engine, plan
        for watch in self._watches:
            watch.remove()
        self._watches = self._watch()
        self._before += [_owned(group) for group in self.optimizer.param_groups[len(self._before) :]]
        self._take_over(values)

    def remove(self) -> None:
        """Stop: hooks gone, and every group's `weight_decay` what it was before. Calling it twice is fine."""
        if handle_of(self.optimizer) is not self:
            return
        self._engine.give_back()
        self._engine.flush()
        for hook in (*self._hooks, *self._watches):
            hook.remove()
        for group, before in zip(self.optimizer.param_groups, self._before, strict=False):
            for key in _OWNED:
                if key in before:
                    group[key] = before[key]
                else:
                    group.pop(key, None)
        del _ATTACHED[self.optimizer]

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of "initial" references by parameter name: to be saved beside the optimizer's state."""
        return dict(self._engine.initial_references())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take "initial" references from `state_dict()` of the run that is resumed.

        Raises:
            LoadError: a name is missing or unknown, or a shape differs; nothing is changed then.
        """
        mine = self._engine.initial_references()
        for name in state:
            if name not in mine:
                raise LoadError(f'"{name}" has no "initial" reference here.', fix=nearest(name, mine))
        for name, tensor in mine.items():
            if name not in state or state[name].shape != tensor.shape:
                found = f"of shape {tuple(state[name].shape)}" if name in state else "missing"
                raise LoadError(f'the reference of "{name}", of shape {tuple(tensor.shape)}, is {found}.')
        self._engine.load_references(state)

    def __repr__(self) -> str:
        routes = [row.route for row in self.lowering.rows]
        counts = ", ".join(f"{routes.count(route)} by {route}" for route in dict.fromkeys(routes))
        return f"<Handle on {type(self.optimizer).__name__}: {counts}>"

    def _build(self, plan: Plan) -> Engine:
        lowering = lower(plan, self.optimizer, model=self._model, via=self._via)
        stood = [before.get("weight_decay") for before in self._before]
        stood += [group.replaces for group in lowering.groups[len(stood) :]]
        groups = tuple(replace(group, replaces=wd) for group, wd in zip(lowering.groups, stood, strict=True))
        lowering = replace(lowering, groups=groups)
        return Engine(self.optimizer, lowering, self._bind, self._scheduler, self._run)

    def _watch(self) -> list[RemovableHandle]:
        """Hooks by which rows that pay late catch up before an embedding reads them."""
        late = {id(param) for param in self._engine.lazy_params()}
        tables = (nn.Embedding, nn.EmbeddingBag)
        found = [] if self._model is None or not late else self._model.modules()
        return [
            module.register_forward_pre_hook(self._catch_up, with_kwargs=True)
            for module in found
            if isinstance(module, tables) and id(module.weight) in late
        ]

    def _catch_up(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows, weight = args[0] if args else kwargs.get("input"), module.weight
        if isinstance(rows, Tensor) and isinstance(weight, Tensor):
            self._engine.catch_up(weight, rows)

    def _take_over(self, values: Sequence[float | None]) -> None:
        """Write what native rows need into the groups; everything else decays by hook or not at all."""
        mark = mark_of(self.plan)
        for program, group in zip(self._engine.programs, self.optimizer.param_groups, strict=True):
            if program.lowering.switch is not None:
                group[SWITCH] = program.lowering.switch
            group[MARK] = mark
        self._engine.write(values)

    def _pre_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments | None:
        return self._prepare_uncompiled(args, kwargs)

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments | None:
        if self._depth and step_depth(self.optimizer) < 2:
            # The step before this one raised, so its post hook never came.
            self._depth = 0
        self._depth += 1
        if self._depth > 1:
            return None
        self._engine.reset()
        try:
            self._follow_groups()
            self._reclaim()
            closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
            if closure is None or not callable(closure):
                self._begin()
                return None
        except Exception:
            self._depth = 0
            raise
        wrapped = self._after_closure(closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": wrapped}
        return (args[0], wrapped, *args[2:]), kwargs

    def _begin(self) -> None:
        """What a step needs once its gradients are there."""
        self._ask_for_penalty()
        self._engine.before()

    def _after_closure(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        called = False

        def evaluate() -> Any:
            nonlocal called
            if called and self._engine.has_pulls:
                self._engine.give_back()
                raise ApplyError(
                    f"{type(self.optimizer).__name__} evaluates its closure more than once a step.",
                    "Each evaluation would have to see the same function, so decay by hook is not defined.",
                    "Use td.penalized(wd) and add handle.penalty(model) to the loss inside the closure.",
                )
            loss = closure()
            if not called:
                self._begin()
            called = True
            return loss

        return evaluate

    def _post_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._finish_uncompiled()

    def _finish(self) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self._engine.after()

    def _follow_groups(self) -> None:
        """Take over parameters that were added or unfrozen since.

        Raises:
            ApplyError: the plan does not know one of them.
        """
        if self._engine.is_outdated():
            self.update(self.plan)

    def _reclaim(self) -> None:
        """Own `weight_decay` again where another hand wrote it."""
        for program, group in zip(self._engine.programs, self.optimizer.param_groups, strict=True):
            found = group.get("weight_decay")
            if found is program.written:
                continue
            if found != program.written:
                warnings.warn(
                    f"group {program.lowering.index}: weight_decay was set to {found!r} after attach, which owns "
                    f"it; it is {program.written!r} again. To change a running job, use handle.update(plan).",
                    OwnershipWarning,
                    stacklevel=6,
                )
            group["weight_decay"] = program.written

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
        pack(state, self.plan, self._engine)

    def _check_load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Refuse a checkpoint that means something else, before torch has changed anything."""
        self._follow_groups()
        self._loaded = unpack(state, self.plan, self._engine, self._on_load)

    def _finish_load(self, optimizer: Optimizer) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            for program, state in zip(self._engine.programs, loaded.groups, strict=False):
                program.state = state
            if loaded.scalars is not None:
                self._engine.load_scalars(loaded.scalars)
            if loaded.plan is not None and self._on_load == "checkpoint":
                self.update(self.plan.with_coefficients_of(loaded.plan))
                return
        self._take_over(self._engine.check())


def step_depth(optimizer: Optimizer) -> int:
    """How many steps of this optimizer are under way, one inside the other, by their wrappers on the stack."""
    frame: FrameType | None = sys._getframe(1)
    found = 0
    while frame is not None:
        if frame.f_code is _STEP_WRAPPER and frame.f_locals.get("self") is optimizer:
            found += 1
        frame = frame.f_back
    return found


def _owned(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: group[key] for key in _OWNED if key in group}


def _found(tensors: Mapping[str, nn.Parameter], name: str) -> nn.Parameter:
    if name not in tensors:
        raise ApplyError(
            f'handle.penalty(model): the model has no parameter "{name}".',
            "The plan has a row for it that decays through the loss.",
            nearest(name, tensors) or "Pass the model that the plan was made for, or no model at all.",
        )
    return tensors[name]


__all__ = ["Handle", "OnLoad", "attach", "handle_of", "step_depth"]
