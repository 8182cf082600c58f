"""One step of a lowered plan: what happens before the optimizer's update, and what after.

The engine knows nothing of hooks, closures or checkpoints (see `attach`). It checks everything that a step needs
before it changes the first tensor, so that a step that is refused leaves the weights as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply import kernels
from torchdecay.apply.bindings import Bindings, mask_tensors, reference_tensors
from torchdecay.apply.lowering import GroupLowering, Lowering
from torchdecay.apply.peaks import peak_of
from torchdecay.apply.thresholds import step_size
from torchdecay.errors import ApplyError, listed
from torchdecay.plan.decay import Decay, Scale, Site
from torchdecay.plan.references import Initial
from torchdecay.plan.regularizers import L2


@dataclass
class Pull:
    """One decay over some parameters of one group, with the tensors that it reads."""

    decay: Decay
    names: list[str]
    params: list[Tensor]
    references: list[Tensor | None]
    masks: list[Tensor | None]

    def live(self) -> list[int]:
        """Indices of the parameters that this step moves: those with a gradient that still ask for one."""
        return [i for i, param in enumerate(self.params) if param.grad is not None and param.requires_grad]


@dataclass
class GroupState:
    """What one group remembers: steps really taken, and its peak learning rate once that is known."""

    steps: int = 0
    max_lr: float | None = None


@dataclass
class GroupProgram:
    """One parameter group as the engine runs it.

    Attributes:
        lowering: what runs natively, by hook and through the loss.
        pulls: what runs by hook.
        penalties: what runs through the loss.
        state: what the group remembers.
        written: what the handle last wrote under `weight_decay`, to notice another hand.
    """

    lowering: GroupLowering
    pulls: list[Pull]
    penalties: list[Pull]
    state: GroupState = field(default_factory=GroupState)
    written: Any = None


@dataclass
class _Work:
    """A pull with this step's numbers."""

    pull: Pull
    group: dict[str, Any]
    amount: kernels.Amount
    buckets: list[list[int]]


