"""Small trainings, each under a name: models, optimizers, plans and schedules, crossed so that each meets many others.

Weights and gradients are numbers that Python's own generator makes, so that no library's random numbers are in them.
Only names of `import torchdecay as td` are used.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler

import torchdecay as td
from this_torch import Muon

LONG = 40
"""Steps of a run, of which six are taken."""


@dataclass(eq=False)
class Setup:
    """A training that is about to begin.

    Attributes:
        optimizers: those that step; none for a plan by itself.
        model: what they train.
        named: whether `model=` is given to what looks at it.
        plan: given as `plan=`, or looked at by itself.
        handles: of attached plans.
        run: given as `run=`.
        of_plan: what `td.forecast(plan, ...)` gets beside the run; None where the optimizers are forecast.
        schedulers: stepped after each step.
        spared: tensors that never get a gradient.
        still: tensors whose gradient is 0.
        idle: tables whose rows from the sixth on get none.
        sparse: tables whose gradients are sparse.
        invariant: tensors whose gradients stand at right angles to them, as in front of a norm.
        calls_penalty: whether the loss contains the plan's penalty.
        loss: makes the loss that an audit looks into.
        before_step: called with the number of each step before it.
        size: of gradients.
        sample: of `td.Monitor`.
    """

    optimizers: list[Any]
    model: nn.Module
    named: bool = True
    plan: td.Plan | None = None
    handles: list[td.Handle] = field(default_factory=list)
    run: td.Run | None = None
    of_plan: dict[str, Any] | None = None
    schedulers: list[Any] = field(default_factory=list)
    spared: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    sparse: tuple[str, ...] = ()
    invariant: tuple[str, ...] = ()
    calls_penalty: bool = True
    loss: Callable[[], Tensor] | None = None
    before_step: Callable[[int], Any] | None = None
    size: float = 0.1
    sample: int | None = 65_536

    @property
    def optimizer(self) -> Any:
        """The optimizer, or all of them where there are several."""
        return self.optimizers[0] if len(self.optimizers) == 1 else self.optimizers

    def give_gradients(self, step: int) -> None:
        """Put the gradients of a step where a backward pass would."""
        for name, param in self.model.named_parameters():
            if name in self.spared or not param.requires_grad:
                continue
            gradient = numbers(f"{name} {step}", param.shape, self.size).double()
            if name in self.still:
                gradient.zero_()
            if name in self.invariant:
                weight = param.detach().double()
                gradient -= weight * ((gradient * weight).sum() / weight.square().sum())
            if name in self.idle or name in self.sparse:
                gradient[6:] = 0
            ready = gradient.to(param.dtype)
            param.grad = ready.to_sparse(1) if name in self.sparse else ready
        if self.calls_penalty:
            for handle in self.handles:
                penalty = handle.penalty()
                if penalty.requires_grad:
                    penalty.backward()


def numbers(name: str, shape: Iterable[int], size: float) -> Tensor:
    """Numbers between -size and size that depend on the name only."""
    made = torch.empty(tuple(shape))
    source = random.Random(name)
    return made.copy_(torch.tensor([size * source.uniform(-1, 1) for _ in range(made.numel())]).view(made.shape))


# ── models ──


class Language(nn.Module):
    """A table, a layer, a norm and a head, which may be the table again."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 6)
        self.inner = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6, bias=False)
        self.head = nn.Linear(6, 12, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.norm(self.inner(self.embed(rows))))


class Parts(nn.Module):
    """Parameters whose role is not plain to see, and one that asks for no decay."""

    def __init__(self, *gain: int) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 4)
        self.mystery = nn.Parameter(torch.empty(4, 3))
        self.gain = nn.Parameter(torch.empty(gain))
        self.table = nn.Parameter(torch.empty(4, 4))
        self.table._no_weight_decay = True

    def forward(self, x: Tensor) -> Tensor:
        return (self.layer(x) @ self.mystery * self.gain).sum() + self.table.sum()


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8, bias=False), nn.Linear(8, 4, bias=False))


def pictures() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def matrices() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 4, bias=False))


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(40, 30), nn.LayerNorm(30, bias=False), nn.Linear(30, 4))


def filled(model: nn.Module) -> nn.Module:
    """The model with weights that its names decide."""
    with torch.no_grad():
        for name, param in model.named_parameters():
            param.copy_(numbers(name, param.shape, 0.5) + (1.0 if "norm" in name or param.dim() == 0 else 0.0))
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "small": small,
    "language": Language,
    "tied": lambda: Language(tied=True),
    "pictures": pictures,
    "matrices": matrices,
    "wide": wide,
    "parts": lambda: Parts(1),
    "scalar": Parts,
}


