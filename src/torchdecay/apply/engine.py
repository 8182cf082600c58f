"""One step of a lowered plan: what happens before the optimizer's update, and what after.

The engine knows nothing of hooks, closures or checkpoints (see `attach`). It checks everything that a step needs
before it changes the first tensor, so that a step that is refused leaves the weights as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.bindings import Bindings, digest, mask_tensors, reference_tensors
from torchdecay.apply.kernels import Run
from torchdecay.apply.lowering import GroupLowering, Lowering
from torchdecay.apply.passes import Passes
from torchdecay.apply.work import Amount, Pull, Work
from torchdecay.errors import ApplyError
from torchdecay.optimizers.cards import has_trait, settled_factor
from torchdecay.optimizers.peaks import peak_of
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.references import Average, Bound, Initial, Reference, Tensors
from torchdecay.plans.regularizers import L2
from torchdecay.plans.schedules import Constant
from torchdecay.text import listed


@dataclass
class GroupState:
    """What one group remembers: steps really taken, and its own peak learning rate once that is known."""

    steps: int = 0
    max_lr: float | None = None


@dataclass(eq=False)
class GroupProgram:
    """One parameter group as the engine runs it.

    Attributes:
        lowering: what runs natively, by hook and through the loss.
        pulls: what runs by hook.
        penalties: what runs through the loss.
        state: what the group remembers.
        written: what the handle last wrote under `weight_decay`, to notice another hand; a tensor that is filled
            anew at each step where the group has tensors for numbers (see `write`).
    """

    lowering: GroupLowering
    pulls: list[Pull]
    penalties: list[Pull]
    state: GroupState = field(default_factory=GroupState)
    written: float | Tensor | None = None

    @cached_property
    def needs_peak(self) -> Decay | None:
        """A decay that needs the group's own peak learning rate, if there is one."""
        decays = [pull.decay for pull in (*self.pulls, *self.penalties)]
        decays += [] if self.lowering.native is None else [self.lowering.native]
        needing = (d for d in decays if d.max_lr is None and (d.scale.needs_max_lr or d.schedule.needs_lr))
        return next(needing, None)


