"""Controllers at work: what sets the multiplier of each tensor's coefficient, step by step.

A runtime is made for each different `Controller` in a plan and serves all the pulls that have it (so it is for an
`UpdateRule`, see `update_rules`). Before the update it sees gradients and optimizer state, after it the new weights;
what it keeps is scalars, by parameter name, which travel in the optimizer's state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchdecay.apply.kernels import in_parts
from torchdecay.apply.parts import deviations
from torchdecay.apply.sums import are_summed, moments_beside
from torchdecay.apply.work import Amount, Pull, Target, Work, numbers_of, together
from torchdecay.batches import batches
from torchdecay.errors import ApplyError
from torchdecay.optimizers.cards import settled_factor, update_of
from torchdecay.optimizers.gradients import maximizes, mean_second_moment, wide
from torchdecay.plans import controllers as adaptive
from torchdecay.plans.decay import Decay
from torchdecay.plans.granularity import dims_of
from torchdecay.plans.regularizers import Deviation, Huber, Regularizer, SquaredNorm
from torchdecay.sharding import all_over_ranks, cuts, local, norm, norms, over_group, slices_of, whole


class Runtime:
    """What a controller does; the base does nothing and keeps nothing.

    Attributes:
        keeps: the attributes that have to survive a checkpoint: numbers by parameter name ("" for all together).
        mu: the dual variables of a constraint, by parameter name.
        stages: the process group over which sums over all parameters go on; None where all are here.
    """

    keeps: tuple[str, ...] = ()
    stages: Any = None

    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull], controller: Any) -> None:
        self.optimizer, self.controller, self.pulls = optimizer, controller, pulls
        self.mu: dict[str, Tensor] = {}

    def everyone(self) -> Iterator[tuple[str, Tensor]]:
        """All parameters by name, those without a gradient too."""
        return ((one.name, one.param) for pull in self.pulls for one in pull.targets)

    @property
    def device(self) -> torch.device:
        """Where the parameters are, or the first of them."""
        return next(param for _, param in self.everyone()).device

    def before(self, works: Sequence[Work]) -> None:
        """Before the update: set the multipliers of works that pull then, look at what the others need."""

    def after(self, works: Sequence[Work]) -> None:
        """After the update: set the multipliers of works that pull then."""

    def is_emptied(self, name: str) -> bool:
        """Whether a parameter is 0 while the optimizer steps."""
        return False

    def take_back(self) -> None:
        """Undo what was done to weights before an update that raised."""

    def scalars(self) -> dict[str, dict[str, Any]]:
        """What has to survive a checkpoint: a number, or nested lists of them, one for each slice."""
        kept = {key: getattr(self, key).items() for key in self.keeps}
        return {key: {n: one.tolist() if isinstance(one, Tensor) else one for n, one in kept[key]} for key in kept}

    def inherit(self, other: Any) -> None:
        """Take over what another of the same kind kept, be its numbers others: what it has seen is still so."""
        self.load(other.scalars())

    def load(self, scalars: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what `scalars` gave."""
        for key in self.keeps:
            mine = getattr(self, key)
            for name, value in scalars.get(key, {}).items():
                held = mine.get(name)
                if held is not None or not isinstance(next(iter(mine.values()), None), Tensor):
                    if isinstance(held, Tensor):
                        # A number, or nested lists of them.
                        held.copy_(torch.tensor(value, dtype=held.dtype, device=held.device).reshape(held.shape))
                    else:
                        mine[name] = value


class _Stable(Runtime):
    def before(self, works: Sequence[Work]) -> None:
        shared: Tensor | None = None
        for work in works:
            multiplier: Amount | None = settled_factor(self.optimizer, work.group)
            if multiplier is None:
                if shared is None:
                    moment = mean_second_moment(self.optimizer, self.stages)
                    # Of updates that all are 0 the size is 0, and so is a pull in proportion to it.
                    shared = torch.where(moment > 0, moment.rsqrt(), torch.zeros_like(moment))
                # Where gradients vanish the explicit step would take off more than the weight: go implicit there.
                taken = work.amount * shared
                multiplier = torch.where(taken < 1, shared, shared / (1 + taken))
            work.multipliers = [multiplier] * len(work.targets)