# ── optimizers that torchdecay does not know, or takes for what they are ──


class Signs(optim.Optimizer):
    """Nobody knows this class; it steps by the gradient's sign and decays as AdamW does."""

    def __init__(self, params: Any, lr: float = 0.01, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.mul_(1 - group["lr"] * group["weight_decay"]).sub_(param.grad.sign(), alpha=group["lr"])


class Lion(optim.Optimizer):
    """As other libraries have it: one moment called exp_avg, and the sign of an average."""

    def __init__(self, params: Any, lr: float = 0.01, betas: Any = (0.9, 0.99), weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                if param.grad is not None:
                    moment = self.state[param].setdefault("exp_avg", torch.zeros_like(param))
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                    param.sub_((moment * beta1 + param.grad * (1 - beta1)).sign(), alpha=group["lr"])
                    moment.mul_(beta2).add_(param.grad, alpha=1 - beta2)


class OwnStep(optim.AdamW):
    """Derives from AdamW and has a step of its own."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class SameStep(optim.SGD):
    """Derives from SGD and leaves its step alone."""


class OwnWords(optim.Optimizer):
    """Calls its decay `wd`, and keeps it on itself."""

    def __init__(self, params: Any, lr: float = 0.01, wd: float = 0.0) -> None:
        super().__init__(params, {"lr": lr})
        self.wd = wd

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.mul_(1 - group["lr"] * self.wd).sub_(param.grad, alpha=group["lr"])


# ── how a setup is made ──

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=LONG),
    "short cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=10),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer, [3.0 * group["lr"] for group in optimizer.param_groups], total_steps=LONG
    ),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / 4)),
    "from 0": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 4, 1.0)),
    "steps": lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1),
    "cyclic": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=4, cycle_momentum=False),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=1),
}
RUNS: dict[str, dict[str, Any] | None] = {
    "steps": {"steps": LONG},
    "epochs": {"epochs": 4, "batch_size": 8, "num_samples": 80},
    "cosine": {"steps": LONG, "lr_schedule": "cosine", "warmup_steps": 5},
    "linear": {"epochs": 2, "batch_size": 4, "num_samples": 70, "accumulate": 2, "lr_schedule": "linear"},
    "function": {"steps": LONG, "lr_schedule": lambda step: 0.5 if step < 20 else 2.0},
    "none": None,
}


def setup(
    form: Any = None,
    optimizer: Callable[..., Any] = optim.AdamW,
    *,
    how: str = "attached",
    model: str = "small",
    dtype: torch.dtype | None = None,
    weight_decay: Any = None,
    lr: Any = 0.05,
    scheduler: str = "",
    scheduled_first: bool = True,
    run: str = "steps",
    rules: Any = td.STANDARD,
    groups: Callable[[nn.Module], Any] | None = None,
    change: Callable[[nn.Module], Any] | None = None,
    more: dict[str, Any] | None = None,
    **options: Any,
) -> Setup:
    """A setup of one optimizer.

    Args:
        form: a Decay, a number, or a function from the model to one of them; None for no plan.
        optimizer: its class.
        how: "attached", "hook" (attached, never natively), "groups" (the plan's groups, and nothing attached), "plain"
            (the parameters, without names), "named" (with names), "beside" (as "named", and the plan is given to what
            looks at it), "onto plain" (attached to an optimizer that was built without it).
        model: its name in `MODELS`.
        dtype: of the weights.
        weight_decay: the optimizer's own; None leaves it out.
        lr: of the optimizer.
        scheduler: its name in `SCHEDULERS`.
        scheduled_first: whether the scheduler is made before the plan is attached.
        run: its name in `RUNS`.
        rules: of the plan.
        groups: from the model to parameter groups, instead of its parameters.
        change: what is done to the model first.
        more: more for `Setup`.
        options: more for the optimizer.
    """
    made = filled(MODELS[model]())
    if dtype is not None:
        made = made.to(dtype)
    if change is not None:
        change(made)
    decay = form(made) if callable(form) else form
    plan = None if decay is None else td.plan(made, decay, rules=rules)
    if groups is not None:
        params = groups(made)
    elif how in ("attached", "hook", "groups"):
        assert plan is not None
        params = plan.param_groups(made)
    else:
        params = list(made.named_parameters()) if how in ("named", "beside") else list(made.parameters())
    own = {} if weight_decay is None else {"weight_decay": weight_decay}
    built = optimizer(params, lr=lr, **own, **options)
    early = SCHEDULERS[scheduler](built) if scheduler and scheduled_first else None
    handles = []
    if how in ("attached", "hook", "onto plain"):
        assert plan is not None
        via = "hook" if how == "hook" else "auto"
        told = {"scheduler": early} if scheduler == "cyclic" else {}
        handles = [td.attach(built, plan, model=made, via=via, **told)]
    schedule = early if early is not None else SCHEDULERS[scheduler](built) if scheduler else None
    known = RUNS[run]
    if known is not None and schedule is not None:
        known = known | {"lr_schedule": schedule}
    return Setup(
        optimizers=[built],
        model=made,
        plan=plan if how == "beside" else None,
        handles=handles,
        run=None if known is None else td.Run(**known),
        schedulers=[] if schedule is None else [schedule],
        **(more or {}),
    )


def plan_alone(
    form: Any, *, run: dict[str, Any], model: str = "small", dtype: torch.dtype | None = None, rules: Any = td.STANDARD,
    **given: Any,
) -> Setup:  # fmt: skip
    """A plan without an optimizer, and what `td.forecast` gets beside it."""
    made = filled(MODELS[model]())
    if dtype is not None:
        made = made.to(dtype)
    return Setup([], made, plan=td.plan(made, form, rules=rules), run=td.Run(**run), of_plan=given)


SETUPS: dict[str, Callable[[], Setup]] = {}
"""By name."""


def listed(make: Callable[[], Setup]) -> Callable[[], Setup]:
    """Decorator: this function is a setup."""
    SETUPS[make.__name__] = make
    return make


def row(name: str, *args: Any, **given: Any) -> None:
    """A line of the table: what `setup` gets."""
    assert name not in SETUPS, name
    SETUPS[name] = lambda: setup(*args, **given)


def plain(name: str, optimizer: Any, *, how: str = "plain", weight_decay: Any = 0.1, **given: Any) -> None:
    """A line of the table without a plan: the optimizer's own decay."""
    row(name, None, optimizer, how=how, weight_decay=weight_decay, **given)


def made_by(name: str, make: Callable[[], Setup]) -> None:
    """A line of the table that something else makes."""
    assert name not in SETUPS, name
    SETUPS[name] = make


SGD, ADAM, ADAMW = optim.SGD, optim.Adam, optim.AdamW
schedules, forms = td.schedules, td.forms
HALF = torch.bfloat16


def mix(model: nn.Module) -> None:
    """The last layer in bfloat16, the rest as it is."""
    list(model.children())[-1].to(HALF)


def freeze(*names: str) -> Callable[[nn.Module], None]:
    """Freeze some parameters."""

    def change(model: nn.Module) -> None:
        for name, param in model.named_parameters():
            if name in names:
                param.requires_grad_(False)

    return change


# ── a form on one optimizer after the other ──

row("native_sgd", td.native(0.1), SGD)
row("native_adam_hook", td.native(0.1), ADAM, how="hook")
row("native_signs", td.native(0.1), Signs, lr=0.01)
row("native_cosine_adamw", td.native(0.2, schedule=schedules.cosine(1, 0.1, 10)))
row("coupled_momentum", td.coupled(0.1), SGD, momentum=0.9)
row("coupled_nesterov_hook", td.coupled(0.1), SGD, how="hook", momentum=0.9, nesterov=True)
row("coupled_adamw", td.coupled(0.1), model="language", more={"still": ("inner.weight",)})
row("coupled_rmsprop_hook", td.coupled(0.01), optim.RMSprop, how="hook", momentum=0.5, centered=True)
row("coupled_muon", td.coupled(0.1), Muon, model="matrices", lr=0.02)
row("coupled_linear_dampened", td.coupled(0.2, schedule=schedules.linear(1, 0, 8)), SGD, momentum=0.9, dampening=0.5)
row("decoupled_adamw", td.decoupled(0.1), run="epochs", model="language")
row("decoupled_adamw_hook", td.decoupled(0.1), how="hook", scheduler="cosine")
row("decoupled_sgd", td.decoupled(0.1), SGD, momentum=0.9)
row("decoupled_adam", td.decoupled(0.1), ADAM, amsgrad=True, more={"invariant": ("0.weight",)})
row("decoupled_muon", td.decoupled(0.1), Muon, model="matrices", lr=0.02, scheduler="lambda")
row("decoupled_signs", td.decoupled(0.2), Signs, lr=0.01, run="function")
row("decoupled_lion", td.decoupled(0.5), Lion, more={"invariant": ("0.weight",)})
row("independent_adamw", td.independent(0.01), scheduler="cosine")
row("independent_sgd_one_cycle", td.independent(0.02), SGD, momentum=0.9, scheduler="one cycle")
row("independent_one_cycle_late", td.independent(0.02), scheduler="one cycle", scheduled_first=False)
row("independent_cyclic", td.independent(0.01), SGD, scheduler="cyclic")
row("independent_max_lr_hook", td.independent(0.01, max_lr=0.02), ADAM, how="hook")
row("per_step_rmsprop", td.per_step(0.01), optim.RMSprop, scheduler="lambda")
row("per_step_sgd_linear", td.per_step(0.02, schedule=schedules.linear(0, 1, 6)), SGD, run="cosine")
row("corrected_adamw", td.corrected(0.2), scheduler="cosine", more={"invariant": ("0.weight",)})
row("corrected_nadam_hook", td.corrected(0.2), optim.NAdam, how="hook", scheduler="steps")
row("cautious_adamw", td.cautious(0.1))
row("cautious_momentum", td.cautious(0.2, zero_update="spare"), SGD, momentum=0.9, more={"still": ("2.weight",)})
row("cautious_lion", td.cautious(0.1), Lion, lr=0.01)
row("l1_adam", td.l1(0.1), ADAM)
row("l1_momentum_cosine", td.l1(0.1, schedule=schedules.cosine(0, 1, 6)), SGD, momentum=0.9)
row("elastic_net_sgd", td.elastic_net(l1=0.05, l2=0.1), SGD, run="linear")
row("toward_initial_adamw", td.toward("initial", 0.5))
row(
    "toward_given_sgd",
    lambda model: td.toward({name: numbers("r" + name, p.shape, 0.1) for name, p in model[:2].named_parameters()}, 0.5),
    SGD,
    momentum=0.5,
)
row("penalized_adamw", td.penalized(0.1))
row("penalized_forgotten", td.penalized(0.1), SGD, more={"calls_penalty": False})
row("proximal_asgd", forms.proximal(0.02), optim.ASGD, scheduler="cosine")
row("huber_bf16_sgd", forms.huber(0.1), SGD, dtype=HALF)
row("toward_average_adamw", forms.toward_average(0.5, beta=0.9))
row("projected_sgd", forms.projected("initial", 1.0), SGD, momentum=0.9)
row("stable_radam", forms.stable(0.01), optim.RAdam)
row("stable_momentum", forms.stable(0.02), SGD, momentum=0.8, dampening=0.2, run="cosine")
row("stable_adagrad_refused", forms.stable(0.01), optim.Adagrad)
row("adaptive_sgd", forms.adaptive(0.2), SGD)
row("ada_decay_adamax", forms.ada_decay(0.1, alpha=2.0), optim.Adamax)
row("constrained_initial_adamw", forms.constrained(kappa_initial=0.9))
row("constrained_warmup_sgd", forms.constrained(warmup_steps=2, measure="huber"), SGD, more={"size": 2.0})
row("norm_control_adadelta", forms.norm_control(0.5), optim.Adadelta)
row(
    "norm_control_sgd_follow",
    forms.norm_control(0.5, ratio=0.5, schedule=schedules.follow_lr()),
    SGD,
    scheduler="steps",
)
row("spectral_adamw", forms.spectral(0.2), model="pictures")
row("by_spectrum_adamw", forms.by_spectrum(0.1, every_steps=2, min_values=2), model="matrices")
row("by_spectrum_muon_warmup", forms.by_spectrum(0.1, min_values=3, schedule=schedules.warmup(4)), Muon,
    model="matrices", lr=0.02)  # fmt: skip

# ── torch's own weight_decay, and no plan ──

plain("plain_sgd", SGD)
plain("plain_momentum", SGD, momentum=0.9, scheduler="cosine")
plain("plain_nesterov_maximize", SGD, momentum=0.9, nesterov=True, maximize=True)
plain("plain_adam", ADAM)
plain("plain_adam_decoupled_maximize", ADAM, how="named", decoupled_weight_decay=True, maximize=True)
plain("plain_adamw", ADAMW, more={"named": False})
plain("plain_nadam", optim.NAdam)
plain("plain_nadam_decoupled", optim.NAdam, decoupled_weight_decay=True)
plain("plain_radam_decoupled", optim.RAdam, decoupled_weight_decay=True, scheduler="lambda")
plain("plain_adagrad", optim.Adagrad, lr_decay=0.1)
plain("plain_rmsprop", optim.RMSprop, weight_decay=0.01, momentum=0.9)
plain("plain_adamax", optim.Adamax)
plain("plain_adadelta", optim.Adadelta, lr=1.0)
plain("plain_asgd", optim.ASGD, lambd=0.01)
plain("plain_adafactor", optim.Adafactor, weight_decay=3.0, run="epochs")
plain("plain_muon", Muon, model="matrices", lr=0.02)
plain("plain_muon_refuses_vectors", Muon, lr=0.02)
plain("plain_signs", Signs)
plain("plain_own_step", OwnStep)
plain("plain_same_step", SameStep, momentum=0.5)
plain("plain_own_words", OwnWords, weight_decay=None, wd=0.1)
plain("plain_rprop", optim.Rprop, weight_decay=None)
plain("plain_without_run", ADAMW, run="none")
plain("plain_negative", SGD, groups=lambda model: [{"params": model.parameters(), "weight_decay": -0.1}])
plain("plain_nan", ADAMW, groups=lambda model: [{"params": model.parameters(), "weight_decay": float("nan")}])
plain("plain_too_strong", ADAMW, weight_decay=25.0)

# ── planned, and not at work; or at work on what was built without it ──

row("groups_l1_adamw", td.l1(0.01), how="groups", model="tied", scheduler="cosine")
row("groups_scheduled_muon", td.native(0.1, schedule=schedules.warmup(4)), Muon, how="groups", model="matrices")
row("beside_decoupled_adamw", td.decoupled(0.2), how="beside", weight_decay=0.1)
row("beside_coupled_momentum", td.coupled(0.1), SGD, how="beside", weight_decay=0.1, momentum=0.9)
row("beside_toward_adam", td.toward("initial", 0.1), ADAM, how="beside", weight_decay=0.1, scheduler="cosine")
row("beside_native_signs", td.native(0.1), Signs, how="beside", weight_decay=0.1)


@listed
def removed() -> Setup:
    """The handle was taken off before the first step."""
    made = setup(td.decoupled(0.1), SGD, momentum=0.9)
    made.handles.pop().remove()
    return made


@listed
def removed_onto_plain() -> Setup:
    """Taken off after three steps, so that the optimizer's own weight_decay is back."""
    made = setup(forms.proximal(0.02), ADAMW, how="onto plain", weight_decay=0.3)
    made.before_step = lambda step: made.handles[0].remove() if step == 4 else None
    return made


@listed
def updated_underway() -> Setup:
    """Another plan after three steps, whose schedule goes on where the first one's was."""
    made = setup(td.decoupled(0.1, schedule=schedules.linear(1, 0, 10)), SGD, momentum=0.9)
    after = td.plan(made.model, td.decoupled(0.5, schedule=schedules.linear(1, 0, 10)))
    made.before_step = lambda step: made.handles[0].update(after) if step == 4 else None
    return made


@listed
def attached_underway() -> Setup:
    """A plan that is attached after three steps, in place of the optimizer's own decay."""
    made = setup(None, ADAMW, how="named", weight_decay=0.1)
    plan = td.plan(made.model, td.decoupled(0.4))
    made.before_step = lambda step: made.handles.append(td.attach(made.optimizer, plan)) if step == 4 else None
    return made


@listed
def hooks_lost() -> Setup:
    """A copy of model and optimizer together, which no handle follows."""
    made = setup(td.decoupled(0.1), SGD, momentum=0.9)
    made.model, made.optimizers = copy.deepcopy((made.model, made.optimizers))
    made.handles = []
    return made


@listed
def overwritten_by_hand() -> Setup:
    """Somebody sets the optimizer's own decay to 0 after three steps."""
    made = setup(None, ADAMW, how="plain", weight_decay=0.5)
    made.before_step = lambda step: made.optimizer.param_groups[0].update(weight_decay=0.0) if step == 4 else None
    return made


@listed
def overwritten_under_a_plan() -> Setup:
    """Somebody sets what the handle owns, before the first step and once more after three."""
    made = setup(td.decoupled(0.5), SGD)
    made.optimizer.param_groups[0]["weight_decay"] = 0.2
    made.before_step = lambda step: made.optimizer.param_groups[0].update(weight_decay=0.1) if step == 4 else None
    return made


# ── dtypes ──

row("bf16_adamw_native", td.native(0.001), dtype=HALF)
row("bf16_adamw_decoupled", td.decoupled(0.01), dtype=HALF)
plain("bf16_sgd_plain", SGD, how="named", weight_decay=0.01, dtype=HALF, momentum=0.9)
plain("bf16_adamw_plain_strong", ADAMW, how="named", weight_decay=1.0, dtype=HALF, scheduler="cosine")
row("bf16_independent_one_cycle", td.independent(0.001), ADAM, dtype=HALF, scheduler="one cycle")
row("bf16_muon", td.decoupled(0.01), Muon, dtype=HALF, model="matrices", lr=0.02)
row("fp16_cautious", td.cautious(0.01), dtype=torch.float16, eps=1e-4)
row("fp16_not_finite", td.decoupled(0.01), dtype=torch.float16)
row("fp64_adamw", td.decoupled(0.1), dtype=torch.float64, model="language")
row("mixed_adamw_decoupled", td.decoupled(0.01), change=mix)
plain("mixed_adamw_plain", ADAMW, weight_decay=0.03, change=mix)
row("mixed_sgd_per_step", td.per_step(0.001, schedule=schedules.warmup(3)), SGD, change=mix, momentum=0.9)

# ── who takes part ──

TABLES = [td.rule("embed.weight"), *td.STANDARD]

row("tied_adamw", td.decoupled(0.1), model="tied")
plain("tied_plain", ADAMW, how="named", model="tied", more={"idle": ("embed.weight",)})
row("touched_rows", td.decoupled(0.5, rows="touched"), SGD, model="language", rules=[td.rule("*"), *td.STANDARD],
    more={"idle": ("embed.weight",)})  # fmt: skip
row("lazy_rows", td.decoupled(0.5, rows="lazy"), ADAMW, model="language",
    rules=TABLES, more={"idle": ("embed.weight",)})  # fmt: skip
row("lazy_rows_sparse", td.decoupled(0.5, rows="lazy"), SGD, model="language", rules=TABLES,
    more={"sparse": ("embed.weight",)})  # fmt: skip
plain("sparse_plain", SGD, model="language", more={"sparse": ("embed.weight",)})
row("spared_rows", lambda model: td.decoupled(0.5, mask=td.spare_rows(0, 3)), model="language",
    rules=TABLES)  # fmt: skip
plain("frozen_plain", SGD, momentum=0.9, change=freeze("0.weight", "1.weight"))
row("without_gradient_adamw", td.decoupled(0.1), more={"spared": ("2.weight",)})
plain("without_gradient_momentum_plain", SGD, momentum=0.9,
    more={"spared": ("0.weight", "0.bias")})  # fmt: skip
row("invariant_pictures", td.coupled(0.5), SGD, model="pictures", momentum=0.5, nesterov=True, scheduler="steps",
    more={"invariant": ("0.weight",)})  # fmt: skip
row("unknown_roles", td.decoupled(0.1), model="parts")
row("scalar", td.decoupled(0.1), model="scalar")
row("sampled", td.elastic_net(l1=0.02, l2=0.1), ADAM, model="wide", more={"sample": 256})


@listed
def frozen_underway() -> Setup:
    """A weight that is frozen after three steps and keeps its last gradient."""
    made = setup(None, SGD, how="named", weight_decay=0.1, momentum=0.9)
    made.before_step = lambda step: made.model[0].weight.requires_grad_(False) if step == 4 else None
    return made


@listed
def unfrozen_underway() -> Setup:
    """A weight that is added to the optimizer after three steps."""
    made = setup(None, ADAMW, how="named", weight_decay=0.1, groups=lambda model: list(model[:2].named_parameters()))

    def add(step: int) -> None:
        if step == 4:
            made.optimizer.add_param_group({"params": list(made.model[2].named_parameters()), "weight_decay": 0.5})

    made.before_step = add
    return made


@listed
def frozen_with_old_gradient() -> Setup:
    """A weight that was frozen after a backward pass."""
    made = setup(None, ADAMW, how="plain", weight_decay=0.1)
    made.give_gradients(0)
    made.model[2].weight.requires_grad_(False)
    return made


# ── groups and learning rates ──


def by_layer(model: nn.Module) -> list[dict[str, Any]]:
    """One group per layer, each with numbers of its own; one does not decay."""
    return [
        {"params": list(layer.named_parameters()), "lr": lr, "weight_decay": decay}
        for layer, lr, decay in zip(model.children(), (0.1, 0.01, 0.03), (0.1, 0.0, 0.5), strict=True)
    ]


def by_layer_momentum(model: nn.Module) -> list[dict[str, Any]]:
    """As `by_layer`, each group with another momentum."""
    groups = by_layer(model)
    for group, momentum in zip(groups, (0.0, 0.5, 0.9), strict=True):
        group["momentum"] = momentum
    return groups


RATES = [td.rule("0.weight", td.DEFAULT, lr=0.1), td.rule("2.weight", td.times(0.5), lr=0.01), *td.STANDARD]

plain("layers_sgd", SGD, groups=by_layer_momentum)
plain("layers_adamw_cosine", ADAMW, groups=by_layer, scheduler="cosine")
row("rates_decoupled_adamw", td.decoupled(0.2), rules=RATES, scheduler="one cycle")
row("rates_independent_sgd", td.independent(0.02), SGD, rules=RATES, momentum=0.9)
row("mixed_forms", td.decoupled(0.2), rules=[td.rule("0.weight", td.l1(0.1)), td.rule("0.bias", td.per_step(0.01)),
    td.rule("2.weight", td.coupled(0.1)), *td.STANDARD])  # fmt: skip
row("mixed_forms_one_group", td.decoupled(0.2), SGD, how="onto plain", momentum=0.9, rules=[
    td.rule("0.weight", td.independent(0.01)), td.rule("1.*", td.coupled(0.1)), *td.STANDARD])  # fmt: skip
row("lr_zero", td.decoupled(0.1), lr=0.0)
row("lr_zero_of_one_group", td.per_step(0.01), SGD, rules=[td.rule("0.weight", lr=0.0), *td.STANDARD])
row("lr_from_zero", td.per_step(0.01), scheduler="from 0")
row(
    "lr_from_zero_scheduled_hook",
    td.decoupled(0.5, schedule=schedules.warmup(2)),
    SGD,
    how="hook",
    momentum=0.9,
    scheduler="from 0",
)
row("lr_plateau", td.decoupled(0.1), optim.Adafactor, scheduler="plateau")
row("lr_short_cosine", forms.huber(0.3, delta=0.2), optim.Adagrad, scheduler="short cosine")
row(
    "follow_lr_plain_momentum",
    td.coupled(0.5, schedule=schedules.follow_lr()),
    SGD,
    momentum=0.9,
    scheduler="one cycle",
)
row(
    "warmup_momentum",
    td.decoupled(0.5, schedule=schedules.warmup(4, then=schedules.linear(1, 0, 4))),
    SGD,
    momentum=0.9,
)
row("piecewise_radam", td.decoupled(0.5, schedule=schedules.piecewise({3: 0.1})), optim.RAdam)
row("schedule_of_ones_own", td.coupled(0.1, schedule=lambda step: 1 / (1 + step)), ADAM, run="function")


@listed
def lr_tensor() -> Setup:
    """A learning rate that is a tensor."""
    return setup(td.decoupled(0.1), ADAMW, lr=torch.tensor(0.05), foreach=False)


@listed
def lr_tensor_plain_sgd() -> Setup:
    """A learning rate that is a tensor, and momentum."""
    return setup(None, SGD, how="plain", weight_decay=0.1, lr=torch.tensor(0.05), momentum=0.9, scheduler="cosine")


@listed
def lr_lowered_by_hand() -> Setup:
    """A learning rate that is lowered after three steps, so that only the handle knows the peak."""
    made = setup(td.independent(0.05), SGD, momentum=0.9)
    made.before_step = lambda step: [group.update(lr=0.01) for group in made.optimizer.param_groups if step == 4]
    return made


@listed
def lr_zero_underway() -> Setup:
    """The fourth step is taken at learning rate 0."""
    made = setup(td.decoupled(0.5, schedule=schedules.linear(1, 0, 8)), SGD, momentum=0.9)

    def change(step: int) -> None:
        for group in made.optimizer.param_groups:
            group["lr"] = 0.0 if step == 4 else 0.05

    made.before_step = change
    return made


# ── several optimizers ──


def pair(decay: Any, *, others: Any, attached: tuple[int, ...], scheduled: int | None = None) -> Setup:
    """Muon for the matrices, AdamW for the rest, the plan attached to some of them."""
    model = filled(MODELS["language"]())
    made = td.split(model, decay, others=others)
    optimizers = [Muon(made.matrices, lr=0.02), optim.AdamW(made.others, lr=0.01)]
    handles = [td.attach(optimizers[one], made.plan, model=model) for one in attached]
    schedulers = [] if scheduled is None else [SCHEDULERS["cosine"](optimizers[scheduled])]
    run = td.Run(steps=LONG, lr_schedule=schedulers[0] if schedulers else None)
    return Setup(optimizers, model, handles=handles, run=run, schedulers=schedulers)


made_by("pair_attached", lambda: pair(td.decoupled(0.1), others=td.decoupled(0.01), attached=(0, 1)))
made_by("pair_one_attached", lambda: pair(td.decoupled(0.1), others=td.decoupled(0.01), attached=(0,)))
made_by("pair_plain", lambda: pair(0.1, others=0.01, attached=()))
made_by("pair_scheduled", lambda: pair(td.independent(0.01), others=td.decoupled(0.1), attached=(0, 1), scheduled=0))


@listed
def twice_in_the_optimizers() -> Setup:
    """One tensor in two optimizers, one of which has a plan."""
    made = setup(td.decoupled(0.1), SGD)
    made.optimizers.append(optim.AdamW([made.model[0].weight], lr=0.01, weight_decay=0.1))
    return made


# ── penalties in the loss, and an optimizer that takes nothing else ──


def with_loss(form: Any, *, penalty: bool, **given: Any) -> Setup:
    """A setup with a loss that an audit can look into."""
    made = setup(form, SGD, momentum=0.9, **given)

    def loss() -> Tensor:
        found = made.model(numbers("x", (5, 6), 1.0)).square().mean()
        if not penalty:
            return found
        return found + (made.handles[0].penalty(made.model) if made.handles else td.penalty(made.model, l2=0.01))

    made.loss = loss
    return made


made_by("loss_penalized", lambda: with_loss(td.penalized(0.1), penalty=True))
made_by("loss_penalized_missing", lambda: with_loss(td.penalized(0.1), penalty=False))
made_by("loss_penalty_and_decay", lambda: with_loss(None, penalty=True, how="plain", weight_decay=0.1))

# ── a plan by itself ──

STEPS, COSINE = {"steps": LONG, "lr": 0.05}, {"lr": 0.05, "lr_schedule": "cosine"}


def alone(name: str, form: Any, run: dict[str, Any], **given: Any) -> None:
    """A line of the table for a plan by itself."""
    made_by(name, lambda: plan_alone(form, run=run, **given))


alone("plan_decoupled", td.decoupled(0.1), STEPS)
alone("plan_decoupled_cosine", td.decoupled(0.5), RUNS["epochs"] | COSINE, model="language")
alone("plan_independent_bf16", td.independent(0.001), STEPS | {"lr_schedule": "linear", "warmup_steps": 4}, dtype=HALF)
alone("plan_per_step_without_lr", td.per_step(0.02), {"steps": LONG})
alone("plan_decoupled_without_lr", td.decoupled(0.1), {"steps": LONG})
alone("plan_native_nobody_knows", td.native(0.1), STEPS)
alone("plan_native_on_sgd", td.native(0.1), STEPS, optimizer=SGD)
alone("plan_coupled_on_adam", td.coupled(0.1), STEPS, optimizer=ADAM)
alone("plan_rates_on_adamw", td.corrected(0.2), STEPS | COSINE, optimizer=ADAMW, rules=RATES)
alone("plan_cautious_follow", td.cautious(0.1, schedule=schedules.follow_lr()), STEPS | COSINE)
alone("plan_l1", td.l1(0.1), STEPS, optimizer=ADAM)
alone("plan_toward_average", forms.toward_average(0.5), STEPS, optimizer=ADAMW)
alone("plan_projected", forms.projected("initial", 0.5), STEPS)
alone("plan_adaptive", forms.adaptive(0.1), STEPS, optimizer=ADAM)
alone("plan_ada_decay", forms.ada_decay(0.1), STEPS, optimizer=SGD)
alone("plan_constrained", forms.constrained(kappa=1.0), STEPS)
alone("plan_spectral", forms.spectral(0.1), STEPS, optimizer=optim.Adafactor)
alone("plan_diverging", td.decoupled(50.0), STEPS)
alone("plan_stable", forms.stable(0.1), STEPS)
alone("plan_huber", forms.huber(0.1), STEPS, optimizer=optim.ASGD)
