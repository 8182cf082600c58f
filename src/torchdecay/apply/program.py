"""One parameter group at work: what runs by hook and through the loss there, and how hard at the step that comes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from torchdecay.apply.bindings import Bindings, mask_tensors, reference_tensors
from torchdecay.apply.lowering import GroupLowering
from torchdecay.apply.state import GroupState
from torchdecay.apply.work import Amount, Pull, Target, Work, by_decay, lasting
from torchdecay.errors import ApplyError, PeakWarning, warn_in_step
from torchdecay.optimizers.cards import has_trait, settled_factor
from torchdecay.optimizers.peaks import CLEARLY, peak_of
from torchdecay.plans.controllers import RowGate, Stable
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.regularizers import L2
from torchdecay.plans.schedules import Constant
from torchdecay.sharding import whole
from torchdecay.text import listed, repr_quoted


class GroupProgram:
    """One parameter group as the engine runs it: `pulls` by hook, `penalties` through the loss.

    What was last written under `weight_decay` is kept, to notice another hand. Where the group has tensors for numbers
    it is a tensor that is filled anew at each step (see `write`); it `is_settled` if it stays as it is.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lowering: GroupLowering,
        bind: Bindings,
        scheduler: Any,
        max_lr: float | None = None,
    ) -> None:
        self.optimizer, self.lowering, self.scheduler, self.max_lr = optimizer, lowering, scheduler, max_lr
        self.pulls, self.penalties = _pulls(lowering.hooked, bind), _pulls(lowering.loss, bind)
        self.state = GroupState()
        self.written: float | Tensor | None = None
        self.is_settled = False

    @property
    def group(self) -> dict[str, Any]:
        """The live parameter group."""
        return self.optimizer.param_groups[self.lowering.index]

    @property
    def moves(self) -> bool:
        """Whether the step that comes may move weights: its learning rate is not 0."""
        return bool(self.group.get("lr") != 0)

    def decays(self) -> Iterable[Decay]:
        """All that pulls somewhere in this group."""
        native = [] if self.lowering.native is None else [self.lowering.native]
        return [pull.decay for pull in (*self.pulls, *self.penalties)] + native

    @cached_property
    def by_peaks(self) -> list[Decay]:
        """Those that go by the group's highest learning rate."""
        return [decay for decay in self.decays() if decay.scale.needs_max_lr or decay.schedule.needs_lr]

    @cached_property
    def _needs_peak(self) -> Decay | None:
        return next((decay for decay in self.by_peaks if decay.max_lr is None), None)

    def keep_peak(self) -> None:
        """Remember the group's own peak from the first step that moves weights on, where a decay needs it."""
        before = self.state.max_lr
        # Not before the first step, because a scheduler may be made after attach.
        if self._needs_peak is not None and (peak := self.peak(self._needs_peak)) != before:
            self.state.max_lr, self.is_settled = peak, False
        lr = self.group.get("lr")
        if self.state.outgrown is None and not (isinstance(lr, Tensor) and lr.device.type != "cpu"):
            self._compare(float(lr or 0.0), self.state.max_lr if before is None else before)

    def _compare(self, lr: float, known: float | None) -> None:
        """Say so, once, where the learning rate is above the peak that a decay goes by."""
        for decay in self.by_peaks:
            peak = decay.max_lr or self.max_lr or known
            if peak is not None and lr > peak * CLEARLY:
                self.state.outgrown = peak
                warn_in_step(
                    f"group {self.lowering.index}: the learning rate is {lr:g} now, above {peak:g}, by which {decay!r} "
                    "went as the highest: it decays by lr/max_lr, and steps until now, or from now on, by more than is "
                    "meant. Give the highest that the group reaches: td.attach(..., max_lr=...), or in the decay.",
                    PeakWarning,
                    stacklevel=9,
                )
                return

    @property
    def most_lr(self) -> float:
        """The highest learning rate at which no peak changes, and none is outgrown."""
        if self.state.outgrown is not None:
            return math.inf if self._needs_peak is None else self.state.max_lr or 0.0
        return min(
            (decay.max_lr or self.max_lr or self.state.max_lr or 0.0 for decay in self.by_peaks), default=math.inf
        )

    def peak(self, decay: Decay) -> float:
        """η_max of a decay at the step that comes next."""
        index, kept = self.lowering.index, self.state.max_lr
        return peak_of(decay, self.group, index, self.scheduler, given=self.max_lr, kept=kept)

    def coefficient(self, decay: Decay) -> float:
        """λ_t at the step that comes next."""
        if type(decay.schedule) is Constant:
            return decay.coefficient
        ratio = 1.0
        if decay.schedule.needs_lr:
            lr = float(self._lr(decay))
            ratio = lr / self.peak(decay) if lr else 0.0
        return decay.coefficient_at(self.state.steps, ratio)

    def amount(self, decay: Decay, heaviest: float = 1.0) -> Amount:
        """c_t·λ_t of a pull at the step that comes next; none of its elements weighs more than `heaviest`."""
        coefficient, index = self.coefficient(decay), self.lowering.index
        if decay.update is not None:
            if decay.update.keeps_copy:
                self._lr(decay)
            return coefficient
        if decay.site is Site.GRADIENT:
            if settled_factor(self.optimizer, self.group) is not None:
                fraction = coefficient * heaviest * self.group["lr"] * self._steepest(decay)
                check_fraction(decay, fraction, index, self.group["lr"])
            return coefficient
        scale = decay.scale
        lr = self._lr(decay) if scale is not Scale.ONE else 1.0
        amount: Amount = scale.factor(lr, self.peak(decay) if scale.needs_max_lr else None) * coefficient
        if not decay.proximal and not (fraction := amount * heaviest * self._steepest(decay)) < 1:
            check_fraction(decay, fraction, index, lr)
        return amount

    def _steepest(self, decay: Decay) -> float:
        """The part of a weight that a pull with amount 1 may take off; 0 where nobody can say."""
        controller = decay.controller
        most = 1.0 if controller is None else controller.most
        if isinstance(controller, Stable):
            most = settled_factor(self.optimizer, self.group)
        return decay.regularizer.curvature * (most or 0.0)

    def works(self) -> list[Work]:
        """What the passes have to do in the step that comes next.

        At learning rate 0 only what the optimizer itself would put into its momentum is done: no weight moves.
        """
        found, moves = [], self.moves
        for pull in self.pulls:
            if not moves and (
                pull.decay.site is not Site.GRADIENT
                or pull.decay.controller is not None
                or has_trait(self.optimizer, "no decay")
            ):
                continue
            if live := pull.live():
                found.append(Work(pull, self.group, live, self.amount(pull.decay, pull.heaviest), self.state.steps))
        return found

    def native_value(self, decay: Decay, *, anew: bool = True) -> float | Tensor:
        """What must stand under `weight_decay` next, where it runs natively; `anew` even where it is settled."""
        value = self._quotient(decay) if anew or not self.is_settled or self.written is None else self.written
        if self.is_checked and not value * (lr := self.group["lr"]) < 1:
            check_fraction(decay, value * lr, self.lowering.index, lr)
        return value

    @cached_property
    def is_checked(self) -> bool:
        """Whether what is written has to stay below 1 times the learning rate.

        A fraction per step was checked as such: divided and multiplied by the lr, 1 may come out above 1.
        """
        native = self.lowering.native
        return self.lowering.is_fraction and native is not None and not _is_plain_fraction(native)

    def _quotient(self, decay: Decay) -> float:
        """c_t·λ_t/η_t."""
        coefficient = self.coefficient(decay)
        if decay.site is not Site.BEFORE or decay.scale is Scale.LR:
            return coefficient
        lr = float(self._lr(decay))
        if lr == 0:
            # Whatever stands there moves nothing, and a peak may not be known yet.
            return 0.0
        if decay.scale is Scale.ONE:
            check_fraction(decay, coefficient, self.lowering.index, lr)
            return coefficient / lr
        peak = self.peak(decay)
        return coefficient / peak if decay.scale is Scale.LR_RATIO else coefficient * (lr / peak)

    def write(self, value: float | Tensor) -> None:
        """Own the group's `weight_decay`.

        A compiled step is compiled anew for each number that it has not seen, but not for a tensor that is filled:
        so where a group's learning rate is a tensor, what changes from step to step is one too.
        """
        lr = self.group.get("lr")
        if self.lowering.every_step and isinstance(lr, Tensor) and has_trait(self.optimizer, "tensor decay"):
            if not isinstance(self.written, Tensor):
                with lasting():
                    self.written = torch.zeros((), dtype=lr.dtype, device=lr.device)
            self.written.fill_(float(value))
        else:
            self.written = value
        self.group["weight_decay"] = self.written
        self.is_settled = self.moves and not self.lowering.every_step

    def _lr(self, decay: Decay) -> Any:
        lr = self.group.get("lr")
        if lr is None:
            raise ApplyError(
                f"group {self.lowering.index} has no learning rate, and {decay!r} is multiplied by it.",
                "This optimizer finds its own step size.",
                "Use td.per_step(fraction) or td.coupled(wd), or give the optimizer a learning rate.",
            )
        if self.group.get("fused") and isinstance(lr, Tensor) and lr.device.type == "cpu":
            # Fused kernels on a CPU read it in double precision, the others keep its own.
            return lr.item()
        # Numbers of numpy, as of a scheduler's lambda, are none to torch's own operators.
        return lr if isinstance(lr, Tensor) else float(lr)


