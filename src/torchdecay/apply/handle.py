"""`Handle`: a plan at work on an optimizer, through its hooks."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MethodType, TracebackType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchdecay.apply.carried import OWNED, Options
from torchdecay.apply.copies import Bond, Remembered, carry, forget_copying
from torchdecay.apply.loss import penalty_of
from torchdecay.apply.lowering import Lowering
from torchdecay.apply.pickles import Copied
from torchdecay.apply.readers import watch
from torchdecay.apply.stepping import guard_steps, step_depth, untraced
from torchdecay.apply.unwritten import Unwritten
from torchdecay.apply.work import Cost
from torchdecay.errors import ApplyError
from torchdecay.optimizers.cards import late_because
from torchdecay.optimizers.gradients import maximizes
from torchdecay.optimizers.wrappers import unwrap
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import parameters_by_name
from torchdecay.text import nearest

# The optimizer's hooks keep the handle alive; a strong reference here would keep the optimizer alive.
_ATTACHED: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Handle]] = weakref.WeakKeyDictionary()


def handle_of(optimizer: object) -> Handle | None:
    """The handle of the plan that is attached to this optimizer, or inside it; None also of what is none."""
    found = _ATTACHED.get(optimizer) if isinstance(optimizer, Optimizer) else None
    if found is None and isinstance(inside := unwrap(optimizer), Optimizer):
        found = _ATTACHED.get(inside)
    return found() if found is not None else None


class Handle(Copied):
    """A plan at work on an optimizer. Made by `torchdecay.attach`.

    Attributes:
        optimizer: the optimizer.
        plan: the plan that is carried out.
        model: the model that was given, or None.
        scheduler: the scheduler that was given, or None.
        left: of a handle that was pickled, what `torchdecay.attach` goes on from; None of one that is at work.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        plan: Plan,
        *,
        model: nn.Module | Mapping[str, Tensor] | None,
        options: Options,
        remembered: Remembered | None = None,
        outer: Sequence[Optimizer] = (),
    ) -> None:
        super().__init__(optimizer, plan, model=model, options=options, remembered=remembered)
        self._bond, self.left = Bond(), None
        self._resume(remembered)
        values = self._engine.check()
        self._agreement = self._agree()
        self._unwritten = Unwritten(() if remembered is not None else self._engine.measured())
        if remembered is None:
            # Else the checkpoint says what its weights owed.
            self._engine.passes.debts.take(self._engine.pulled())
        self._undo: list[Callable[[], None]] = []
        self._is_late = bool(late_because(optimizer))
        _ATTACHED[optimizer] = weakref.ref(self)
        try:
            self._install(values, outer)
        except BaseException:
            # Half of it would break the next step, or decay a part.
            self.remove()
            raise

    def _install(self, values: Sequence[float | Tensor | None], outer: Sequence[Optimizer]) -> None:
        optimizer = self.optimizer
        self._watches = watch(self.model, self._engine.passes.rows)
        self._hooks = [
            optimizer.register_step_pre_hook(MethodType(untraced(Handle._pre_step), self)),
            optimizer.register_step_post_hook(MethodType(untraced(Handle._post_step), self)),
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_pre_hook(self._check_load),
            optimizer.register_load_state_dict_post_hook(self._finish_load),
        ]
        # Other hooks find gradients and weights as they are without a plan, before the step, and after it.
        optimizer._optimizer_step_post_hooks.move_to_end(self._hooks[1].id, last=False)  # type: ignore[attr-defined]
        self._hooks += [one.register_state_dict_post_hook(self._save) for one in outer]
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
            for key in OWNED:
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

    def __repr__(self) -> str:
        if "_engine" not in vars(self):
            return f"<Handle, detached: {self.plan!r}>"
        routes = [row.route for row in self.lowering.rows]
        counts = ", ".join(f"{routes.count(route)} by {route}" for route in dict.fromkeys(routes))
        return f"<Handle on {type(self.optimizer).__name__}: {counts}>"


def _found(tensors: Mapping[str, nn.Parameter], name: str) -> nn.Parameter:
    if name not in tensors:
        raise ApplyError(
            f'handle.penalty(model): the model has no parameter "{name}".',
            "The plan has a row for it that decays through the loss.",
            nearest(name, tensors) or "Pass the model that the plan was made for, or no model at all.",
        )
    return tensors[name]
