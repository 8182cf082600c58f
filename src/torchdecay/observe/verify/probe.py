"""Steps of the optimizer object itself on small tensors, after which everything is as it was, bit for bit."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import warnings
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import grad_mode

from torchdecay.errors import ApplyError, TorchdecayError
from torchdecay.observe.groups import optimizers_of, switch_off
from torchdecay.observe.verify.borrowing import Loan, obstacle, refuse_unknown, sample_of, small_shape, wrapped
from torchdecay.observe.verify.expected import held
from torchdecay.observe.verify.hooks import foreign_code, hooks_around, owner_of, replaces_step
from torchdecay.observe.verify.slots import Slot, pools_for, reals
from torchdecay.observe.verify.snapshot import Snapshot
from torchdecay.optimizers.cards import base_card_of
from torchdecay.sharding import local
from torchdecay.text import describe_error, listed

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class StepFailed(TorchdecayError, RuntimeError):
    """A step on small tensors raised."""


class ByHand(Protocol):
    """A decay carried out from outside, so that its result can be held against what the optimizer did."""

    def before(self, step: int, weights: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and gradients as the optimizer should see them."""

    def after(self, step: int, weights: Tensor) -> Tensor:
        """Weights after the optimizer's update."""


class Probe:
    """An optimizer that holds small tensors in place of its own, for as long as the `with` block lasts.

    Lent to each parameter is a tensor of its device, dtype, type and number of dimensions, with at most 64 to 81
    entries; to the optimizer an empty state; to every other tensor that it or its plan holds, a sample. Put back on
    leaving, also when something raises: data, gradients, their versions, state, group values, defaults, attributes,
    hooks, and the random number generators of torch (CPU and devices), Python and numpy. No copy of a parameter is
    made.

    Nothing else may use the model meanwhile.

    Args:
        optimizer: a torch optimizer, or any object with `param_groups` and `step`.
        only: `id(parameter)` of those to measure, None for all; the others are lent something too, and stand still.
        allow_hooks: whether hooks that are not torchdecay's may run.

    Attributes:
        slots: the parameters that are measured, by place in the vectors.
        obstacles: `id(parameter)` → why it can't be measured, for the others.
        size: length of the vectors.

    Raises:
        ApplyError: a foreign hook, LBFGS, or a tensor type that can't be lent.
    """

    def __init__(self, optimizer: Any, *, only: Collection[int] | None = None, allow_hooks: bool = False) -> None:
        optimizers_of(optimizer)
        self.optimizer = optimizer
        self._snapshot = Snapshot(optimizer)
        traits = {trait for one in self._snapshot.optimizers if (card := base_card_of(one)) for trait in card.traits}
        _refuse(self._snapshot, traits, allow_hooks)
        self.obstacles: dict[int, str] = {}
        self._lay_out(only)
        self.size = self.slots[-1].stop if self.slots else 0
        self._sparse = "sparse" in traits
        self._states = [
            (state, dict(state))
            for one in self._snapshot.optimizers
            if isinstance(state := vars(one).get("state"), dict)
        ]
        # Some make their state when they are made, and get the keys that they made on small zeros; some need a closure.
        takes = list(inspect.signature(optimizer.step).parameters.values())
        self._closure = (
            "closure" if any(one.kind is one.KEYWORD_ONLY and one.name == "closure" for one in takes) else ""
        )
        needs = bool(takes) and takes[0].default is takes[0].empty and (takes[0].kind in _POSITIONAL or self._closure)
        keeps = any(before for _, before in self._states)
        self._ways = list(itertools.product((False, keeps), (needs, bool(takes))))
        self._way = self._ways[0]
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Probe:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.callback(self._snapshot.restore)
            self._lend(stack)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def run(
        self,
        weights: Tensor,
        gradients: Sequence[Tensor],
        *,
        active: Sequence[bool],
        lrs: Sequence[float | None],
        native: bool = True,
        by_hand: ByHand | None = None,
        trace: bool = True,
    ) -> Tensor:
        """Weights before and after each of some steps from a fresh state.

        Args:
            weights: (size,), where to start.
            gradients: one (size,) for each step.
            active: for each slot, whether it has a gradient; the others have None.
            lrs: for each group, the learning rate, None for its own.
            native: False switches off all decay that is known how to: weight_decay 0, no hooks.
            by_hand: a decay to carry out from outside.
            trace: whether to return the weights after each step, not only after the last.

        Returns:
            (steps + 1, size), or (2, size) without trace; float64, on the CPU.

        Raises:
            StepFailed: the optimizer's step raised.
        """

        def attempt() -> Tensor:
            self._rewind(lrs, native)
            self._write(weights)
            # What was rounded is what counts as the start.
            rows = [self._read()]
            for step, gradient in enumerate(gradients):
                begun = rows[-1]
                if by_hand is not None:
                    begun, gradient = by_hand.before(step, begun, gradient)
                    self._write(begun)
                self._step(gradient, active)
                if by_hand is not None:
                    self._write(by_hand.after(step, self._read()))
                if not trace:
                    del rows[1:]
                rows.append(self._read())
            return torch.stack(rows)

        failed = None
        for way in dict.fromkeys([self._way, *self._ways]):
            was, self._way = self._way, way
            try:
                return attempt()
            except StepFailed as error:
                failed, self._way = failed or error, was
        assert failed is not None
        raise failed

    def rounded(self, vector: Tensor) -> Tensor:
        """What is left of a vector in the parameters' own dtypes, as float64."""
        self._write(vector)
        return self._read()

    def set_sample(self, tensor: Tensor, slot: Slot, vector: Tensor) -> None:
        """Lend other numbers to a tensor of a parameter's shape, a reference say: `vector` where the slot lies."""
        for loan, _, pristine in self._samples:
            if loan.tensor is tensor:
                reals(pristine.view(-1)).copy_(vector[slot.span])

    def _lay_out(self, only: Collection[int] | None) -> None:
        """Give every parameter that can and should be measured a place."""
        self._idle: list[Tensor] = []
        params: dict[int, tuple[Tensor, int]] = {}
        for index, group in enumerate(self.optimizer.param_groups):
            for number, param in enumerate(group["params"]):
                why = obstacle(param)
                if why:
                    self.obstacles[id(param)] = why
                else:
                    refuse_unknown(param, f"group {index}, #{number}: the parameter")
                    if only is None or id(param) in only:
                        params.setdefault(id(param), (param, index))
                    else:
                        self._idle.append(param)
        self._pools = pools_for(params.values())
        self.slots = [slot for pool in self._pools for slot in pool.slots]

    def _lend(self, stack: contextlib.ExitStack) -> None:
        params = {id(param) for param in (*(slot.param for slot in self.slots), *self._idle)}
        shapes = {tuple(local(slot.param).shape) for slot in self.slots}
        companions = {id(one) for handle in self._snapshot.handles for pair in held(handle).values() for one in pair}
        others = [one for one in self._snapshot.tensors if id(one) not in params and _is_real(one)]
        for other in others:
            refuse_unknown(other, "a tensor that the optimizer holds")
        all_lent = (*(slot.param for slot in self.slots), *self._idle, *others)
        kept = [one for one in all_lent if not one.is_inference()]
        # Last to be left: only then does nothing write to the parameters any more.
        for one in kept:
            stack.enter_context(grad_mode._unsafe_preserve_version_counter(one))
        for tensor in self._snapshot.tensors:
            if tensor.is_leaf and tensor.grad is not None:
                stack.callback(setattr, tensor, "grad", tensor.grad)
                tensor.grad = None
        self._loans: list[Loan] = []
        for pool in self._pools:
            pool.allocate()
            for slot, part in zip(pool.slots, pool.views, strict=True):
                loan = Loan(slot.param, part)
                stack.callback(loan.give_back)
                stack.callback(setattr, slot.param, "grad", None)
                loan.hand_out()
                self._loans.append(loan)
        for param in {id(param): param for param in self._idle}.values():
            # What becomes of it does not matter, so nobody rewinds it.
            loan = Loan(param, sample_of(param, corner=True))
            stack.callback(loan.give_back)
            loan.hand_out()
        self._samples: list[tuple[Loan, Tensor, Tensor]] = []
        for other in others:
            sample = sample_of(other, corner=id(other) in companions or tuple(local(other).shape) in shapes)
            loan = Loan(other, sample)
            stack.callback(loan.give_back)
            loan.hand_out()
            self._samples.append((loan, sample, sample.clone()))

    @torch.no_grad()
    def _rewind(self, lrs: Sequence[float | None], native: bool) -> None:
        """All that a step may have changed is as on entering, with fresh state and the given learning rates."""
        self._snapshot.restore()
        for handle in self._snapshot.handles:
            handle.forgive()
        optimizers = self._snapshot.optimizers
        # Hooks that only watch never run, and none where decay is to be off.
        for _, hooks in hooks_around(optimizers):
            for key in [key for key, hook in hooks.items() if not native or owner_of(hook) == "watcher"]:
                del hooks[key]
        for loan, sample, pristine in self._samples:
            sample.copy_(pristine)
            loan.hand_out()
        for loan in self._loans:
            loan.hand_out()
        keeps_state, _ = self._way
        for state, before in self._states:
            state.clear()
            if keeps_state:
                state.update({key: _shrunk(value) for key, value in before.items()})
        by_param = {id(slot.param): lrs[slot.group] for slot in self.slots}
        for optimizer in optimizers:
            if not native:
                if replaces_step(optimizer):
                    del optimizer.step
                switch_off(vars(optimizer))
            for group in optimizer.param_groups:
                lr = next((by_param[id(p)] for p in group["params"] if id(p) in by_param), None)
                _set_group(group, lr, native)

    def _step(self, gradient: Tensor, active: Sequence[bool]) -> None:
        self._grant(gradient, active)

        def evaluate() -> Tensor:
            self._grant(gradient, active)
            return torch.zeros(())

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                given = evaluate if self._way[1] else None
                if given is not None and self._closure:
                    self.optimizer.step(**{self._closure: given})
                else:
                    self.optimizer.step(*([] if given is None else [given]))
        except Exception as error:
            said = describe_error(error).rstrip(".")
            raise StepFailed(f"{type(self.optimizer).__name__}.step() on small tensors raised {said}") from error
        for slot in self.slots:
            slot.param.grad = None

    @torch.no_grad()
    def _grant(self, gradient: Tensor, active: Sequence[bool]) -> None:
        live = dict(zip(map(id, self.slots), active, strict=True))
        for pool in self._pools:
            pool.fill(pool.gradient, gradient)
            for slot, part in zip(pool.slots, pool.gradient_views, strict=True):
                if live[id(slot)]:
                    slot.param.grad = wrapped(part.to_sparse() if self._sparse else part, slot.param)

    @torch.no_grad()
    def _write(self, weights: Tensor) -> None:
        for pool in self._pools:
            pool.fill(pool.weight, weights)

    @torch.no_grad()
    def _read(self) -> Tensor:
        loans = iter(self._loans)
        for pool in self._pools:
            for slot, part in zip(pool.slots, pool.views, strict=True):
                loan = next(loans)
                if not loan.is_out():
                    part.copy_(local(slot.param).detach())
                    loan.hand_out()
        found = torch.zeros(self.size, dtype=torch.float64)
        for pool in self._pools:
            pool.read_into(found)
        return found