def check_fraction(decay: Decay, amount: Any, index: int, lr: Any) -> None:
    """Refuse a step that would remove a whole weight or more."""
    if amount < 1 or (_is_plain_fraction(decay) and amount <= 1):
        return
    raise ApplyError(
        f"group {index}: {decay!r} at learning rate {float(lr):g} would remove {float(amount):g} of each weight "
        "per step.",
        "At 1 every weight becomes 0, above 1 it changes its sign; the weights were left as they were.",
        "Lower the coefficient or the learning rate so that their product is well below 1.",
    )


def _is_plain_fraction(decay: Decay) -> bool:
    return decay.scale is Scale.ONE and decay.site in (Site.BEFORE, Site.AFTER)


def _pulls(rows: Sequence[tuple[Tensor, str, Decay]], bind: Bindings) -> list[Pull]:
    made = []
    # What has no elements is nothing to pull, and nothing to measure.
    for decay, alike in by_decay(row for row in rows if is_lazy(row[0]) or row[0].numel()):
        params, names = [param for param, _, _ in alike], [name for _, name, _ in alike]
        if absent := [name for name, param in zip(names, params, strict=True) if param.is_meta]:
            raise ApplyError(
                f"{listed(absent)} on the meta device: there is nothing yet for {decay!r} to pull.",
                fix="Attach when the model has its weights; td.lower says before how it will be done.",
            )
        references = reference_tensors(decay.reference, names, params, bind)
        masks = mask_tensors(decay.mask, names, params, bind)
        pull = Pull(decay, [Target(*one) for one in zip(names, params, references, masks, strict=True)])
        for one in pull.targets:
            if one.mask is not None and one.mask.dtype is not torch.bool:
                _check_weighted(one.name, decay)
                heaviest = float(whole(one.mask.max())) if one.mask.numel() else 0.0
                pull.heaviest = max(pull.heaviest, heaviest)
                one.mask, one.weights = None, one.mask
        made.append(pull)
    return made


def _check_weighted(name: str, decay: Decay) -> None:
    """Refuse numbers as a mask where they would not be what each element's pull is multiplied by."""
    by_rows = isinstance(decay.gate, RowGate)
    if by_rows or (decay.site is Site.LOSS and type(decay.regularizer) is not L2):
        raise ApplyError(
            f"{repr_quoted(name)} has a mask of numbers, and {decay!r} {'goes by rows' if by_rows else 'is no L2'}.",
            "There an element takes part or not.",
            "Give a mask of bools, or take td.decoupled, td.coupled or td.toward.",
        )