class Engine:
    """Carries out a lowering step by step."""

    def __init__(self, optimizer: Optimizer, lowering: Lowering, bind: Bindings, scheduler: Any) -> None:
        self.optimizer, self.lowering, self.scheduler = optimizer, lowering, scheduler
        self.programs = [
            GroupProgram(group, _pulls(group.hooked, bind), _pulls(group.loss, bind)) for group in lowering.groups
        ]
        self.num_params = [len(group["params"]) for group in optimizer.param_groups]
        self.has_hooks = any(program.pulls or program.lowering.every_step for program in self.programs)
        self._after: list[_Work] = []
        self._lent: list[tuple[Tensor, Tensor, Tensor]] = []
        self._stepping: list[GroupProgram] = []

    @torch.no_grad()
    def before(self) -> None:
        """All that comes before the optimizer's update.

        Raises:
            ApplyError: a coefficient of 1 or more per step, or a gradient that the pull can't be added to.
            DecayError: a schedule that returned NaN or a negative number.
        """
        self.reset()
        if _found_inf(self.optimizer):
            return
        works: list[_Work] = []
        writes: list[tuple[GroupProgram, dict[str, Any], Any]] = []
        for program, group in zip(self.programs, self.optimizer.param_groups, strict=True):
            lr = group["lr"]
            if lr == 0 or not any(param.grad is not None for param in group["params"]):
                continue
            self._stepping.append(program)
            if program.lowering.native is not None and (program.lowering.every_step or program.state.steps == 0):
                writes.append((program, group, self._native_value(program, group)))
            for pull in program.pulls:
                live = pull.live()
                if live:
                    amount = self._amount(program, pull.decay, group, lr)
                    works.append(_Work(pull, group, amount, _bucketed(pull, live)))
        for work in works:
            _refuse_sparse(work)
        for program, group, value in writes:
            group["weight_decay"] = program.written = value
        for work in works:
            if work.pull.decay.site is Site.GRADIENT:
                self._lend(work)
            elif work.pull.decay.site is Site.BEFORE:
                _explicit(work)
            else:
                self._after.append(work)

    @torch.no_grad()
    def after(self) -> None:
        """All that comes after the optimizer's update; `.grad` is the user's again."""
        self.give_back()
        for work in self._after:
            if work.pull.decay.proximal:
                self._proximal(work)
            else:
                _explicit(work)
        for program in self._stepping:
            program.state.steps += 1
        self._after, self._stepping = [], []

    def reset(self) -> None:
        """Forget a step that was begun and never ended, because the optimizer raised."""
        self.give_back()
        self._after, self._stepping = [], []

    def give_back(self) -> None:
        """Put the user's gradients back where the step was lent others."""
        for param, users, lent in self._lent:
            # Whoever replaced the gradient since, zero_grad in a hook say, has the last word.
            if param.grad is lent:
                param.grad = users
        self._lent = []

    def write(self, program: GroupProgram, group: dict[str, Any]) -> None:
        """Own the group's `weight_decay`: the native value where there is one, else 0."""
        if program.lowering.native is not None:
            group["weight_decay"] = self._native_value(program, group)
        elif "weight_decay" in group:
            group["weight_decay"] = 0.0
        program.written = group.get("weight_decay")

    def coefficient(self, program: GroupProgram, decay: Decay) -> float:
        """λ_t at the step that comes next."""
        group = self.optimizer.param_groups[program.lowering.index]
        return decay.coefficient_at(program.state.steps, self._lr_ratio(program, decay, group, group["lr"]))

    def inherit(self, other: Engine) -> None:
        """Take over counters, peaks and "initial" references from the engine that ran before."""
        for mine, theirs in zip(self.programs, other.programs, strict=False):
            mine.state = theirs.state
        known = other.initial_references()
        for name, tensor in self.initial_references().items():
            if name in known and known[name].shape == tensor.shape:
                tensor.copy_(known[name])

    def initial_references(self) -> dict[str, Tensor]:
        """The "initial" references by parameter name; the tensors themselves, not copies."""
        return {
            name: tensor
            for program in self.programs
            for pull in (*program.pulls, *program.penalties)
            if isinstance(pull.decay.reference, Initial)
            for name, tensor in zip(pull.names, pull.references, strict=True)
            if tensor is not None
        }

    def _native_value(self, program: GroupProgram, group: dict[str, Any]) -> Any:
        """What to write into the group's `weight_decay` now: c_t·λ_t/η_t."""
        decay = program.lowering.native
        assert decay is not None
        lr = group["lr"]
        coefficient = decay.coefficient_at(program.state.steps, self._lr_ratio(program, decay, group, lr))
        if decay.site is not Site.BEFORE or decay.scale is Scale.LR:
            return coefficient
        if decay.scale is Scale.LR_RATIO:
            return coefficient / self._peak(program, decay, group)
        if decay.scale is Scale.LR_SQUARED:
            return coefficient * (lr / self._peak(program, decay, group))
        return coefficient / lr if lr != 0 else 0.0

    def _peak(self, program: GroupProgram, decay: Decay, group: dict[str, Any]) -> float:
        """η_max: looked up until the first step is taken, because a scheduler may be made after attach; then kept."""
        if program.state.max_lr is not None:
            return program.state.max_lr
        peak = peak_of(decay, group, program.lowering.index, self.scheduler)
        if program in self._stepping:
            program.state.max_lr = peak
        return peak

    def _lr_ratio(self, program: GroupProgram, decay: Decay, group: dict[str, Any], lr: Any) -> float:
        if not decay.schedule.needs_lr:
            return 1.0
        return float(lr) / self._peak(program, decay, group)

    def _amount(self, program: GroupProgram, decay: Decay, group: dict[str, Any], lr: Any) -> kernels.Amount:
        """c_t·λ_t, checked."""
        coefficient = decay.coefficient_at(program.state.steps, self._lr_ratio(program, decay, group, lr))
        if decay.site is Site.GRADIENT:
            return coefficient
        peak = self._peak(program, decay, group) if decay.scale.needs_max_lr else None
        amount: kernels.Amount = decay.scale.factor(lr, peak) * coefficient
        check_fraction(decay, amount, program.lowering.index, lr)
        return amount

    def _lend(self, work: _Work) -> None:
        pull, amount = work.pull, work.amount
        if work.group.get("maximize", False):
            amount = -amount
        scale = getattr(self.optimizer, "grad_scale", None)
        if scale is not None:
            # A fused kernel divides by the scale after this, so the pull must be scaled like the gradient.
            amount = amount * scale
        for bucket in work.buckets:
            params, references, masks = _picked(pull, bucket)
            users = [_grad(param) for param in params]
            lent = kernels.coupled(users, params, pull.decay.regularizer, amount, references)
            for param, old, new, mask in zip(params, users, lent, masks, strict=True):
                param.grad = new if mask is None else torch.where(mask, new, old)
                self._lent.append((param, old, _grad(param)))

    def _proximal(self, work: _Work) -> None:
        for bucket in work.buckets:
            params, references, masks = _picked(work.pull, bucket)
            taus = [work.amount * step_size(self.optimizer, work.group, param) for param in params]
            with kernels.masked(params, masks):
                kernels.proximal_(params, work.pull.decay.regularizer, taus, references)


