"""The life of an attached plan, slowly: what each step, and each event between steps, should do to the weights.

The updates are torch's own, made by an optimizer without any decay; beside it every decay is carried out here, one
number at a time (see `scalar`), and all that a plan remembers is kept here in the plainest way. The rules:

* a group steps when one of its parameters has a gradient, and counts the step unless its learning rate is 0;
* what decays in a counted step has a gradient and asks for one; plainly coupled decay is in the gradient at rate 0 too,
  but of Rprop, which has none of its own and steps at rate 0;
* what controllers and averages remember moves in steps that are over, and for what took part in them alone;
* a group's peak is its highest learning rate in counted steps, from when its decay needs it;
* a step that raises does nothing, where it raises in the update itself too;
* updating a plan keeps counters and peaks, and what decays of the same kind remember, be their numbers others: where
  the run began, an average, how large a norm was, how hard a bound pulls; removing one forgets everything.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reference import scalar

Numbers = list[float]


@dataclass
class Group:
    """What is remembered of one parameter group."""

    steps: int = 0
    peak: float | None = None


@dataclass
class Row:
    """One parameter with the decay that it is under."""

    name: str
    param: nn.Parameter
    settings: dict
    group: Group
    form: scalar.Form = field(init=False)
    strength: float = 1.0
    schedule: Callable[[int, float], float] = lambda step, ratio: 1.0
    kind: str = ""


class Step:
    """The step that comes, as a form sees it: the optimizer behind the `opt` of `scalar`'s forms."""

    def __init__(self, life: Life, row: Row) -> None:
        self.life, self.row = life, row
        self.lr = float(row.settings["lr"])

    def peek(self, grad: Numbers) -> Numbers:
        """u of this step, measured on a copy of the optimizer."""
        life = self.life
        index = [id(param) for group in life.optimizer.param_groups for param in group["params"]].index(
            id(self.row.param)
        )
        twin = copy.deepcopy(life.optimizer)
        params = [param for group in twin.param_groups for param in group["params"]]
        for one, mine in zip(params, life.params(), strict=True):
            one.grad = None if mine.grad is None else mine.grad.clone()
        before = params[index].detach().clone()
        twin.step()
        return (before - params[index].detach()).flatten().tolist()

    def size(self, grad: Numbers) -> float:
        """What `stable` divides by: √v̄ over all that has a gradient, or momentum's factor turned over."""
        if isinstance(self.life.optimizer, torch.optim.SGD):
            return 1 / _momentum_factor(self.row.settings)
        total, count = 0.0, 0
        for group in self.life.optimizer.param_groups:
            beta = group["betas"][1]
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.life.optimizer.state.get(param, {})
                old = state["exp_avg_sq"].flatten().tolist() if "exp_avg_sq" in state else [0.0] * param.numel()
                fresh = param.grad.flatten().tolist()
                filled = 1 - beta ** (float(state.get("step", 0)) + 1)
                total += sum(beta * v + (1 - beta) * g * g for v, g in zip(old, fresh, strict=True)) / filled
                count += param.numel()
        return math.sqrt(total / count)

    def shared(self) -> float:
        """The same, where all elements have the same."""
        return _momentum_factor(self.row.settings) if isinstance(self.life.optimizer, torch.optim.SGD) else 1.0

    def settled(self, index: int) -> float:
        """How far a gradient of 1 that stays moves a weight, over the learning rate, by the state after the step."""
        optimizer, group = self.life.optimizer, self.row.settings
        name = type(optimizer).__name__
        if name == "SGD":
            return _momentum_factor(group)
        if name not in ("Adam", "AdamW", "NAdam", "RAdam"):
            return 1.0
        state = optimizer.state[self.row.param]
        (beta1, beta2), eps, t = group["betas"], group["eps"], float(state["step"])
        v = float(state["exp_avg_sq"].flatten()[index])
        if name == "RAdam":
            longest = 2 / (1 - beta2) - 1
            length = longest - 2 * t * beta2**t / (1 - beta2**t)
            if length <= 5:
                return 1.0
            ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            return math.sqrt(ratio) * math.sqrt(1 - beta2**t) / (math.sqrt(v) + eps)
        divided = math.sqrt(v / (1 - beta2**t)) + eps
        if name != "NAdam":
            return 1 / divided
        product = float(state["mu_product"])
        now, later = (beta1 * (1 - 0.5 * 0.96 ** (at * group["momentum_decay"])) for at in (t, t + 1))
        return ((1 - now) / (1 - product) + later / (1 - product * later) * (1 - beta1**t)) / divided


def _momentum_factor(group: Mapping) -> float:
    return (1 - group["dampening"]) / (1 - group["momentum"]) if group["momentum"] else 1.0