class Engine:
    """Carries out a lowering step by step."""

    def __init__(self, optimizer: Optimizer, lowering: Lowering, bind: Bindings, scheduler: Any, run: Run) -> None:
        self.optimizer, self.scheduler = optimizer, scheduler
        self.programs = [
            GroupProgram(group, _pulls(group.hooked, bind), _pulls(group.loss, bind)) for group in lowering.groups
        ]
        self.lowering = _with_lacking(lowering, self.programs)
        self.has_pulls = any(program.pulls for program in self.programs)
        self._members = [list(group["params"]) for group in optimizer.param_groups]
        self._frozen = [param for params in self._members for param in params if not param.requires_grad]
        self._digest: str | None = None
        self._passes = Passes(optimizer, [pull for program in self.programs for pull in program.pulls], run)
        self._stepping: list[GroupProgram] = []

    def is_outdated(self) -> bool:
        """Whether the optimizer has other parameters than it had, or one that was frozen asks for a gradient."""
        groups = self.optimizer.param_groups
        return (
            len(groups) != len(self._members)
            or any(param.requires_grad for param in self._frozen)
            or not all(
                len(group["params"]) == len(known) and all(map(is_, group["params"], known))
                for group, known in zip(groups, self._members, strict=True)
            )
        )

    def expects_penalty(self) -> bool:
        """Whether the step that comes would have moved weights through a penalty in the loss."""
        groups = self.optimizer.param_groups
        return any(
            program.penalties and group.get("lr") != 0 for program, group in zip(self.programs, groups, strict=True)
        )

    def before(self) -> None:
        """All that comes before the optimizer's update.

        At learning rate 0 only what the optimizer itself would put into its momentum is done: no weight moves, and
        the step does not count.

        Raises:
            ApplyError: a coefficient of 1 or more per step, a gradient that the pull can't be added to, or a graph
                that is captured around a coefficient that changes.
            DecayError: a schedule that returned NaN or a negative number.
        """
        self.reset()
        if _found_inf(self.optimizer):
            return
        self._refuse_capture()
        works: list[Work] = []
        writes: list[tuple[GroupProgram, dict[str, Any], float]] = []
        stepping: list[GroupProgram] = []
        for program, group in zip(self.programs, self.optimizer.param_groups, strict=True):
            if all(param.grad is None for param in group["params"]):
                continue
            moves = bool(group.get("lr") != 0)
            if moves:
                stepping.append(program)
                self._keep_peak(program, group)
            if program.lowering.native is not None:
                value = program.written
                if value is None or program.lowering.every_step or program.state.steps == 0:
                    value = native = self.native_value(program, group)
                    writes.append((program, group, native))
                self._check_native(program, group, value)
            for pull in program.pulls:
                plainly_coupled = pull.decay.site is Site.GRADIENT and pull.decay.controller is None
                if (moves or plainly_coupled) and (live := pull.live()):
                    amount = self.amount(program, pull.decay, group)
                    works.append(Work(pull, group, live, amount, program.state.steps))
        for work in works:
            _refuse_sparse(work)
        for program, group, value in writes:
            self._write(program, group, value)
        self._stepping = stepping
        if works:
            self._passes.before(works)

    def _refuse_capture(self) -> None:
        """A captured graph repeats the numbers of the step that it was captured at."""
        if not any(group.get("capturable") for group in self.optimizer.param_groups):
            return
        if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            return
        for program in self.programs:
            for decay in (program.lowering.native, *(pull.decay for pull in program.pulls)):
                if decay is not None and decay.schedule != Constant():
                    raise ApplyError(
                        f"group {program.lowering.index}: {decay!r} follows a schedule, inside a CUDA graph.",
                        "The graph would repeat the coefficient of the step that it was captured at, for ever.",
                        "Capture forward and backward only and step outside, or give the decay no schedule.",
                    )

    def after(self) -> None:
        """All that comes after the optimizer's update; `.grad` is the user's again."""
        self._passes.after()
        for program in self._stepping:
            program.state.steps += 1
        self._stepping = []

    def reset(self) -> None:
        """Forget a step that was begun and never ended, because the optimizer raised."""
        self._passes.reset()
        self._stepping = []

    def give_back(self) -> None:
        """Put the user's gradients back where the step was lent others."""
        self._passes.give_back()

    def check(self) -> list[float | None]:
        """What the groups need under `weight_decay`, None where there is nothing to own; changes nothing.

        Raises:
            ApplyError, DecayError: the next step would be refused.
        """
        values: list[float | None] = []
        for program, group in zip(self.programs, self.optimizer.param_groups, strict=True):
            value = 0.0 if "weight_decay" in group else None
            if program.lowering.native is not None:
                value = self.native_value(program, group)
                self._check_native(program, group, value)
            for pull in program.pulls:
                if group.get("lr") != 0:
                    self.amount(program, pull.decay, group)
            values.append(value)
        return values

    def write(self, values: Sequence[float | None]) -> None:
        """Own the groups' `weight_decay`: write what `check` returned.

        A compiled step is compiled anew for each number that it has not seen, but not for a tensor that is filled:
        so where a group's learning rate is a tensor, what changes from step to step is one too.
        """
        for program, group, value in zip(self.programs, self.optimizer.param_groups, values, strict=True):
            if value is None:
                program.written = None
            else:
                self._write(program, group, value)

    def _write(self, program: GroupProgram, group: dict[str, Any], value: float) -> None:
        lr = group.get("lr")
        if program.lowering.every_step and isinstance(lr, Tensor) and has_trait(self.optimizer, "tensor decay"):
            if not isinstance(program.written, Tensor):
                program.written = torch.zeros((), dtype=lr.dtype, device=lr.device)
            program.written.fill_(value)
        else:
            program.written = value
        group["weight_decay"] = program.written

    def coefficient(self, program: GroupProgram, decay: Decay) -> float:
        """λ_t at the step that comes next."""
        group = self.optimizer.param_groups[program.lowering.index]
        ratio = 1.0
        if decay.schedule.needs_lr:
            lr = float(_lr_of(group, program.lowering.index, decay))
            ratio = lr / self._peak(program, decay, group) if lr else 0.0
        return decay.coefficient_at(program.state.steps, ratio)

    def inherit(self, other: Engine) -> None:
        """Take over counters, peaks, controllers and kept references from the engine that ran before."""
        for mine, theirs in zip(self.programs, other.programs, strict=False):
            mine.state = theirs.state
        self._passes.inherit(other._passes)
        self.load_references(other.initial_references())

    def scalars(self) -> dict[str, Any]:
        """What controllers and low-precision weights carry from step to step, as plain numbers."""
        return self._passes.scalars()

    def load_scalars(self, scalars: Mapping[str, Any]) -> None:
        """Take over what `scalars` gave."""
        self._passes.load(scalars)

    def flush(self) -> None:
        """Let rows that pay late pay what they owe."""
        self._passes.rows.flush()

    def forget_rows(self) -> None:
        """Forgive what rows owe, for a measurement that begins with weights that owe nothing."""
        self._passes.rows.forget()

    def catch_up(self, param: Tensor, rows: Tensor) -> None:
        """Let rows that are about to be read pay what they owe."""
        self._passes.rows.catch_up(param, rows)

    def lazy_params(self) -> list[Tensor]:
        """Tables whose rows pay late."""
        return self._passes.rows.lazy_params()

    def owes_rows(self) -> bool:
        """Whether any row may owe something."""
        return self._passes.rows.owes()

    def initial_references(self) -> dict[str, Tensor]:
        """The "initial" references by parameter name; the tensors themselves, not copies."""
        return self._references(Initial, Average)

    def digest(self) -> str:
        """SHA-256 of the references that only memory holds, or "": a file has a hash in the plan."""
        if self._digest is None or self._references(Average):
            held = self._references(Initial, Average, Tensors, Bound)
            self._digest = digest([held[name] for name in sorted(held)]) if held else ""
        return self._digest

    def load_references(self, state: Mapping[str, Tensor]) -> None:
        """Overwrite "initial" references, by parameter name."""
        for name, tensor in self.initial_references().items():
            if name in state and state[name].shape == tensor.shape:
                tensor.copy_(state[name])
        self._digest = None

    def _references(self, *kinds: type[Reference]) -> dict[str, Tensor]:
        return {
            name: tensor
            for program in self.programs
            for pull in (*program.pulls, *program.penalties)
            if isinstance(pull.decay.reference, kinds)
            for name, tensor in zip(pull.names, pull.references, strict=True)
            if tensor is not None
        }

    def native_value(self, program: GroupProgram, group: dict[str, Any]) -> float:
        """What to write into the group's `weight_decay` now: c_t·λ_t/η_t."""
        decay, index = program.lowering.native, program.lowering.index
        assert decay is not None
        coefficient = self.coefficient(program, decay)
        if decay.site is not Site.BEFORE or decay.scale is Scale.LR:
            return coefficient
        lr = float(_lr_of(group, index, decay))
        if lr == 0:
            # Whatever stands there moves nothing, and a peak may not be known yet.
            return 0.0
        if decay.scale is Scale.LR_RATIO:
            return coefficient / self._peak(program, decay, group)
        if decay.scale is Scale.LR_SQUARED:
            return coefficient * (lr / self._peak(program, decay, group))
        check_fraction(decay, coefficient, index, lr)
        return coefficient / lr

    def amount(self, program: GroupProgram, decay: Decay, group: dict[str, Any]) -> Amount:
        """c_t·λ_t of a pull at the step that comes next.

        Raises:
            ApplyError: it is 1 or more.
        """
        index = program.lowering.index
        coefficient = self.coefficient(program, decay)
        if decay.site is Site.GRADIENT:
            if isinstance(decay.regularizer, L2) and settled_factor(self.optimizer, group) is not None:
                check_fraction(decay, coefficient * group["lr"], index, group["lr"])
            return coefficient
        lr = _lr_of(group, index, decay) if decay.scale is not Scale.ONE else 1.0
        peak = self._peak(program, decay, group) if decay.scale.needs_max_lr else None
        amount: Amount = decay.scale.factor(lr, peak) * coefficient
        if isinstance(decay.regularizer, L2) and not decay.proximal and decay.controller is None:
            check_fraction(decay, amount, index, lr)
        return amount

    def _check_native(self, program: GroupProgram, group: dict[str, Any], value: float | Tensor) -> None:
        decay = program.lowering.native
        # A fraction per step was checked as such: divided and multiplied by the learning rate, 1 may come out above 1.
        if program.lowering.is_fraction and decay is not None and not _is_plain_fraction(decay):
            check_fraction(decay, value * group["lr"], program.lowering.index, group["lr"])

    def _peak(self, program: GroupProgram, decay: Decay, group: dict[str, Any]) -> float:
        """η_max: the decay's own, or the group's, which is kept from the first step on."""
        if decay.max_lr is not None:
            return decay.max_lr
        if program.state.max_lr is not None:
            return program.state.max_lr
        return peak_of(decay, group, program.lowering.index, self.scheduler)

    def _keep_peak(self, program: GroupProgram, group: dict[str, Any]) -> None:
        # Not before the first step, because a scheduler may be made after attach.
        if program.state.max_lr is None and (decay := program.needs_peak) is not None:
            program.state.max_lr = peak_of(decay, group, program.lowering.index, self.scheduler)


