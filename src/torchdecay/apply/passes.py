"""Works carried out on tensors: before the update, and after it.

Everything that changes a weight or lends a gradient is here; what has to be done, and how hard, the engine has
decided and checked by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply import kernels
from torchdecay.apply.parts import by_grams, spectral_, toward_means_
from torchdecay.apply.rounding import Debts, is_low, pay_
from torchdecay.apply.row_pulls import RowPulls
from torchdecay.apply.runtimes import Runtime, constrained_step_, constrained_steps_, runtime_of
from torchdecay.apply.update_rules import UpdateRuntime
from torchdecay.apply.work import Amount, Pull, Target, Work
from torchdecay.batches import PLAIN
from torchdecay.optimizers.elementwise import Columns
from torchdecay.optimizers.gradients import maximizes, wide
from torchdecay.optimizers.steps import reads_update_sign, step_sizes, update_directions
from torchdecay.plans.controllers import Cautious, Controller, Multiplier, RowGate
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.references import Average
from torchdecay.plans.regularizers import L2, Deviation, PNorm, Regularizer, Spectral, SquaredNorm
from torchdecay.plans.update_rules import UpdateRule
from torchdecay.sharding import cut_like, cuts, like, local, whole

_Kernel = Callable[[Tensor, Tensor | None], None]


@dataclass
class _Loan:
    """A gradient that stands in for the user's while the optimizer steps."""

    param: Tensor
    users: Tensor
    lent: Tensor
    version: int


class _Pulled(NamedTuple):
    """A work that was carried out before the update: how its tensors stood then, they themselves, and their rows."""

    work: Work
    stood: list[Any]
    kept: list[Tensor] | None
    rows: list[Tensor | None] | None


