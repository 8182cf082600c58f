r"""Update rules at work: what becomes of the weights once the optimizer has updated them.

With W the weights before the step and D = W − W_after = ηu what the optimizer took off them, every rule makes

$$W \leftarrow a W - b D,$$

with two numbers for each slice that has a norm of its own. They follow from ‖W‖, ‖D‖ and ⟨W, D⟩, so that a copy of W
is read twice: for these three, and for the sum. A rule that only rescales W_after, a = b, needs no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply import kernels
from torchdecay.apply.rounding import DUE, Debts, is_low, pay_
from torchdecay.apply.runtimes import Runtime, on_one_device
from torchdecay.apply.sums import are_summed, moments_beside, moments_of_rows
from torchdecay.apply.work import Pull, Target, Work, buckets, lasting
from torchdecay.batches import are_small, batches, put_rows_, rows
from torchdecay.optimizers.cards import has_trait
from torchdecay.optimizers.gradients import wide
from torchdecay.plans.granularity import dims_of
from torchdecay.plans.update_rules import Hyperball, NormProjection, RadialBrake, RelativeUpdate, Sphere, UpdateRule
from torchdecay.sharding import all_over_ranks, are_several, cuts, local, norm, norms, slices_of, sums_of

_LAYOUT = attrgetter("name", "param.shape", "param.dtype", "param.device")


class Step(NamedTuple):
    """What a rule may know of a step, a number for each slice: 0-d, or with size 1 where a norm is taken over.

    Attributes:
        before: ‖W‖.
        update: ‖D‖.
        product: ⟨W, D⟩.
        radius: R at attach; of a rule that keeps none, ‖W‖.
        lr: η.
    """

    before: Tensor
    update: Tensor
    product: Tensor
    radius: Tensor
    lr: Any


def _hyperball(rule: Hyperball, step: Step) -> tuple[Tensor, Tensor]:
    share = step.lr * step.radius / step.update
    # ‖W − share·D‖²; below 0 it is by rounding alone.
    made = (step.before**2 - 2 * share * step.product + (share * step.update) ** 2).clamp(min=0).sqrt()
    return step.radius / made, step.radius / made * share


def _relative_update(rule: RelativeUpdate, step: Step) -> tuple[Tensor, Tensor]:
    return torch.ones_like(step.before), step.lr * step.before / step.update


_SUMS: Mapping[type[UpdateRule], Callable[[Any, Step], tuple[Tensor, Tensor]]] = {
    Hyperball: _hyperball,
    RelativeUpdate: _relative_update,
}
"""a and b of each rule that keeps a copy; NaN or infinite where a norm is 0."""


def _projection(rule: NormProjection, before: Tensor, after: Tensor, radius: Tensor) -> Tensor:
    return radius / after


def _radial_brake(rule: RadialBrake, before: Tensor, after: Tensor, radius: Tensor) -> Tensor:
    kept = torch.where(after > before, rule.outward, rule.inward).to(after)
    return (before + kept * (after - before)) / after


_FACTORS: Mapping[type[UpdateRule], Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    NormProjection: _projection,
    RadialBrake: _radial_brake,
}
"""What each other rule multiplies W_after by, from ‖W‖, ‖W_after‖ and R; NaN or infinite where a norm is 0."""


class UpdateRuntime(Runtime):
    """Carries out one rule: looks at weights before the update, and sets them after it.

    It keeps one norm for each slice where the radius is that at attach, and a copy of the weights where the rule
    needs one: to give its memory back after each step, and take it anew, would cost more than the copy.

    In low precision most of what an optimizer takes off a weight is rounded away, and so would be the direction of its
    step. Where the update reads no weights they are 0 while the optimizer steps, and what it takes off is seen whole.
    """

    keeps = ("start",)

    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull], rule: UpdateRule) -> None:
        super().__init__(optimizer, pulls, rule)
        self.rule: UpdateRule = rule
        self.start: dict[str, Tensor] = {}
        if isinstance(rule, Sphere) and rule.radius == "initial":
            self.start = self._norms([one for pull in pulls for one in pull.targets])
        self._copies: dict[str, Tensor] = {}
        self._layouts: list[Any] = []
        self._before: dict[str, Tensor] = {}
        self._emptied: dict[str, Tensor] = {}

    @torch.no_grad()
    def before(self, works: Sequence[Work]) -> None:
        """Before the update: copy the weights, or take their norms."""
        self._before, ones = {}, [one for work in works for one in work.targets]
        if not self.rule.keeps_copy:
            self._before = {} if self._is_restored() else self._norms(ones)
            return
        if (layouts := list(map(_LAYOUT, ones))) != self._layouts:
            self._layouts = layouts
            for one in ones:
                self._make_copy(one)
        params = [one.param for one in ones]
        copies = [self._copies[one.name] for one in ones]
        for bucket in buckets(params):
            torch._foreach_copy_([local(copies[i]) for i in bucket], [local(params[i]) for i in bucket])
        for one in ones if has_trait(self.optimizer, "blind") else ():
            if is_low(one.param):
                one.param.detach().zero_()
                self._emptied[one.name] = one.param

    def inherit(self, other: UpdateRuntime) -> None:
        """Take over the norms at attach, where they are of the same slices."""
        if other.rule.per == self.rule.per:
            super().inherit(other)

    def is_emptied(self, name: str) -> bool:
        """Whether a parameter is 0 while the optimizer steps."""
        return name in self._emptied

    @torch.no_grad()
    def take_back(self) -> None:
        """Put back weights that were emptied, with what the update has made of them by now."""
        for name, param in self._emptied.items():
            param.add_(self._copies[name])
        self._emptied = {}

    def carry_out(self, work: Work, debts: Debts, run: kernels.Run) -> None:
        """After the update: set the weights."""
        share, others = float(work.amount), list(work.targets)
        if share and self.rule.keeps_copy:
            others = self._combine_together(self._combine_cut(others, work, share, run), work, share, run)
        elif share:
            others = self._rescale_together(others, share)
        for one in others:
            turn = debts.turn(one.name, work.steps)
            if share and self.rule.keeps_copy:
                self._combine(one, work, share, turn, run)
            elif share:
                self._rescale(one, share, turn, debts)
            elif one.name in self._emptied:
                self._combine(one, work, 0.0, turn, run)
            # Those of other groups are 0 still.
            self._emptied.pop(one.name, None)

    def _norm(self, param: Tensor) -> Tensor:
        return norm(param, dims_of(self.rule.per, param.dim()))

    def _norms(self, targets: Sequence[Target]) -> dict[str, Tensor]:
        """`_norm` of each, by name: of whole tensors all together."""
        found: dict[str, Tensor] = {}
        for ones in on_one_device(targets):
            entire = [one for one in ones if dims_of(self.rule.per, one.param.dim()) is None]
            if entire:
                values = norms([one.param for one in entire]).unbind()
                found |= dict(zip([one.name for one in entire], values, strict=True))
        return {one.name: found[one.name] if one.name in found else self._norm(one.param) for one in targets}

    def _parted(self, targets: Sequence[Target]) -> tuple[list[Target], list[Target]]:
        """Weights that have one norm and are precise enough to be multiplied as they are; and the others."""
        entire: list[Target] = []
        others: list[Target] = []
        is_one = {
            num_dims: dims_of(self.rule.per, num_dims) is None for num_dims in {one.param.dim() for one in targets}
        }
        for one in targets:
            fits = is_one[one.param.dim()] and not is_low(one.param) and one.name not in self._emptied
            (entire if fits else others).append(one)
        return entire, others

    def _make_copy(self, one: Target) -> None:
        held, param = self._copies.get(one.name), one.param.detach()
        if held is None or (held.shape, held.dtype, held.device) != (param.shape, param.dtype, param.device):
            with lasting():
                self._copies[one.name] = torch.empty_like(param)

    def _radius(self, one: Target, before: Tensor) -> Tensor:
        radius: Any = self.rule.radius if isinstance(self.rule, Sphere) else "current"
        if radius == "current":
            return before
        return self.start[one.name].to(before) if radius == "initial" else torch.full_like(before, radius)

    def _radii(self, ones: Sequence[Target], before: Tensor) -> Tensor:
        """`_radius` of many whole tensors, of which `before` has a number each."""
        radius: Any = self.rule.radius if isinstance(self.rule, Sphere) else "current"
        if radius == "current":
            return before
        names = [one.name for one in ones]
        return (
            torch.stack([self.start[name] for name in names]).to(before)
            if radius == "initial"
            else torch.full_like(before, radius)
        )

    def _combine_together(self, targets: Sequence[Target], work: Work, share: float, run: kernels.Run) -> list[Target]:
        """`_combine` of many whole tensors on a CPU, whose numbers are one vector; those that are left."""
        entire, left = self._parted(targets)
        fit: list[Target] = []
        for bucket in buckets([one.param for one in entire]):
            some = [entire[i] for i in bucket]
            (fit if are_summed([some[0].param]) else left).extend(some)
        for places in batches([one.param for one in fit]):
            ones = [fit[i] for i in places]
            beside = _Beside.of([one.param for one in ones], [self._copies[one.name] for one in ones])
            seen = beside.moments(run)
            # Squares of 1e20 are infinite in float32, those of 1e-30 are 0, and of what does not move there is none.
            known = ((seen.abs() > 0) & seen.isfinite()).all(dim=1)
            update, product, before = seen.unbind(1)
            radius = self._radii(ones, before)
            a, b = self._numbers(Step(before, update, product, radius, work.group.get("lr")), share)
            left += [ones[i] for i in (~known).nonzero()[:, 0].tolist()]
            beside.combine_(b, a - b, known.nonzero()[:, 0].tolist(), run)
        return left

    def _combine_cut(self, targets: Sequence[Target], work: Work, share: float, run: kernels.Run) -> list[Target]:
        """`_combine` of many whole tensors of which each process has a part: one reduction; those that are left."""
        if not are_several():
            return list(targets)
        done: set[str] = set()
        cut = [one for one in self._parted(targets)[0] if cuts(one.param)]
        for ones in on_one_device(cut):
            parts = [(local(self._copies[one.name]), local(one.param.detach())) for one in ones]
            here = torch.stack([_exact_moments(copy, param) for copy, param in parts], dim=1)
            sums = all_over_ranks(here, [one.param for one in ones])
            # Squares of 1e200 are infinite. Elsewhere than on a CPU the question would cost more than the answer.
            is_cpu = sums.device.type == "cpu"
            known = sums.isfinite().all(dim=0).tolist() if is_cpu else [True] * len(ones)
            before, update = sums[:2].sqrt().unbind()
            radius = self._radii(ones, before)
            a, b = self._numbers(Step(before, update, sums[2], radius, work.group.get("lr")), share)
            for one, is_known, by_copy, by_param in zip(ones, known, (a - b).unbind(), b.unbind(), strict=True):
                if is_known:
                    combine(one, self._copies[one.name], by_copy, by_param, 0.0, run)
                    done.add(one.name)
        return [one for one in targets if one.name not in done]

    def _rescale_together(self, targets: Sequence[Target], share: float) -> list[Target]:
        """`_rescale` of many whole tensors; those that are left."""
        entire, left = self._parted(targets)
        for ones in on_one_device(entire):
            params = [one.param for one in ones]
            after = norms(params)
            before = torch.stack([self._before.pop(one.name) for one in ones]) if self._before else after
            factor = self._factor(before, after, self._radii(ones, before), share)
            parts = list(map(local, params))
            for bucket in buckets(parts):
                some = [parts[i] for i in bucket]
                if after.device.type == "cpu" and not some[0].is_complex():
                    torch._foreach_mul_(some, factor[bucket].tolist())
                else:
                    torch._foreach_mul_(some, list(factor[bucket].to(some[0].dtype.to_real()).unbind()))
        return left

    def _factor(self, before: Tensor, after: Tensor, radius: Tensor, share: float) -> Tensor:
        factor = _FACTORS[type(self.rule)](self.rule, before, after, radius)
        usable = (after > 0) & torch.isfinite(factor) | after.isnan()
        return torch.where(usable, 1 - share + share * factor, torch.ones_like(factor))

    def _numbers(self, step: Step, share: float) -> tuple[Tensor, Tensor]:
        """What W and −D are multiplied by: 1 and 0 where a norm is 0."""
        lr = step.lr.to(step.before) if isinstance(step.lr, Tensor) else step.lr
        a, b = _SUMS[type(self.rule)](self.rule, step._replace(lr=lr))
        # What is not a number is no excuse: it stays to be seen.
        usable = (step.update > 0) & torch.isfinite(a) & torch.isfinite(b) | step.update.isnan() | step.before.isnan()
        a, b = torch.where(usable, a, torch.ones_like(a)), torch.where(usable, b, torch.zeros_like(b))
        return 1 - share + share * a, 1 - share + share * b

    def _combine(self, one: Target, work: Work, share: float, turn: float, run: kernels.Run) -> None:
        """W ← (1 − share)·W_after + share·(aW − bD), and W where a norm is 0."""
        param, copy, emptied = one.param.detach(), self._copies[one.name], one.name in self._emptied
        before, update, product = moments(param, copy, dims_of(self.rule.per, param.dim()), emptied)
        step = Step(before, update, product, self._radius(one, before), work.group.get("lr"))
        a, b = self._numbers(step, share)
        # W_after is W − D, or −D where W was emptied.
        combine(one, copy, a if emptied else a - b, b, turn, run)

    def _rescale(self, one: Target, share: float, turn: float, debts: Debts) -> None:
        after = self._norm(one.param)
        before = self._before.pop(one.name, after)
        factor = self._factor(before, after, self._radius(one, before), share)
        if is_low(one.param) and factor.dim() == 0:
            rest = 1 - float(factor)
            # Of a norm that is aimed at again in the next step, what is left undone now is found again then.
            rest = (rest if abs(rest) >= DUE else 0.0) if self._is_restored() else debts.shrink(one.name, rest)
            if not rest:
                return
            factor = 1 - torch.full_like(factor, rest)
        multiply_(one, factor, turn)

    def _is_restored(self) -> bool:
        """Whether the norm that is aimed at does not turn on the one before the step."""
        return isinstance(self.rule, Sphere) and self.rule.radius != "current"


class _Beside(NamedTuple):
    """Some weights of one batch and their copies; where they are small, each a row of a matrix, too."""

    params: list[Tensor]
    copies: list[Tensor]
    rows: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, params: list[Tensor], copies: list[Tensor]) -> _Beside:
        if are_small(params):
            return cls(params, copies, (rows(params), rows(copies)))
        return cls([param.detach() for param in params], copies, None)

    def moments(self, run: kernels.Run) -> Tensor:
        """‖D‖, ⟨W, D⟩ and ‖W‖ of each."""
        if self.rows is None:
            return moments_beside(self.params, self.copies, self.copies, run)
        params, copies = self.rows
        return moments_of_rows(params, copies, copies)

    def combine_(self, by_param: Tensor, by_copy: Tensor, places: list[int], run: kernels.Run) -> None:
        """θ ← by_param·θ + by_copy·copy of the weights at some places."""
        if self.rows is None:
            own, other = by_param.tolist(), by_copy.tolist()
            for i in places:
                run(_combine_, self.params[i], own[i], (self.copies[i],), other[i])
            return
        if not places:
            return
        after, copies = self.rows
        after.mul_(by_param.to(after)[:, None]).addcmul_(copies, by_copy.to(after)[:, None])
        put_rows_([self.params[i] for i in places], after if len(places) == len(after) else after[places])


def _exact_moments(copy: Tensor, param: Tensor) -> Tensor:
    """‖W‖², ‖D‖² and ⟨W, D⟩ of what is here, in the precision of float64 where the device has it."""
    taken = copy - param
    exact = taken.dtype if taken.device.type == "mps" else torch.complex128 if taken.is_complex() else torch.float64
    copy, taken = copy.to(exact), taken.to(exact)
    pairs = ((copy, copy), (taken, taken), (copy, taken))
    return torch.stack([(left * right.conj()).real.sum() for left, right in pairs])


def moments(param: Tensor, copy: Tensor, dims: tuple[int, ...] | None, emptied: bool) -> tuple[Tensor, Tensor, Tensor]:
    """‖W‖, ‖D‖ and ⟨W, D⟩ from W's copy and what the update has left of W, or of 0 where that was `emptied`."""
    weights, after = wide(copy), wide(param)
    taken = -after if emptied else weights - after
    before, update = norm(weights, dims), norm(taken, dims)
    # In units of the norms, since products of 1e20 would be infinite.
    units = [slices_of(torch.where(one > 0, one, torch.ones_like(one)), weights) for one in (before, update)]
    cosine = (local(weights) / units[0] * (local(taken) / units[1]).conj()).real
    found = sums_of(cosine, param, dims)
    return before, update, before * update * found.to(before)