def check_fraction(decay: Decay, amount: Any, index: int, lr: Any) -> None:
    """Refuse an L2 step that would remove a whole weight or more.

    Raises:
        ApplyError: the amount is at least 1 (above 1 for a plain fraction per step).
    """
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


def _lr_of(group: dict[str, Any], index: int, decay: Decay) -> Any:
    lr = group.get("lr")
    if lr is None:
        raise ApplyError(
            f"group {index} has no learning rate, and {decay!r} is multiplied by it.",
            "This optimizer finds its own step size.",
            "Use td.per_step(fraction) or td.coupled(wd), or give the optimizer a learning rate.",
        )
    if group.get("fused") and isinstance(lr, Tensor) and lr.device.type == "cpu":
        # Fused kernels on a CPU read it in double precision, the others keep its own.
        return lr.item()
    return lr


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


def _with_lacking(lowering: Lowering, programs: Sequence[GroupProgram]) -> Lowering:
    """The lowering, saying of which parameters the reference has nothing."""
    lacking = {
        name
        for program in programs
        for pull in (*program.pulls, *program.penalties)
        if pull.decay.reference is not None
        for name, reference in zip(pull.names, pull.references, strict=True)
        if reference is None
    }
    said = "; the reference lacks it, so it is pulled toward 0"
    rows = tuple(replace(row, why=row.why + said) if row.name in lacking else row for row in lowering.rows)
    return replace(lowering, rows=rows)


def _refuse_sparse(work: Work) -> None:
    if work.pull.decay.site is not Site.GRADIENT:
        return
    sparse = [name for name, grad in zip(work.names, work.grads, strict=True) if grad.is_sparse]
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