class _GradientNormRatio(Runtime):
    keeps = ("ratio",)

    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull], controller: Any) -> None:
        super().__init__(optimizer, pulls, controller)
        self.ratio = {"": 0.0}
        self._coming = 0.0

    def before(self, works: Sequence[Work]) -> None:
        self._coming = self.ratio[""]
        if not works and self.stages is None:
            return
        ones = [one for work in works for one in work.targets]
        both = ones and _norms([*(one.grad for one in ones), *(one.param for one in ones)])
        grads, weights = self._over_stages(math.hypot(*both[: len(ones)]), math.hypot(*both[len(ones) :]))
        scale = getattr(self.optimizer, "grad_scale", None)
        now = grads / (1.0 if scale is None else float(scale)) / weights if weights else math.inf
        if math.isfinite(now) and math.isfinite(weights):
            # Weights that are all 0, or not finite somewhere, have no ratio: it would stay in the average for long.
            beta = self.controller.beta
            self._coming = (1 - beta) * self.ratio[""] + beta * now
        for work in works:
            work.multipliers = [self._coming] * len(work.targets)

    def _over_stages(self, *here: float) -> list[float]:
        """Norms of what is here → those over all stages."""
        if self.stages is None:
            return list(here)
        squares = torch.tensor(here, dtype=torch.float64, device=self.device).square()
        found: list[float] = over_group(squares, self.stages).sqrt().tolist()
        return found

    def after(self, works: Sequence[Work]) -> None:
        # Not before the step is over: one that raises is taken again.
        self.ratio[""] = self._coming


class _GradientSigmoid(Runtime):
    def before(self, works: Sequence[Work]) -> None:
        _multiply(works, self._of, alike=lambda one: (one.param.device, one.grad.dtype))

    def _of(self, work: Work, ones: Sequence[Target]) -> list[Amount]:
        sizes = torch._foreach_abs([local(one.grad) for one in ones])
        mean, deviation = _spread(sizes, [one.param for one in ones])
        # Where all gradients are of one size none is larger than the others.
        known = deviation > 0
        centers = torch.where(known, mean, torch.zeros_like(mean)).unbind()
        standard = torch._foreach_sub(sizes, centers)
        torch._foreach_div_(standard, torch.where(known, deviation, torch.full_like(deviation, math.inf)).unbind())
        torch._foreach_mul_(standard, self.controller.alpha)
        torch._foreach_sigmoid_(standard)
        torch._foreach_mul_(standard, 2)
        return list(standard)