def combine(one: Target, copy: Tensor, by_copy: Tensor, by_param: Tensor, turn: float, run: kernels.Run) -> None:
    """θ ← by_param·θ + by_copy·copy."""
    param, copy = local(one.param.detach()), local(copy)
    by_copy, by_param = slices_of(by_copy, one.param), slices_of(by_param, one.param)
    if is_low(param):
        pay_(one.param, one.name, turn, lambda p: p.mul_(by_param).add_(copy.float() * by_copy))
    elif by_param.dim() == 0 and param.device.type == "cpu" and not param.is_complex():
        run(_combine_, param, float(by_param), (copy,), float(by_copy))
    else:
        param.mul_(by_param).add_(copy * by_copy)


def _combine_(p: Tensor, amount: Any, parts: Sequence[Tensor], by_copy: Any) -> None:
    if isinstance(by_copy, Tensor):
        p.mul_(amount).add_(parts[0] * by_copy)
    else:
        p.mul_(amount).add_(parts[0], alpha=by_copy)


def multiply_(one: Target, factor: Tensor, turn: float) -> None:
    """θ ← factor·θ."""
    param, factor = local(one.param.detach()), slices_of(factor, one.param)
    if is_low(param):
        pay_(one.param, one.name, turn, lambda p: p.mul_(factor))
    elif factor.dim() == 0 and param.device.type == "cpu":
        param.mul_(float(factor))
    else:
        param.mul_(factor)