class Stable(scalar.Stable):
    """With the implicit step where the explicit one would take the whole weight."""

    def before(self, w, g, opt):
        taken = opt.lr * self.wd / opt.size(g)
        if taken >= 1 and not isinstance(opt.life.optimizer, torch.optim.SGD):
            taken = taken / (1 + taken)
        return [a - taken * a for a in w]


class Warming(scalar.Constrained):
    """A bound that is R after the first step in which so many are over."""

    def __init__(self, warmup, rho):
        super().__init__(None, rho)
        self.warmup = warmup

    def after(self, w, g, opt, old):
        if self.kappa is None and opt.row.group.steps + 1 >= self.warmup:
            self.kappa = sum(a * a for a in w)
        return w if self.kappa is None else super().after(w, g, opt, old)


class Spectral(scalar.Form):
    def __init__(self, wd):
        self.wd = wd

    def before(self, w, g, opt):
        shape = opt.row.param.shape
        matrix = torch.tensor(w, dtype=torch.float64).reshape(shape[0], -1)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        first = (values[0] * left[:, 0].outer(right[0])).flatten().tolist()
        return [a - opt.lr * self.wd * b for a, b in zip(w, first, strict=True)]


class Adaptive(scalar.Coupled):
    """What it is multiplied by is worked out for all rows together."""

    beta = 0.9


class BySpectrum(scalar.Decoupled):
    """What it is multiplied by is worked out for all rows together."""

    every, low, high = 3, 2 / 3, 3.0


def _rows(row: Row) -> list[list[int]]:
    width = row.param[0].numel()
    return [list(range(start, start + width)) for start in range(0, row.param.numel(), width)]


def _initial(row: Row) -> Numbers:
    return _numbers(row.param)


MAX_LR = 0.25
FORMS: dict[str, Callable[[Row], scalar.Form]] = {
    "native": lambda row: scalar.Form(),
    "coupled": lambda row: scalar.Coupled(0.3),
    "decoupled": lambda row: scalar.Decoupled(0.3),
    "touched": lambda row: scalar.Decoupled(0.3),
    "lazy": lambda row: scalar.Decoupled(0.3),
    "independent": lambda row: scalar.Decoupled(0.04, lambda lr: lr / row.group.peak),
    "independent of 0.25": lambda row: scalar.Decoupled(0.04, lambda lr: lr / MAX_LR),
    "per_step": lambda row: scalar.Decoupled(0.02, lambda lr: 1.0),
    "corrected": lambda row: scalar.Decoupled(0.3, lambda lr: lr * lr / row.group.peak),
    "penalized": lambda row: scalar.Form(),
    "cautious": lambda row: scalar.Cautious(0.3),
    "l1": lambda row: scalar.ElasticNet(0.05),
    "elastic_net": lambda row: scalar.ElasticNet(0.05, 0.2),
    "group_lasso": lambda row: scalar.GroupLasso(0.2, _rows(row)),
    "p_norm": lambda row: scalar.PNorm(0.1, 1.0),
    "proximal": lambda row: scalar.Proximal(0.04, None),
    "huber": lambda row: scalar.Huber(0.4, 0.3),
    "toward": lambda row: scalar.Decoupled(0.3, ref=_initial(row)),
    "toward_average": lambda row: scalar.TowardAverage(0.4, 0.8, _initial(row)),
    "projected": lambda row: scalar.Projected(0.6, _initial(row)),
    "stable": lambda row: Stable(0.2),
    "adaptive": lambda row: Adaptive(0.3),
    "ada_decay": lambda row: scalar.AdaDecay(0.3),
    "constrained": lambda row: scalar.Constrained(0.8 * sum(a * a for a in _initial(row)), 1 / row.param.numel()),
    "constrained at 0.5": lambda row: scalar.Constrained(
        0.5 * sum(a * a for a in _initial(row)), 1 / row.param.numel()
    ),
    "constrained after 3": lambda row: Warming(3, 1 / row.param.numel()),
    "norm_control": lambda row: scalar.NormControl(0.4, 0.7, _initial(row)),
    "norm_control at 0.9": lambda row: scalar.NormControl(0.4, 0.9, _initial(row)),
    "hyperball": lambda row: scalar.Hyperball("initial", [list(range(row.param.numel()))], _initial(row)),
    "projection": lambda row: scalar.NormProjection("initial", [list(range(row.param.numel()))], _initial(row)),
    "radial_brake": lambda row: scalar.RadialBrake(0.25, 0.75, [list(range(row.param.numel()))], _initial(row)),
    "relative_update": lambda row: scalar.RelativeUpdate("current", [list(range(row.param.numel()))], _initial(row)),
    "spectral": lambda row: Spectral(0.3),
    "by_spectrum": lambda row: BySpectrum(0.2),
}
"""Each form at strength 1; every number that its strength multiplies is one of `_STRONG`."""