class Passes:
    """Carries out the works of one step, and keeps what controllers and low-precision weights need between steps."""

    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull], run: kernels.Run, stages: Any = None) -> None:
        self.optimizer, self.run = optimizer, run
        self.debts = Debts()
        self.rows = RowPulls(optimizer, pulls)
        steered: dict[Controller | UpdateRule, list[Pull]] = {}
        for pull in pulls:
            if (steering := pull.decay.steering) is not None:
                steered.setdefault(steering, []).append(pull)
        self.runtimes: dict[Controller | UpdateRule, Runtime] = {
            one: (UpdateRuntime if isinstance(one, UpdateRule) else runtime_of(one))(optimizer, served, one)
            for one, served in steered.items()
        }
        for runtime in self.runtimes.values():
            runtime.stages = stages
        # Whether there is something to look at once the update is over.
        self._follows = bool(self.runtimes) or any(isinstance(pull.decay.reference, Average) for pull in pulls)
        self._later: list[Work] = []
        self._works: Sequence[Work] = []
        self._snapshots: dict[int, Tensor] = {}
        self._loans: list[_Loan] = []
        self._pulled: list[_Pulled] = []

    def versions(self) -> list[int]:
        """How often each weight was written to."""
        return [_version(param) for group in self.optimizer.param_groups for param in group["params"]]

    def before(self, works: Sequence[Work], *, late: bool = False) -> None:
        """All that comes before the optimizer's update; part of the graph where the update is.

        Args:
            works: what is to be done.
            late: do what can be done then after the update instead.
        """
        self._works = works
        with torch.set_grad_enabled(bool(self.optimizer.defaults.get("differentiable"))):
            self._begin(works, late)

    def _begin(self, works: Sequence[Work], late: bool) -> None:
        for steering, runtime in self.runtimes.items():
            runtime.before([work for work in works if work.pull.decay.steering == steering])
        for work in works:
            decay = work.pull.decay
            if decay.site is Site.GRADIENT:
                self._lend(work)
            elif decay.site is Site.AFTER or (late and decay.gate is None):
                if isinstance(decay.regularizer, PNorm):
                    self._snapshots |= {id(one.param): one.param.detach().clone() for one in work.targets}
                self._later.append(work)
            elif not isinstance(decay.gate, Cautious) or (
                reads_update_sign(self.optimizer, work.group) and not any(one.grad.is_sparse for one in work.targets)
            ):
                kept = None if _can_be_undone(work) else [one.param.detach().clone() for one in work.targets]
                rows = self._pull_now(work)
                self._pulled.append(_Pulled(work, _stand(work), kept, rows))
            else:
                self._snapshots |= {id(one.param): one.param.detach().clone() for one in work.targets}
                self._later.append(work)

    def again(self) -> None:
        """A closure that is evaluated again makes new gradients, which get their pulls; weights are pulled once."""
        coupled = [
            replace(work, targets=live, multipliers=None)
            for work in self._works
            if work.pull.decay.site is Site.GRADIENT and (live := work.pull.live())
        ]
        with torch.no_grad():
            for steering, runtime in self.runtimes.items():
                if mine := [work for work in coupled if work.pull.decay.steering == steering]:
                    runtime.before(mine)
            for work in coupled:
                self._lend(work)

    def after(self) -> None:
        """All that comes after the optimizer's update; `.grad` is the user's again."""
        if self._loans:
            self.give_back()
        if self._later or self._follows:
            self._finish()
        self._works, self._later, self._pulled = [], [], []

    def reset(self) -> None:
        """Forget a step that was begun and never ended, because the optimizer raised."""
        if self._loans:
            # A gradient that was written to since is what the user made of it, by zeroing and accumulating, say.
            self._loans = [loan for loan in self._loans if _version(loan.lent) == loan.version]
            self.give_back()
        self._put_back()
        self._works, self._later, self._pulled, self._snapshots = [], [], [], {}

    @torch.no_grad()
    def take_back(self) -> None:
        """Undo what a step that raised has pulled, where the update has not moved the weights since."""
        self.give_back()
        self._put_back()
        for work, stood, kept, rows in reversed(self._pulled):
            here = [i for i, (now, then) in enumerate(zip(_stand(work), stood, strict=True)) if now == then]
            targets, amounts = [work.targets[i] for i in here], [work.amounts[i] for i in here]
            if kept is None:
                # What takes a fraction a of the distance is undone by what takes -a/(1 - a).
                back = [-amount / (1 - amount) for amount in amounts]
                undo = replace(work, targets=targets, amount=1.0, multipliers=back)
                self._pull_now(undo, None if rows is None else [rows[i] for i in here])
                continue
            for i, one in zip(here, targets, strict=True):
                one.param.copy_(kept[i])
        self._pulled = []

    def give_back(self) -> None:
        """Put the user's gradients back where the step was lent others."""
        for loan in self._loans:
            # Whoever replaced the gradient since, zero_grad in a hook say, has the last word.
            if loan.param.grad is loan.lent:
                loan.param.grad = loan.users
        self._loans = []

    def is_emptied(self, name: str) -> bool:
        """Whether a parameter is 0 while the optimizer steps."""
        return any(runtime.is_emptied(name) for runtime in self.runtimes.values())

    def _put_back(self) -> None:
        """Give the weights back that are 0 while the optimizer steps."""
        for runtime in self.runtimes.values():
            runtime.take_back()

    def scalars(self) -> dict[str, Any]:
        """What has to survive a checkpoint, as plain numbers by parameter name."""
        controllers = {repr(steering): runtime.scalars() for steering, runtime in self.runtimes.items()}
        rows = {"rows": self.rows.scalars()} if self.rows.owes() else {}
        return {"controllers": controllers} | self.debts.scalars() | rows

    def duals(self) -> dict[str, float]:
        """The dual variables that runtimes hold, by parameter name."""
        return {name: float(mu) for runtime in self.runtimes.values() for name, mu in runtime.mu.items()}

    def load(self, scalars: Mapping[str, Any]) -> None:
        """Take over what `scalars` gave."""
        for steering, runtime in self.runtimes.items():
            if saved := scalars["controllers"].get(repr(steering)):
                runtime.load(saved)
        self.debts.load(scalars)
        self.rows.load(scalars.get("rows", {}))

    def inherit(self, other: Passes) -> None:
        """Take over what the same weights carried before."""
        self.debts = other.debts
        self.rows.inherit(other.rows)

    def inherit_controllers(self, other: Passes) -> None:
        """Take over what controllers of the same kind have seen."""
        for runtime in self.runtimes.values():
            # The very same last, so that it has the last word.
            for before in sorted(other.runtimes.values(), key=lambda one: one.controller == runtime.controller):
                if type(before) is type(runtime):
                    runtime.inherit(before)

    @torch.no_grad()
    def _finish(self) -> None:
        for steering, runtime in self.runtimes.items():
            runtime.after([work for work in self._later if work.pull.decay.steering == steering])
        for work in self._later:
            decay = work.pull.decay
            if isinstance(decay.gate, Cautious):
                self._pull_cautiously(work, decay.gate)
            elif decay.update is not None:
                runtime = self.runtimes[decay.update]
                assert isinstance(runtime, UpdateRuntime)
                runtime.carry_out(work, self.debts, self.run)
            elif isinstance(decay.controller, Multiplier):
                self._hold(work)
            elif decay.proximal:
                self._step_proximally(work)
            else:
                self._pull(work)
        for work in self._works:
            reference = work.pull.decay.reference
            if not isinstance(reference, Average):
                continue
            for one in work.targets:
                if (average := one.reference) is not None:
                    average.lerp_(one.param.detach().to(average.dtype), 1 - reference.beta)

    def _hold(self, work: Work) -> None:
        """θ ← θ − μ·∇R(θ), μ being the multipliers themselves."""
        regularizer = work.pull.decay.regularizer
        for ones, mus in _buckets(replace(work, amount=1.0)):
            if isinstance(regularizer, SquaredNorm) and not is_low(ones[0].param):
                here = _Here.of(ones, work.pull.decay)
                with kernels.masked(here.params, here.masks):
                    constrained_steps_(here.params, mus)
                continue
            tensors = [mu if isinstance(mu, Tensor) else torch.tensor(mu, dtype=torch.float64) for mu in mus]
            if isinstance(regularizer, Deviation) and _must_be_whole(regularizer, ones) and not is_low(ones[0].param):
                here = _Here.of(ones, work.pull.decay)
                with kernels.masked(here.params, here.masks):
                    toward_means_([one.param for one in ones], tensors)
                continue
            for one, mu in zip(ones, tensors, strict=True):
                turn, kernel = self.debts.turn(one.name, work.steps), _constrained(regularizer, mu)
                _run(one, turn, mu, kernel, regularizer)

    def _lend(self, work: Work) -> None:
        scale = getattr(self.optimizer, "grad_scale", None)
        # A fused kernel divides by the scale after this, so the pull must be scaled like the gradient.
        sign = (-1.0 if maximizes(self.optimizer, work.group) else 1.0) * (1.0 if scale is None else float(scale))
        for ones, amounts in _buckets(work):
            given, here = [local(one.grad) for one in ones], _Here.of(ones, work.pull.decay)
            taken = [amount * sign for amount in amounts]
            # Who differentiates the gradients again finds the pull in them.
            with torch.set_grad_enabled(torch.is_grad_enabled() or any(grad.requires_grad for grad in given)):
                sums = kernels.coupled(given, here.params, work.pull.decay.regularizer, taken, here.references)
            for one, old, param, mask, new in zip(ones, given, here.params, here.masks, sums, strict=True):
                lent = new if mask is None else torch.where(mask, new, old)
                if lent.stride() != param.stride():
                    # Fused kernels on a CPU read a gradient as if it lay in memory like its weight.
                    lent = torch.empty_like(param).copy_(lent)
                lent = like(lent, one.param)
                self._loans.append(_Loan(one.param, cast(Tensor, one.param.grad), lent, _version(lent)))
                one.param.grad = lent

    def _pull_now(self, work: Work, rows: Sequence[Tensor | None] | None = None) -> list[Tensor | None] | None:
        """Carry a pull out, and say which rows it moved, where it goes by rows."""
        gate = work.pull.decay.gate
        if isinstance(gate, RowGate):
            return self.rows.pull(work, rows)
        if isinstance(gate, Cautious):
            self._pull_cautiously(work, gate)
        else:
            self._pull(work)
        return None

    def _pull(self, work: Work) -> None:
        """θ ← θ − c·λ·∇R(θ − ref)."""
        regularizer = work.pull.decay.regularizer
        for ones, amounts in _buckets(work):
            if isinstance(regularizer, Spectral) and not is_low(ones[0].param):
                ones, amounts = _pull_by_grams(work, ones, amounts)
            if not ones:
                continue
            if is_low(ones[0].param) or _must_be_whole(regularizer, ones):
                for one, amount in zip(ones, amounts, strict=True):
                    # Slices that are pulled unlike each other owe nothing: what is taken off them is rounded at random.
                    is_one = isinstance(regularizer, L2) and not (isinstance(amount, Tensor) and amount.dim())
                    owes = is_one and is_low(one.param)
                    due = self.debts.shrink(one.name, float(amount)) if owes else amount
                    _run(one, self.debts.turn(one.name, work.steps), due, _explicit(regularizer, due), regularizer)
            else:
                if self.debts.owed:
                    amounts = [
                        a if one.weights is not None else self.debts.due(one.name, one.param, a)
                        for one, a in zip(ones, amounts, strict=True)
                    ]
                here = _Here.of(ones, work.pull.decay)
                with kernels.masked(here.params, here.masks):
                    kernels.explicit_(here.params, regularizer, amounts, here.references, self.run)

    def _pull_cautiously(self, work: Work, gate: Cautious) -> None:
        """θ ← θ − c·λ·1[u⊙θ ≥ 0]⊙θ, with u's signs from state, or from a snapshot when the update is over."""
        spare = gate.zero_update == "spare"
        for ones, amounts in _buckets(work):
            owes = is_low(ones[0].param) or self.debts.owed or self.debts.added
            if owes or any(id(one.param) in self._snapshots for one in ones):
                for one, amount in zip(ones, amounts, strict=True):
                    self._pull_one_cautiously(work, one, amount, spare=spare)
                continue
            here = _Here.of(ones, work.pull.decay)
            with kernels.masked(here.params, here.masks):
                for columns in update_directions(self.optimizer, work.group, [one.param for one in ones]):
                    # At 0 even what is infinite stays as it is.
                    if all(isinstance(amounts[i], Tensor) or amounts[i] != 0 for i in columns.places):
                        some, by = _at(columns.places, here.params), _at(columns.places, amounts)
                        kernels.cautious_(some, by, columns.of, _read(columns), spare_zeros=spare, run=self.run)

    def _pull_one_cautiously(self, work: Work, one: Target, amount: Amount, *, spare: bool) -> None:
        due = amount if one.weights is not None else self.debts.due(one.name, one.param, amount)
        old, turn = self._snapshots.pop(id(one.param), None), self.debts.turn(one.name, work.steps)
        if old is not None:
            _run(one, turn, due, _pull_back(local(one.param), local(old), due, spare=spare))
            return
        (columns,) = update_directions(self.optimizer, work.group, [one.param])
        read, run = _read(columns), self.run
        _run(one, turn, due, lambda p, ref: kernels.cautious_([p], [due], columns.of, read, spare_zeros=spare, run=run))

    def _step_proximally(self, work: Work) -> None:
        """θ ← prox of c·λ·s·R, s being 1 where R is smooth."""
        regularizer = work.pull.decay.regularizer
        if isinstance(regularizer, PNorm):
            for one, amount in zip(work.targets, work.amounts, strict=True):
                old, turn = local(self._snapshots.pop(id(one.param))), self.debts.turn(one.name, work.steps)
                by = local(amount) if isinstance(amount, Tensor) else amount
                _run(one, turn, by, _by_power(regularizer, old, by, self.run))
            return
        for ones, amounts in _buckets(work):
            params = [one.param for one in ones]
            sized = step_sizes(self.optimizer, work.group, params, regularizer)
            if is_low(ones[0].param):
                for one, amount, by in zip(ones, amounts, _whole_sizes(sized, len(ones)), strict=True):
                    if one.weights is None:
                        self._step_late(work, one, float(amount), by)
                    else:
                        turn, tau = self.debts.turn(one.name, work.steps), amount * by
                        _run(one, turn, tau, _proximal(regularizer, tau), regularizer)
                continue
            if self.debts.owed or self.debts.added:
                amounts = [self.debts.strength(one.name, a) for one, a in zip(ones, amounts, strict=True)]
            if _must_be_whole(regularizer, ones):
                for one, amount, size in zip(ones, amounts, _whole_sizes(sized, len(ones)), strict=True):
                    _run(one, 0.0, amount, _proximal(regularizer, amount * size), regularizer)
                continue
            here = _Here.of(ones, work.pull.decay)
            with kernels.masked(here.params, here.masks):
                if isinstance(sized, float):
                    taus = amounts if sized == 1.0 else [amount * sized for amount in amounts]
                    kernels.proximal_(here.params, regularizer, taus, here.references, self.run)
                    continue
                for columns in sized:
                    some, taus, refs = (_at(columns.places, held) for held in (here.params, amounts, here.references))
                    kernels.proximal_(some, regularizer, taus, refs, self.run, size=columns.of, read=_read(columns))

    def _step_late(self, work: Work, one: Target, amount: float, size: Amount) -> None:
        """The proximal step of a low-precision weight, once it can be seen."""
        regularizer, turn = work.pull.decay.regularizer, self.debts.turn(one.name, work.steps)
        if isinstance(regularizer, L2) and one.reference is None:
            # 1/(1 + τ) is a shrink, which can be owed for longer than a displacement.
            due = self.debts.shrink(one.name, amount / (1 + amount))
            _run(one, turn, due, _explicit(regularizer, due))
            return
        unit = 1.0 if regularizer.smooth else self.debts.unit(one.name, one.param, size)
        tau = self.debts.add(one.name, amount, unit) * size
        _run(one, turn, tau, _proximal(regularizer, tau), regularizer)