def _spread(parts: Sequence[Tensor], of: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and population deviation of each whole, of which these are what is here; two reductions for all."""
    if not any(map(cuts, of)):
        each, means = zip(*[torch.std_mean(one, correction=0) for one in parts], strict=True)
        return torch.stack(means), torch.stack(each)
    mean, deviation = deviations(parts, of)
    return mean.to(parts[0].dtype), deviation.to(parts[0].dtype)


class _Multiplier(Runtime):
    """Holds μ and κ of each tensor; κ is NaN until the warm-up ends."""

    keeps = ("mu", "kappa")

    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull], controller: Any) -> None:
        super().__init__(optimizer, pulls, controller)
        self.kappa: dict[str, Tensor] = {}
        self._vectors: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        # In each step anew they would have to wait for a GPU to take them.
        self._counts: dict[tuple[str, ...], Tensor] = {}
        for pull in pulls:
            for ones in on_one_device(pull.targets):
                measured = _measured(pull.decay.regularizer, ones)
                kappa = {"fixed": torch.full_like(measured, controller.bound), "initial": controller.bound * measured}
                bounds = kappa.get(controller.kind, torch.full_like(measured, math.nan))
                names, mu = tuple(one.name for one in ones), torch.zeros_like(measured)
                self._vectors[names] = mu, bounds
                # By name they are parts of the vectors, which are written to in place.
                self.mu |= dict(zip(names, mu.unbind(), strict=True))
                self.kappa |= dict(zip(names, bounds.unbind(), strict=True))

    def inherit(self, other: _Multiplier) -> None:
        mine, theirs, scalars = self.controller, other.controller, other.scalars()
        if mine.kind != theirs.kind:
            return
        if mine.kind == "fixed":
            del scalars["kappa"]
        elif mine.bound != theirs.bound:
            # The same norm as before, times another number.
            ratio = mine.bound / theirs.bound
            scalars["kappa"] = {name: kappa * ratio for name, kappa in scalars["kappa"].items()}
        self.load(scalars)

    def after(self, works: Sequence[Work]) -> None:
        _multiply(works, self._follow)

    def _follow(self, work: Work, ones: Sequence[Target]) -> Tensor:
        """μ of some parameters on one device, as it is now."""
        regularizer, names = work.pull.decay.regularizer, tuple(one.name for one in ones)
        measured = _measured(regularizer, ones)
        held = self._vectors.get(names)
        mu, kappa = held or (torch.stack([of[name] for name in names]) for of in (self.mu, self.kappa))
        if self.controller.kind == "warmup" and work.steps + 1 >= self.controller.warmup_steps:
            # Later for a tensor that had no part in the last step of the warm-up.
            kappa.copy_(torch.where(kappa.isnan(), measured, kappa))
        rho = work.amount
        if self.controller.per_element and not isinstance(regularizer, Deviation):
            if names not in self._counts:
                counts, exact = [one.param.numel() for one in ones], measured.device.type != "mps"
                precision = torch.float64 if exact else torch.float32
                self._counts[names] = torch.tensor(counts, dtype=precision, device=measured.device)
            rho = rho / self._counts[names]
        # NaN while the warm-up lasts: no bound yet, so no pull. What is beyond all measure would stay in μ for ever.
        step = torch.nan_to_num(rho * (measured - kappa), nan=0.0, posinf=0.0).to(mu.dtype)
        mu.add_(step).clamp_(min=0)
        for name, now, bound in () if held else zip(names, mu.unbind(), kappa.unbind(), strict=True):
            self.mu[name].copy_(now)
            self.kappa[name].copy_(bound)
        return mu


class _NormRatio(Runtime):
    keeps = ("start",)

    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull], controller: Any) -> None:
        super().__init__(optimizer, pulls, controller)
        self.start: dict[str, Tensor] = {}
        for pull in pulls:
            for ones in on_one_device(pull.targets):
                self.start |= {one.name: start for one, start in zip(ones, self._norms(ones), strict=True)}

    def inherit(self, other: _NormRatio) -> None:
        if other.controller.per == self.controller.per:
            super().inherit(other)

    def after(self, works: Sequence[Work]) -> None:
        _multiply(works, self._multipliers)

    def _is_whole(self, ones: Sequence[Target]) -> bool:
        return all(dims_of(self.controller.per, one.param.dim()) is None for one in ones)

    def _norms(self, ones: Sequence[Target]) -> Sequence[Tensor]:
        if self._is_whole(ones):
            return norms([one.param for one in ones]).unbind()
        return [norm(one.param, dims_of(self.controller.per, one.param.dim())) for one in ones]

    def _multipliers(self, work: Work, ones: Sequence[Target]) -> list[Amount] | Tensor:
        start, ratio = [self.start[one.name] for one in ones], self.controller.ratio
        if self._is_whole(ones):
            now, began = norms([one.param for one in ones]), torch.stack(start)
            return torch.where(now > 0, 1 - ratio * began / now, now)
        return [
            slices_of(torch.where(now > 0, 1 - ratio * began / now, now), one.param)
            for one, began, now in zip(ones, start, self._norms(ones), strict=True)
        ]


class _Projection(Runtime):
    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull], controller: Any) -> None:
        super().__init__(optimizer, pulls, controller)
        self._seen: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def before(self, works: Sequence[Work]) -> None:
        for work in works:
            sign = -1.0 if maximizes(self.optimizer, work.group) else 1.0
            for ones in on_one_device(work.targets):
                found = _toward(ones, beside=True)
                if found is None:
                    offsets, params = _offsets(ones), [one.param for one in ones]
                    products = torch._foreach_mul([local(one.grad) for one in ones], offsets)
                    agreement = torch.stack([one.sum() for one in products])
                    found = norms(offsets, params, agreement)
                self._seen[tuple(one.name for one in ones)] = found[0], found[1] * sign

    def after(self, works: Sequence[Work]) -> None:
        _multiply(works, self._multipliers)

    def _multipliers(self, work: Work, ones: Sequence[Target]) -> Tensor:
        before, agreement = self._seen.pop(tuple(one.name for one in ones))
        found = _toward(ones, beside=False)
        distance = norms(_offsets(ones), [one.param for one in ones]) if found is None else found[0]
        share = ((distance - before) / distance.clamp(min=_TINY)).clamp(0, 1)
        return torch.where(agreement > 0, share, torch.zeros_like(share))


class _BySpectrum(Runtime):
    keeps = ("factors",)

    def __init__(self, optimizer: Optimizer, pulls: Sequence[Pull], controller: Any) -> None:
        super().__init__(optimizer, pulls, controller)
        self.factors: dict[str, float] = {}

    def inherit(self, other: _BySpectrum) -> None:
        if other.controller == self.controller:
            self.load(other.scalars())

    def before(self, works: Sequence[Work]) -> None:
        due = any(work.steps % self.controller.every_steps == 0 for work in works)
        # Of a weight that comes between times the other stages know nothing, and would not come to measure.
        if due or (self.stages is None and any(one.name not in self.factors for w in works for one in w.targets)):
            self._measure()
        for work in works:
            work.multiply(lambda one: self.factors.get(one.name, 1.0))

    def _measure(self) -> None:
        """Also those without a gradient now, which may have one in the next step."""
        exponents = {
            name: tail_exponent(param)
            for name, param in self.everyone()
            if param.dim() > 1 and min(param.shape[0], param.numel() // param.shape[0]) >= self.controller.min_values
        }
        self.factors = {name: 1.0 for name, _ in self.everyone()}
        low, high = min(exponents.values(), default=math.inf), max(exponents.values(), default=-math.inf)
        if self.stages is not None:
            ends = torch.tensor([-low, high], dtype=torch.float64, device=self.device)
            low, high = (over_group(ends, self.stages, "max") * torch.tensor([-1.0, 1.0]).to(ends)).tolist()
        for name, alpha in exponents.items():
            place = (alpha - low) / (high - low) if high > low else 0.5
            self.factors[name] = self.controller.low + place * (self.controller.high - self.controller.low)


_TINY = 1e-30


_DEVICE = attrgetter("param.device")


def on_one_device(targets: Sequence[Target]) -> list[list[Target]]:
    """The targets, those on one device together."""
    return together(targets, _DEVICE)


def _multiply(
    works: Sequence[Work],
    numbers: Callable[[Work, Sequence[Target]], list[Amount] | Tensor],
    *,
    alike: Callable[[Target], Any] = lambda one: one.param.device,
) -> None:
    """Set the multipliers of works, asked for those that are `alike` together: a vector where that is all of them."""
    for work in works:
        found = [(ones, numbers(work, ones)) for ones in together(work.targets, alike)]
        if len(found) == 1:
            work.multipliers = found[0][1]
            continue
        by_name = {one.name: number for ones, many in found for one, number in zip(ones, many, strict=True)}
        work.multipliers = [by_name[one.name] for one in work.targets]


def _measured(regularizer: Regularizer, ones: Sequence[Target]) -> Tensor:
    """R of some parameters on one device; ‖θ‖² may overflow in its own dtype."""
    params = [one.param for one in ones]
    if isinstance(regularizer, SquaredNorm):
        return norms(params).square()
    own = [wide(param.detach()) for param in params]
    if isinstance(regularizer, Deviation) and any(map(cuts, params)):
        return deviations([local(one) for one in own], params)[1]
    if not regularizer.elementwise:
        return torch.stack([regularizer.value(whole(one)) for one in own])
    return all_over_ranks(torch.stack([regularizer.value(local(one)) for one in own]), params)


@torch.no_grad()
def _toward(ones: Sequence[Target], *, beside: bool) -> Tensor | None:
    """‖θ − ref‖ of each, and with the gradients `beside` them ⟨g, θ − ref⟩ as a second row; None where not known so."""
    params: list[Tensor] = [one.param for one in ones]
    references = [one.reference for one in ones]
    held = [reference for reference in references if reference is not None]
    others = [one.grad for one in ones] if beside else None
    if len(held) < len(ones) or not are_summed([*params, *held, *(others or ())]):
        return None
    found = torch.zeros(2, len(ones), dtype=torch.float64)
    for places in batches(params):
        some, refs = [params[i] for i in places], [held[i] for i in places]
        here = moments_beside(some, refs, None if others is None else [others[i] for i in places], in_parts)
        if not bool(((here[:, 0] > 0) & here.isfinite().all(dim=1)).all()):
            # Squares of 1e20 are infinite in float32, and those of 1e-30 are 0.
            return None
        found[0, places] = here[:, 0]
        if others is not None:
            found[1, places] = -here[:, 1]
    return found


def _offsets(ones: Sequence[Target]) -> list[Tensor]:
    """What is here of θ − ref."""
    own = [local(wide(one.param.detach())) for one in ones]
    references = [None if (away := one.reference) is None else local(away) for one in ones]
    held = [one for one in references if one is not None]
    if len(held) == len(own) and {one.dtype for one in held} == {one.dtype for one in own} == {own[0].dtype}:
        return list(torch._foreach_sub(own, held))
    return [one if ref is None else one - ref for one, ref in zip(own, references, strict=True)]


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """‖·‖ of each tensor."""
    if len({one.device for one in tensors}) > 1:
        return [float(norm(one)) for one in tensors]
    found: list[float] = norms(tensors).tolist()
    return found


def tail_exponent(param: Tensor) -> float:
    """Hill's estimate of the exponent of the upper half of a matrix's spectrum of squared singular values."""
    matrix = wide(whole(param.detach())).reshape(param.shape[0], -1)
    # Of what is not finite nothing has singular values; torch would raise in the middle of a step.
    values = torch.linalg.svdvals(torch.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0))
    squares = values.square().sort().values.clamp(min=_TINY)
    index = len(squares) // 2
    tail = squares[index:].log()
    count = len(tail)
    return float(1 + count / (tail.sum() - count * squares[index].log()).clamp(min=_TINY))


def constrained_steps_(params: Sequence[Tensor], mus: Sequence[Amount]) -> None:
    """`constrained_step_` of ‖·‖² for several parameters of one dtype on one device."""
    vector = [mu for mu in mus if isinstance(mu, Tensor)]
    mu = torch.stack(vector) if vector else torch.tensor(mus, dtype=torch.float64)
    factors: Any = numbers_of(torch.where(2 * mu < 1, 1 - 2 * mu, 1 / (1 + 2 * mu)).to(params[0].dtype.to_real()))
    torch._foreach_mul_(list(params), factors)


def constrained_step_(param: Tensor, regularizer: Regularizer, mu: Tensor) -> None:
    """θ ← θ − μ·∇R(θ), or the proximal step of μ·R where the explicit one would overshoot."""
    if isinstance(regularizer, SquaredNorm):
        param.mul_(torch.where(2 * mu < 1, 1 - 2 * mu, 1 / (1 + 2 * mu)).to(param.dtype))
    elif isinstance(regularizer, Huber):
        explicit = param - mu * regularizer.gradient(param)
        param.copy_(torch.where(mu < 1, explicit, regularizer.prox(param, mu)))
    else:
        # For |θ| and the standard deviation both steps are the same, until the explicit one would overshoot.
        param.copy_(regularizer.prox(param, mu))


_RUNTIMES: Mapping[type[adaptive.Controller], type[Runtime]] = {
    adaptive.Stable: _Stable,
    adaptive.GradientNormRatio: _GradientNormRatio,
    adaptive.GradientSigmoid: _GradientSigmoid,
    adaptive.Multiplier: _Multiplier,
    adaptive.NormRatio: _NormRatio,
    adaptive.Projection: _Projection,
    adaptive.BySpectrum: _BySpectrum,
}


def runtime_of(controller: adaptive.Controller) -> type[Runtime]:
    """The runtime that a controller has."""
    return _RUNTIMES[type(controller)]


def check_controller(optimizer: Optimizer, group: Mapping[str, Any], decay: Decay) -> None:
    """Refuse an optimizer that does not have what the decay's controller reads."""
    update = update_of(optimizer, group)
    if isinstance(decay.controller, adaptive.Stable) and (update is None or not update.is_whole):
        raise ApplyError(
            f"{decay!r} can't run on {type(optimizer).__name__}.",
            "It needs the second moments of the Adam family, or SGD's momentum.",
            "Use td.decoupled(wd), or one of these optimizers.",
        )