_BOUNDS = {"constrained": 0.8, "constrained at 0.5": 0.5}


def _hand_on(old: Row, new: Row) -> None:
    """What a decay of the same kind has seen, though it is of other numbers."""
    if {old.kind, new.kind} <= {"toward", "projected"}:
        new.form.ref = old.form.ref
    elif any({old.kind, new.kind} <= alike for alike in ({"norm_control", "norm_control at 0.9"}, set(SPHERES))):
        new.form.start = old.form.start
    elif {old.kind, new.kind} <= set(_BOUNDS):
        new.form.mu, new.form.kappa = old.form.mu, old.form.kappa / _BOUNDS[old.kind] * _BOUNDS[new.kind]


SPHERES = ("hyperball", "projection")
"""Forms that set the norm of matrices, and refuse a vector."""
OF_MATRICES = (*SPHERES, "group_lasso")
RULES = (*SPHERES, "radial_brake", "relative_update")
"""Forms whose strength is a share, at most 1."""
_STRONG = ("wd", "l1", "l2", "rho")
_KEEPS_PEAK = ("independent", "corrected", "proximal")
SCHEDULES: dict[str, Callable[[int, float], float]] = {
    "constant": lambda step, ratio: 1.0,
    "linear": lambda step, ratio: 0.2 + 0.8 * min(step / 6, 1.0),
    "follow_lr": lambda step, ratio: ratio,
}

Plan = Mapping[str, tuple[str, float]]
"""For each parameter its form and strength."""