def _can_be_undone(work: Work) -> bool:
    """Whether weights can be told from what a pull has left of them; of a whole one nothing is left."""
    is_l2 = isinstance(work.pull.decay.regularizer, L2) and not work.pull.is_weighted
    return is_l2 and (isinstance(work.amount, Tensor) or work.amount < 1)


def _stand(work: Work) -> list[Any]:
    """What tells that targets were written to; of a cautious pull their gradients too, which have the sign."""
    params = [one.param for one in work.targets]
    try:
        versions = list(map(_VERSION, params))
    except RuntimeError:
        versions = list(map(_version, params))
    if not isinstance(work.pull.decay.gate, Cautious):
        return versions
    grads = [param.grad for param in params]
    return [(version, id(g), g is not None and _version(g)) for version, g in zip(versions, grads, strict=True)]


_VERSION = attrgetter("_version")


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; inference mode does not count that."""
    return 0 if tensor.is_inference() else tensor._version


def _buckets(work: Work) -> list[tuple[list[Target], list[Amount]]]:
    """What a work pulls and how hard, by device, dtype and tensor type."""
    ones, amounts, buckets = work.targets, work.amounts, work.pull.buckets(work.targets)
    if not isinstance(work.amount, float) or work.multipliers is not None:
        amounts = [local(amount) if isinstance(amount, Tensor) else amount for amount in amounts]
    if len(buckets) == 1:
        return [(list(ones), amounts)]
    return [([ones[i] for i in bucket], [amounts[i] for i in bucket]) for bucket in buckets]


class _Here(NamedTuple):
    """Of some targets what this process has."""

    params: list[Tensor]
    references: list[Tensor | None]
    masks: list[Tensor | None]

    @classmethod
    def of(cls, ones: Sequence[Target], decay: Decay) -> _Here:
        params = [one.param for one in ones]
        nothing: list[Tensor | None] = [None] * len(ones)
        return cls(
            # All are of one type.
            params if type(params[0]) in PLAIN else list(map(local, params)),
            nothing if decay.reference is None else [_local(one.reference) for one in ones],
            nothing if decay.mask is None else [_local(one.mask) for one in ones],
        )


def _local(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else local(tensor)


def _at(places: Sequence[int], held: Sequence[Any]) -> list[Any]:
    return [held[i] for i in places]


def _read(columns: Columns) -> list[list[Tensor] | Tensor]:
    """What is here of what is to be read."""
    return [list(map(local, one)) if isinstance(one, list) else one for one in columns.tensors]


def _whole_sizes(sized: float | list[Columns], count: int) -> list[Amount]:
    """The sizes of steps of each weight that is here."""
    if isinstance(sized, float):
        return [sized] * count
    found = dict(pair for columns in sized for pair in replace(columns, tensors=tuple(_read(columns))).each())
    return [wide(found[place].whole()) for place in range(count)]


def _pull_by_grams(work: Work, ones: list[Target], amounts: list[Amount]) -> tuple[list[Target], list[Amount]]:
    """Pull spectrally what can be pulled on its parts; what is left."""
    can = [one.weights is None and by_grams(one.param) for one in ones]
    some = [one for one, is_one in zip(ones, can, strict=True) if is_one]
    if some:
        here = _Here.of(some, work.pull.decay)
        with kernels.masked(here.params, here.masks):
            own = [amount for amount, is_one in zip(amounts, can, strict=True) if is_one]
            spectral_([one.param for one in some], own, here.references)
    left = [pair for pair, is_one in zip(zip(ones, amounts, strict=True), can, strict=True) if not is_one]
    return [one for one, _ in left], [amount for _, amount in left]


def _must_be_whole(regularizer: Regularizer, ones: Sequence[Target]) -> bool:
    """Whether the gradient of a part is no part of the gradient, and there are parts."""
    return not regularizer.elementwise and any(cuts(one.param) for one in ones)


def _run(one: Target, turn: float, amount: Amount, kernel: _Kernel, regularizer: Regularizer | None = None) -> None:
    """Run an in-place kernel on one parameter; on a low-precision one as a payment of its debt, if any is due."""
    if not isinstance(amount, Tensor) and amount == 0:
        return
    entire = regularizer is not None and _must_be_whole(regularizer, [one])
    shown = whole if entire else local
    part, reference = shown(one.param.detach()), None if (held := one.reference) is None else shown(held)
    mask = None if one.mask is None else shown(one.mask)
    low = is_low(one.param)
    if low and reference is not None:
        reference = reference.float()

    def masked_(p: Tensor) -> None:
        with kernels.masked([p], [mask]):
            kernel(p, reference)

    if low:
        pay_(one.param, one.name, turn, masked_, part=part)
    else:
        masked_(part)
    if entire:
        local(one.param).copy_(cut_like(part, one.param))


def _constrained(regularizer: Regularizer, mu: Any) -> _Kernel:
    return lambda p, ref: constrained_step_(p, regularizer, mu)


def _by_power(regularizer: PNorm, old: Tensor, amount: Amount, run: kernels.Run) -> _Kernel:
    """θ ← θ/(1 + amount·p·|old|^(p−2)), old being the weights before the update."""
    return lambda p, ref: run(kernels.by_power_, p, amount, (old.to(p.dtype),), regularizer)


def _explicit(regularizer: Regularizer, amount: Amount) -> _Kernel:
    """θ ← θ − amount·∇R(θ − ref)."""
    return lambda p, ref: kernels.explicit_([p], regularizer, [amount], [ref])


def _proximal(regularizer: Regularizer, tau: Amount) -> _Kernel:
    """θ ← ref + prox of τ·R at θ − ref."""
    return lambda p, ref: kernels.proximal_([p], regularizer, [tau], [ref])


def _pull_back(param: Tensor, old: Tensor, amount: Amount, *, spare: bool) -> _Kernel:
    """θ ← θ − amount·1[u⊙old ≥ 0]⊙old, the update u = old − θ being over."""

    def pull_(p: Tensor, ref: Tensor | None) -> None:
        agreement = (old - param) * old
        mask = (agreement > 0) if spare else (agreement >= 0)
        p.sub_(mask * old * amount)

    return pull_
