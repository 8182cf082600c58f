"""Around each step of an optimizer under a plan: what its hooks do, in which order, and where a step raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchdecay.apply.ranks import Agreement, check_in_place
from torchdecay.apply.saving import Saved
from torchdecay.apply.stepping import Arguments, leave_traceback, run_last, step_depth, with_closure
from torchdecay.apply.unwritten import Unwritten
from torchdecay.errors import ForgottenPenaltyWarning, OwnershipWarning, warn_in_step
from torchdecay.optimizers.cards import SWITCH


class Stepped(Saved):
    """A plan that is carried out around each step."""

    _depth = 0
    """How many steps are under way, one inside the other."""
    _penalty_called = False
    """Whether the loss asked for the penalty since the last step."""
    _hooks: Sequence[RemovableHandle] = ()
    """Those of this plan; the first comes before a step, the second after it."""
    _is_late = False
    """Whether pulls on the weights wait until the step is over, as the optimizer's class says."""
    _agreement: Agreement | None = None
    """With the other processes, until the first step."""

    def begin(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """Come before a step that is under way."""
        return self._pre_step(optimizer, args, kwargs)

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
        if self._engine.under_way:
            self._engine.reset()
        is_new = self._agreement is not None or self._unwritten is not None
        if not kwargs and len(args) < 2 and not is_new and self._engine.repeats():
            return None
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
        if self._unwritten is not None:
            self._begin_first(self._unwritten)
        if self._engine.has_penalties:
            self._ask_for_penalty()
        self._engine.before(late=late or self._is_late)

    def _begin_first(self, unwritten: Unwritten) -> None:
        """Whether these are the weights that are trained, and were when they were measured."""
        moves = any(program.moves for program in self._engine.programs)
        unwritten.check(moves=moves)
        if moves:
            idle = [param for params in self._engine.members for param in params if param.grad is None]
            check_in_place(idle, are_idle=True)
            self._unwritten = None

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
            if self._unwritten is not None:
                self._unwritten.follow()

    def _reclaim(self) -> None:
        """Own `weight_decay`, and the switch of what it means, again where another hand wrote them."""
        for program, group in zip(self._engine.programs, self.optimizer.param_groups, strict=True):
            if group.get("weight_decay") is not program.written:
                _own(group, "weight_decay", program.written, program.lowering.index)
            switch = program.lowering.switch
            if switch is not None and group.get(SWITCH) is not switch:
                _own(group, SWITCH, switch, program.lowering.index)

    def _ask_for_penalty(self) -> None:
        if not self._penalty_called and self._engine.expects_penalty():
            warn_in_step(
                "the plan has rows that decay through a penalty in the loss, but handle.penalty() was not called "
                "since the last step, so these weights do not decay. Write loss = loss + handle.penalty(model).",
                ForgottenPenaltyWarning,
                stacklevel=7,
            )
        self._penalty_called = False


def _own(group: dict[str, Any], key: str, mine: Any, index: int) -> None:
    """Write what is ours over what another hand has written, and say so."""
    if (found := group.get(key)) != mine:
        warn_in_step(
            f"group {index}: {key} was set to {found!r} after attach, which owns it; it is {mine!r} again. "
            "To change a running job, use handle.update(plan).",
            OwnershipWarning,
            stacklevel=7,
        )
    group[key] = mine