class Life:
    """A model's parameters and an optimizer without decay of its own, with a plan beside them or without."""

    def __init__(self, params: Mapping[str, nn.Parameter], optimizer: Optimizer) -> None:
        self.named, self.optimizer = params, optimizer
        self.names = {id(param): name for name, param in params.items()}
        self.rows: dict[str, Row] = {}
        self.groups: dict[int, Group] = {}
        self.plan: Plan | None = None
        self.schedule = "constant"
        self.stood: dict[int, float] = {}
        self.ratio, self.factors = 0.0, {}

    def params(self) -> list[nn.Parameter]:
        """All parameters of the optimizer, in its order."""
        return [param for group in self.optimizer.param_groups for param in group["params"]]

    def attach(self, plan: Plan, schedule: str) -> None:
        """Begin, remembering nothing."""
        self.rows, self.groups, self.ratio, self.factors = {}, {}, 0.0, {}
        self.update(plan, schedule)

    def update(self, plan: Plan, schedule: str) -> None:
        """Go on with a plan: counters and peaks stay, and so does what a decay of the same kind remembers."""
        self.plan, self.schedule = plan, schedule
        for group in self.optimizer.param_groups:
            self.groups.setdefault(id(group), Group())
            self.stood.setdefault(id(group), group["weight_decay"])
            group["weight_decay"] = 0.0
        if not any(form == "adaptive" for form, _ in plan.values()):
            self.ratio = 0.0
        if not any(form == "by_spectrum" for form, _ in plan.values()):
            self.factors = {}
        for group in self.optimizer.param_groups:
            for param in group["params"]:
                self._row(self.names[id(param)], param, group)
        alive = {self.names[id(param)] for param in self.params()}
        self.rows = {name: row for name, row in self.rows.items() if name in alive}

    def remove(self) -> None:
        """Stop: the optimizer decays as it did before."""
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.stood.pop(id(group))
        self.plan, self.rows, self.stood = None, {}, {}

    def penalty(self) -> Tensor:
        """Σ λ_t·½‖θ‖² of the rows that decay through the loss."""
        made = torch.zeros((), dtype=torch.float64)
        for row in self.rows.values():
            if row.kind == "penalized":
                made = made + 0.3 * row.strength * self._multiplier(row) * 0.5 * row.param.square().sum()
        return made

    @torch.no_grad()
    def step(self) -> None:
        """One step."""
        users = {param: param.grad for param in self.params()}
        stepping = [
            group
            for group in self.optimizer.param_groups
            if group["lr"] != 0 and any(param.grad is not None for param in group["params"])
        ]
        if self.plan is None:
            self.optimizer.step()
            return
        for group in stepping:
            self._keep_peak(group)
        moving = {id(group) for group in stepping}
        live = [row for row in self.rows.values() if row.param.grad is not None and row.param.requires_grad]
        counted = [row for row in live if id(row.settings) in moving]
        self._share(counted)
        for row in live:
            self._ready(row)
        old = {row.name: _numbers(row.param) for row in live}
        grads = {row.name: _numbers(row.param.grad) for row in live}
        made = {}
        for row in live:
            own = type(self.optimizer).__name__ != "Rprop"
            if row in counted or (own and type(row.form) is scalar.Coupled):
                sign = -1.0 if row.settings.get("maximize") else 1.0
                lent = row.form.gradient(old[row.name], [sign * g for g in grads[row.name]], Step(self, row))
                made[row.param] = _like([sign * g for g in lent], row.param)
        before = {row.name: row.form.before(old[row.name], self._seen(row, grads), Step(self, row)) for row in counted}
        for row in counted:
            row.param.copy_(_like(before[row.name], row.param))
        for param, grad in made.items():
            param.grad = grad
        self.optimizer.step()
        for param, grad in users.items():
            param.grad = grad
        for row in counted:
            after = row.form.after(_numbers(row.param), self._seen(row, grads), Step(self, row), old[row.name])
            row.param.copy_(_like(after, row.param))
        for group in stepping:
            self.groups[id(group)].steps += 1

    def _row(self, name: str, param: nn.Parameter, settings: dict) -> None:
        form, strength = self.plan.get(name, ("", 1.0))
        old = self.rows.get(name)
        group = self.groups[id(settings)]
        row = Row(name, param, settings, group, strength=strength, kind=form, schedule=SCHEDULES[self.schedule])
        if form == "native":
            decoupled = type(self.optimizer).__name__ == "AdamW"
            row.form = scalar.Decoupled(0.3) if decoupled else scalar.Coupled(0.3)
        elif form == "":
            row.form = scalar.Form()
        elif old is not None and old.kind == form:
            # The form knows this row, and looks its group up there.
            old.settings, old.group, old.strength, old.schedule = settings, group, strength, row.schedule
            row = old
        else:
            row.form = FORMS[form](row)
            if old is not None:
                _hand_on(old, row)
        if row is not old:
            row.base = {key: getattr(row.form, key) for key in _STRONG if hasattr(row.form, key)}
        self.rows[name] = row

    def _keep_peak(self, settings: dict) -> None:
        rows = [row for row in self.rows.values() if row.settings is settings and row.kind]
        group = self.groups[id(settings)]
        if any(row.kind in _KEEPS_PEAK or (self.schedule == "follow_lr" and row.kind != "spared") for row in rows):
            group.peak = max(group.peak or 0.0, float(settings["lr"]))

    def _multiplier(self, row: Row) -> float:
        lr = float(row.settings["lr"])
        highest = max(row.group.peak or 0.0, lr)
        if row.kind == "independent of 0.25":
            highest = MAX_LR
        return row.schedule(row.group.steps, lr / highest if lr else 0.0)

    def _ready(self, row: Row) -> None:
        times = row.strength * self._multiplier(row)
        if isinstance(row.form, Adaptive):
            times *= self.ratio
        if isinstance(row.form, BySpectrum):
            times *= self.factors.get(row.name, 1.0)  # at rate 0 nothing was measured yet
        for key, value in row.base.items():
            setattr(row.form, key, value * times)
        if isinstance(row.form, scalar.Proximal):
            row.form.max_lr = row.group.peak

    def _share(self, counted: list[Row]) -> None:
        """What rows of one form look at together."""
        rows = [row for row in counted if isinstance(row.form, Adaptive)]
        if rows:
            grads = scalar.norm([a for row in rows for a in _numbers(row.param.grad)])
            weights = scalar.norm([a for row in rows for a in _numbers(row.param)])
            self.ratio = (1 - Adaptive.beta) * self.ratio + Adaptive.beta * grads / weights
        rows = [row for row in counted if isinstance(row.form, BySpectrum)]
        due = any(row.group.steps % BySpectrum.every == 0 or row.name not in self.factors for row in rows)
        if rows and due:
            everyone = [row for row in self.rows.values() if isinstance(row.form, BySpectrum)]
            tails = {row.name: tail(row.param) for row in everyone if row.param.dim() > 1}
            low, high = min(tails.values()), max(tails.values())
            self.factors = {row.name: 1.0 for row in everyone}
            for name, alpha in tails.items():
                place = (alpha - low) / (high - low) if high > low else 0.5
                self.factors[name] = BySpectrum.low + place * (BySpectrum.high - BySpectrum.low)

    def _seen(self, row: Row, grads: Mapping[str, Numbers]) -> Numbers:
        """A gradient as the update rule sees it."""
        sign = -1.0 if row.settings.get("maximize") else 1.0
        return [sign * g for g in grads[row.name]]


def tail(param: Tensor) -> float:
    """Hill's estimate over the upper half of the squared singular values."""
    squares = sorted(float(s) ** 2 for s in torch.linalg.svdvals(param.detach().reshape(len(param), -1).double()))
    upper = squares[len(squares) // 2 :]
    return 1 + len(upper) / sum(math.log(one / upper[0]) for one in upper)


def _numbers(tensor: Tensor) -> Numbers:
    return tensor.detach().double().flatten().tolist()


def _like(numbers: Numbers, param: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(param.shape).to(param.dtype)
