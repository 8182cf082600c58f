"""The hooks around one optimizer's step: a counter, and on some steps a reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchdecay.apply.stepping import Arguments, closure_of, leave_traceback, step_depth, with_closure
from torchdecay.observe.monitor.measured import Measured
from torchdecay.observe.monitor.modes import unheard_by_modes
from torchdecay.observe.monitor.reading import Reading
from torchdecay.observe.verify.hooks import owner_of


class Watch:
    """Counts the steps of one optimizer, and has some of them read.

    A step that a gradient scaler skips, or that is taken at learning rate 0, is none. Whether a fused step was
    skipped is known on the device alone; it is added up there, and asked for when a record is due.

    `read` makes a reading of the step that comes, and `record` gets the step's number and what was measured; `leave` is
    called after a step that one with a record should follow; `see` before some, with its number and how many it comes
    before one with a record, and says how many before that it is to be called again; `guard` does what may fail, and
    says whether it went well.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        every_steps: int,
        start: int,
        read: Callable[[], Reading],
        record: Callable[[int, list[Measured]], None],
        leave: Callable[[], None],
        see: Callable[[int, int], int],
        guard: Callable[[Callable[[], Any]], bool],
    ) -> None:
        self.optimizer, self.every_steps, self.start = optimizer, every_steps, start
        self._read, self._record, self._leave, self._see, self._guard = read, record, leave, see, guard
        self._own, self._ticks, self._due, self._next, self._depth = vars(optimizer), 0, 1, 1, 0
        # Where the count stood at the last step whose learning rates were 0, which is not counted.
        self._idle = -1
        self.has_stepped = False
        self._skipped: Tensor | None = None
        self._reading: Reading | None = None
        self._is_misplaced = self._is_read = self._is_compiled = False
        # Whether hooks next to the step may stand: of steps with a record alone.
        self._is_open = True
        # torch.compile(optimizer.step) would trace what runs here, and again whenever the counter changes. A frame that
        # it gives up on runs as if nothing were compiled, and what is called there is traced by itself.
        disable: Callable[..., Any] = torch.compiler.disable
        self._begin_uncompiled: Callable[..., Arguments | None] = disable(self._begin_compiled)
        self._due_uncompiled: Callable[..., Arguments | None] = disable(self._begin_due)
        self._look_uncompiled: Callable[..., None] = disable(self._look)
        self._decayed_uncompiled: Callable[..., Arguments | None] = disable(self._decayed)
        self._updated_uncompiled: Callable[[], None] = disable(self._updated)
        self._passed_uncompiled: Callable[[], None] = disable(self._passed)
        self._end_uncompiled: Callable[[], None] = disable(self._end)
        self._end_due_uncompiled: Callable[[], None] = disable(self._end_due)
        # What stands around the step, and what stands inside of that, next to it, where one is read.
        self._pre = [optimizer.register_step_pre_hook(hook) for hook in (self._before_all, self._after_passes)]
        after = (self._before_passes, self._after_all, self._after_own)
        self._post = [optimizer.register_step_post_hook(hook) for hook in after]
        _stand_around(optimizer._optimizer_step_pre_hooks, self._pre)

    @property
    def steps(self) -> int:
        """Steps taken, those before this watch included; asks the device whether any were skipped."""
        return self.start + self._ticks - self.skips

    @property
    def skips(self) -> int:
        """Steps that a gradient scaler had a kernel skip; asks the device."""
        return 0 if self._skipped is None else round(float(self._skipped))

    def read_next(self) -> None:
        """Have the next step read, whatever its number."""
        self._due = self._next = min(self._due, self._ticks + 1)
        if not self._depth:
            self._stand_by()

    def remove(self) -> None:
        """No more hooks."""
        for hook in (*self._pre, *self._post):
            hook.remove()

    # Between the steps of a small model nothing of this is in a cache, so each line costs a part of a microsecond, and
    # each function more; and where nothing is compiled, the way out of a trace would cost more than all that is done on
    # most steps. A hook is put among others, or taken out, only while those on the other side of the step run.

    def _before_all(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        return self._begin_uncompiled(args, kwargs) if torch.compiler.is_compiling() else self._begin(args, kwargs)

    def _after_passes(self, optimizer: Optimizer, *arguments: Any) -> Arguments | None:
        return None if self._reading is None else self._decayed_uncompiled(*arguments)

    def _before_passes(self, optimizer: Optimizer, *arguments: Any) -> None:
        if self._reading is not None:
            self._updated_uncompiled()

    def _after_own(self, optimizer: Optimizer, *arguments: Any) -> None:
        if self._reading is not None:
            self._passed_uncompiled()

    def _after_all(self, optimizer: Optimizer, *arguments: Any) -> None:
        self._end_uncompiled() if torch.compiler.is_compiling() else self._end()

    def _begin_compiled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        self._is_compiled = True
        return self._begin(args, kwargs)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        if self._depth and step_depth(self.optimizer) < 2:
            # The step before this one raised, so its post hooks never came: it was not taken.
            self._depth = 0
            self._ticks -= self._ticks != self._idle
        self._depth += 1
        if self._depth > 1:
            return None
        self._reading, self.has_stepped = None, True
        for group in self.optimizer.param_groups:
            lr = group.get("lr")
            # A learning rate in a tensor is not asked for.
            if lr if type(lr) is float else isinstance(lr, Tensor) or lr != 0:
                break
        else:
            self._idle = self._ticks
            return None
        self._ticks += 1
        found = self._own.get("found_inf")
        if found is not None:
            with unheard_by_modes():
                inf = torch.as_tensor(found)
                self._skipped = inf.detach().clone() if self._skipped is None else self._skipped + inf
        return None if self._ticks < self._next else self._due_uncompiled(args, kwargs, found)

    def _begin_due(self, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> Arguments | None:
        self._next = self._due - self._see(self._ticks, self._due - self._ticks)
        if self._ticks < self._due or (found is not None and bool(found)):
            # Each change of the hooks would be compiled anew.
            if self._is_open and not self._is_compiled:
                self._post[0].remove()
                self._post[2].remove()
            self._is_open = False
            return None
        self._is_open = True
        hooks: Any = self.optimizer._optimizer_step_pre_hooks
        after: Any = self.optimizer._optimizer_step_post_hooks
        keys, own = [*hooks], [hook.id for hook in self._pre]
        # Another watch may stand around this one: it moves nothing.
        outside = () if own[1] not in hooks else (*keys[: keys.index(own[0])], *keys[keys.index(own[1]) + 1 :])
        others = (getattr(hooks[key], "__module__", "") != __name__ for key in outside)
        self._is_misplaced = own[1] not in hooks or any(others)
        if self._is_misplaced:
            # A plan was attached since. Hooks can't change places while they run, so the next step is read.
            return None
        if self._post[0].id not in after:
            self._post[0] = self.optimizer.register_step_post_hook(self._before_passes)
            self._post[2] = self.optimizer.register_step_post_hook(self._after_own)
        after.move_to_end(self._post[2].id, last=False)
        for key in [key for key, hook in after.items() if owner_of(hook) == "plan"]:
            after.move_to_end(key, last=False)
        _stand_around(after, self._post)
        self._is_read = True
        self._look(self._make)
        return None if self._reading is None else self._once(args, kwargs, self._reading.before)

    def _make(self) -> None:
        self._reading = self._read()

    def _look(self, look: Callable[[], None]) -> None:
        """Look, unless that has failed in this step."""
        with unheard_by_modes():
            if not self._guard(look):
                self._reading = None

    def _decayed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        if self._depth > 1 or self._reading is None:
            return None
        reading = self._reading
        self._look(lambda: reading.copied(waits=closure_of(args, kwargs) is not None))
        return None if self._reading is None else self._once(args, kwargs, self._reading.decayed)

    def _updated(self) -> None:
        if self._reading is not None and self._depth == 1:
            self._look(self._reading.updated)

    def _passed(self) -> None:
        if self._reading is not None and self._depth == 1:
            self._look(self._reading.passed)

    def _end(self) -> None:
        if self._depth > 1:
            self._depth -= 1
            return
        self._depth = 0
        if self._is_open or self._ticks + 1 >= self._due:
            self._end_due_uncompiled()

    def _end_due(self) -> None:
        if self._is_misplaced:
            self._stand_by()
        if self._is_read:
            # By the run's own count, so that a run that goes on is recorded at the same steps.
            now = self.start + self._ticks
            self._due, self._is_read = (now // self.every_steps + 1) * self.every_steps - self.start, False
            self._next = self._ticks + 1
        reading, self._reading = self._reading, None
        measured: list[Measured] = []
        if reading is not None:
            with unheard_by_modes():
                is_measured, steps = self._guard(lambda: measured.extend(reading.after())), self.steps
            if is_measured:
                self._record(steps, measured)
        if self._ticks + 1 >= self._due:
            self._stand_by()
            with unheard_by_modes():
                self._guard(self._leave)
        elif not self._is_compiled:
            self._pre[1].remove()

    def _stand_by(self) -> None:
        """Stand inside of the passes before the step, too."""
        hooks = self.optimizer._optimizer_step_pre_hooks
        if self._pre[1].id not in hooks:
            self._pre[1] = self.optimizer.register_step_pre_hook(self._after_passes)
        _stand_around(hooks, self._pre)

    def _once(self, args: tuple[Any, ...], kwargs: dict[str, Any], look: Callable[[], None]) -> Arguments | None:
        """Look now, or where the step has a closure, when that has been evaluated for the first time."""
        looked = False

        def looking(closure: Callable[[], Any]) -> Callable[[], Any]:
            def evaluate() -> Any:
                nonlocal looked
                try:
                    loss = closure()
                except BaseException as error:
                    leave_traceback(error)
                    raise
                if not looked:
                    looked = True
                    if self._reading is not None:
                        self._look_uncompiled(look)
                return loss

            return evaluate

        changed = with_closure(args, kwargs, looking)
        if changed is None:
            self._look(look)
        return changed


def _stand_around(hooks: Any, mine: list[RemovableHandle]) -> None:
    """One hook before all others, one after them: what runs in between is then known to have run in between."""
    hooks.move_to_end(mine[0].id, last=False)
    hooks.move_to_end(mine[1].id)