def _set_group(group: dict[str, Any], lr: float | None, native: bool) -> None:
    if lr is not None and "lr" in group:
        old = group["lr"]
        if float(old) != 0:
            # A plan looks for the peak here once it needs one, and must not take the probe's rate for it.
            group.setdefault("initial_lr", old)
        group["lr"] = torch.full_like(old, lr) if isinstance(old, Tensor) else lr
    if not native:
        switch_off(group)


def _shrunk(value: Any) -> Any:
    """A state entry as a fresh one for the small tensor: same keys and dtypes, zeros."""
    if isinstance(value, Tensor):
        part = local(value)
        return wrapped(torch.zeros(small_shape(part.shape), dtype=part.dtype, device=part.device), value)
    if isinstance(value, dict):
        return type(value)((key, _shrunk(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(_shrunk(item) for item in value)
    return copy.copy(value)


def _refuse(snapshot: Snapshot, traits: Collection[str], allow_hooks: bool) -> None:
    groups = snapshot.optimizers[0].param_groups
    differentiable = [i for i, group in enumerate(groups) if group.get("differentiable")]
    if differentiable:
        raise ApplyError(
            f"group {differentiable[0]} is differentiable=True.",
            "Its step is part of an autograd graph, and a probe would become part of it too.",
            "Verify the same optimizer without differentiable.",
        )
    if "reevaluating" in traits:
        raise ApplyError(
            "LBFGS can't be probed.",
            "Its step evaluates the closure many times along a line, so that no single update is a function of weight "
            "and gradient; it has no weight_decay of its own either.",
            "Its decay is a penalty in the loss: td.penalized(wd) with handle.penalty(model), or td.penalty(...).",
        )
    foreign = foreign_code(snapshot.optimizers)
    if foreign and not allow_hooks:
        raise ApplyError(
            f"code that is not the optimizer's runs around its step: {listed(foreign)}.",
            "A probe takes steps on small tensors, and what this code would do with them is not known.",
            "If it may run, and what it changes elsewhere does not matter, pass allow_hooks=True.",
        )


def _is_real(tensor: Tensor) -> bool:
    return obstacle(tensor) not in ("not materialized yet", "on the meta device", "empty")