def check_fraction(decay: Decay, amount: Any, index: int, lr: Any) -> None:
    """Refuse an explicit L2 step that would remove a whole weight or more.

    Raises:
        ApplyError: c·λ is at least 1 (above 1 for a plain fraction per step).
    """
    if decay.proximal or not isinstance(decay.regularizer, L2) or decay.site not in (Site.BEFORE, Site.AFTER):
        return
    if amount < 1 or (decay.scale is Scale.ONE and amount <= 1):
        return
    raise ApplyError(
        f"group {index}: {decay!r} at learning rate {float(lr):g} would remove {float(amount):g} of each weight per step.",
        "At 1 every weight becomes 0, above 1 it changes its sign; the weights were left as they were.",
        "Lower the coefficient or the learning rate so that their product is well below 1.",
    )


def _pulls(rows: Sequence[tuple[Tensor, str, Decay]], bind: Bindings) -> list[Pull]:
    by_decay: list[tuple[Decay, list[str], list[Tensor]]] = []
    for param, name, decay in rows:
        for other, names, params in by_decay:
            if other == decay:
                names.append(name)
                params.append(param)
                break
        else:
            by_decay.append((decay, [name], [param]))
    return [
        Pull(
            decay,
            names,
            params,
            reference_tensors(decay.reference, names, params, bind),
            mask_tensors(decay.mask, names, params, bind),
        )
        for decay, names, params in by_decay
    ]


def _explicit(work: _Work) -> None:
    for bucket in work.buckets:
        params, references, masks = _picked(work.pull, bucket)
        with kernels.masked(params, masks):
            kernels.explicit_(params, work.pull.decay.regularizer, work.amount, references)


def _bucketed(pull: Pull, live: Sequence[int]) -> list[list[int]]:
    return [[live[i] for i in bucket] for bucket in kernels.buckets(pull.params[i] for i in live)]


def _picked(
    pull: Pull, bucket: Sequence[int]
) -> tuple[list[Tensor], list[Tensor | None], list[Tensor | None]]:
    return (
        [pull.params[i] for i in bucket],
        [pull.references[i] for i in bucket],
        [pull.masks[i] for i in bucket],
    )


def _grad(param: Tensor) -> Tensor:
    grad = param.grad
    assert grad is not None
    return grad


def _refuse_sparse(work: _Work) -> None:
    if work.pull.decay.site is not Site.GRADIENT:
        return
    sparse = [
        work.pull.names[i] for bucket in work.buckets for i in bucket if _grad(work.pull.params[i]).is_sparse
    ]
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


__all__ = ["Engine", "GroupProgram", "GroupState", "Pull", "check_fraction"]
