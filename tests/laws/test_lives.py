"""Whatever happens between steps, an attached plan does what it says: lives of random events against a slow reference.

A life is a list of events that is drawn, lived by an optimizer with a plan attached, and beside it by
`reference.lives`, where no plan is. After each event weights, gradients, counters and what stands in the groups agree.
"""

from __future__ import annotations

import copy
import io
from contextlib import suppress
from dataclasses import dataclass, fields

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn, optim
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import torchdecay as td
from reference import lives
from torchdecay.apply import engine
from torchdecay.apply.handle import Handle
from torchdecay.apply.passes import Passes
from torchdecay.apply.program import GroupProgram
from torchdecay.apply.runtimes import Runtime
from torchdecay.errors import PeakWarning
from torchdecay.optimizers.cards import SWITCH
from warned import no_warning

pytestmark = pytest.mark.long

LR = 0.1
OPTIMIZERS = {
    "SGD": (optim.SGD, {}),
    "momentum": (optim.SGD, {"momentum": 0.9, "dampening": 0.1}),
    "nesterov": (optim.SGD, {"momentum": 0.8, "nesterov": True}),
    "maximizing": (optim.SGD, {"momentum": 0.9, "maximize": True}),
    "Adam": (optim.Adam, {}),
    "AdamW": (optim.AdamW, {}),
    "NAdam": (optim.NAdam, {}),
    "RAdam": (optim.RAdam, {"betas": (0.9, 0.99)}),
    "RMSprop": (optim.RMSprop, {"momentum": 0.5}),
    "Adagrad": (optim.Adagrad, {}),
    "Adamax": (optim.Adamax, {}),
    "Adadelta": (optim.Adadelta, {}),
    "ASGD": (optim.ASGD, {}),
    "Rprop": (optim.Rprop, {}),
}
STABLE_RUNS_ON = ("SGD", "momentum", "nesterov", "maximizing", "Adam", "AdamW", "NAdam", "RAdam")
SCHEDULES = {
    "constant": td.schedules.constant(),
    "linear": td.schedules.linear(0.2, 1.0, 6),
    "follow_lr": td.schedules.follow_lr(),
}
FORMS = {
    "native": lambda k: td.native(0.3 * k),
    "coupled": lambda k: td.coupled(0.3 * k),
    "decoupled": lambda k: td.decoupled(0.3 * k),
    "touched": lambda k: td.decoupled(0.3 * k, rows="touched"),
    "lazy": lambda k: td.decoupled(0.3 * k, rows="lazy"),
    "independent": lambda k: td.independent(0.04 * k),
    "independent of 0.25": lambda k: td.independent(0.04 * k, max_lr=0.25),
    "per_step": lambda k: td.per_step(0.02 * k),
    "corrected": lambda k: td.corrected(0.3 * k),
    "penalized": lambda k: td.penalized(0.3 * k),
    "cautious": lambda k: td.cautious(0.3 * k),
    "l1": lambda k: td.l1(0.05 * k),
    "elastic_net": lambda k: td.elastic_net(l1=0.05 * k, l2=0.2 * k),
    "group_lasso": lambda k: td.forms.group_lasso(0.2 * k),
    "p_norm": lambda k: td.forms.p_norm(0.1 * k, p=1),
    "proximal": lambda k: td.forms.proximal(0.04 * k),
    "huber": lambda k: td.forms.huber(0.4 * k, delta=0.3),
    "toward": lambda k: td.toward("initial", 0.3 * k),
    "toward_average": lambda k: td.forms.toward_average(0.4 * k, beta=0.8),
    "projected": lambda k: td.forms.projected("initial", 0.6 * k),
    "stable": lambda k: td.forms.stable(0.2 * k),
    "adaptive": lambda k: td.forms.adaptive(0.3 * k),
    "ada_decay": lambda k: td.forms.ada_decay(0.3 * k),
    # ρ is what a strength multiplies, and with `rho` it is no longer over the number of elements.
    "constrained": lambda k: td.forms.constrained(kappa_initial=0.8).replace(coefficient=k),
    "constrained at 0.5": lambda k: td.forms.constrained(kappa_initial=0.5).replace(coefficient=k),
    "constrained after 3": lambda k: td.forms.constrained(warmup_steps=3).replace(coefficient=k),
    "norm_control": lambda k: td.forms.norm_control(0.4 * k, ratio=0.7),
    "norm_control at 0.9": lambda k: td.forms.norm_control(0.4 * k, ratio=0.9),
    "hyperball": lambda k: td.forms.hyperball().replace(coefficient=min(k, 1.0)),
    "projection": lambda k: td.forms.projection().replace(coefficient=min(k, 1.0)),
    "radial_brake": lambda k: td.forms.radial_brake(outward=0.25, inward=0.75).replace(coefficient=min(k, 1.0)),
    "relative_update": lambda k: td.forms.relative_update().replace(coefficient=min(k, 1.0)),
    "spectral": lambda k: td.forms.spectral(0.3 * k),
    "by_spectrum": lambda k: td.forms.by_spectrum(0.2 * k, every_steps=3, min_values=4),
}
REMEMBERING = (
    "adaptive",
    "constrained",
    "constrained at 0.5",
    "constrained after 3",
    "norm_control",
    "by_spectrum",
    "hyperball",
)
"""Forms whose controllers keep something from step to step: these are drawn twice as often."""
SHAPES = {"a": (4, 5), "b": (5, 4), "c": (3,), "d": (4, 4)}
LAYOUTS = {
    # The groups, and what decays otherwise than by the form that is tried.
    "one group": ((("a", "b", "c"),), {}),
    "two groups": ((("a",), ("b", "c")), {}),
    "mixed": ((("a", "b", "c"),), {"b": None, "c": "decoupled"}),
}
STOOD = (0.02, 0.03, 0.04, 0.05)


def can_run(form: str, optimizer: str) -> bool:
    """Whether a form makes sense there: a penalty that is maximized grows weights."""
    if form == "stable":
        return optimizer in STABLE_RUNS_ON
    return (form, optimizer) not in (("penalized", "maximizing"), ("native", "Rprop"))


class Model(nn.Module):
    """Weights and nothing else."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, shape in SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))

    def loss(self, clock: int, without: str) -> torch.Tensor:
        """Linear, so that gradients do not depend on weights."""
        generator = torch.Generator().manual_seed(1000 + clock)
        made = torch.zeros((), dtype=torch.float64)
        for name, param in self.named_parameters():
            given = torch.randn(param.shape, generator=generator, dtype=torch.float64)
            if name not in without and param.requires_grad:
                made = made + (param * given.to(param.dtype)).sum()
        return made


def backward(loss: torch.Tensor) -> torch.Tensor:
    if loss.requires_grad:
        loss.backward()
    return loss


class Boom(Exception):
    """What events raise."""


class World:
    """One life: the optimizer with the plan, and the reference beside it."""

    def __init__(self, form: str, optimizer: str, via: str, layout: str, schedule: str) -> None:
        self.form, self.kind, self.via, self.layout, self.schedule = form, optimizer, via, layout, schedule
        self.strength, self.clock, self.lowest = 1.0, 0, torch.float64
        self.dtype = torch.float64
        self.monitor = None
        groups = LAYOUTS[layout][0]
        self.model, twin = Model(), Model()
        self.optimizer = self.build(self.model, groups)
        self.slow = lives.Life(dict(twin.named_parameters()), self.build(twin, groups))
        self.twin = twin
        self.handle = None
        self.attach()

    def build(self, model, groups, stood=STOOD):
        cls, options = OPTIMIZERS[self.kind]
        made = [
            {"params": [getattr(model, name) for name in names], "param_names": list(names), "weight_decay": wd}
            for names, wd in zip(groups, stood, strict=False)
        ]
        return cls(made, lr=LR, **options)

    def forms(self) -> dict[str, tuple[str, float]]:
        """What decays how, as the reference has it."""
        others = LAYOUTS[self.layout][1]
        made = {name: (others.get(name, self.form), self.strength) for name in SHAPES}
        one = min(self.strength, 1.0)
        made |= {name: (form, one) for name, (form, _) in made.items() if form in lives.RULES}
        vectors = [name for name, (form, _) in made.items() if form in lives.OF_MATRICES and len(SHAPES[name]) < 2]
        return {name: pair for name, pair in made.items() if pair[0] is not None and name not in vectors}

    def plan(self) -> td.Plan:
        rules = [
            td.rule(name, form if form is None else self.decay(form)) for name, form in LAYOUTS[self.layout][1].items()
        ]
        rules += [td.rule(td.ndim(1), None, optional=True)] if self.form in lives.OF_MATRICES else []
        frozen = [p for p in self.model.parameters() if not p.requires_grad]
        for param in frozen:
            param.requires_grad_(True)
        made = td.plan(self.model, self.decay(self.form), rules=rules)
        for param in frozen:
            param.requires_grad_(False)
        return made

    def decay(self, form: str) -> td.Decay:
        return FORMS[form](self.strength).replace(schedule=SCHEDULES[self.schedule])

    def attach(self) -> None:
        self.handle = td.attach(self.optimizer, self.plan(), model=self.model, via=self.via)
        self.slow.attach(self.forms(), self.schedule)

    def both(self):
        return ((self.model, self.optimizer), (self.twin, self.slow.optimizer))

    def group_names(self, optimizer, model):
        names = {id(param): name for name, param in model.named_parameters()}
        return [tuple(names[id(param)] for param in group["params"]) for group in optimizer.param_groups]

    def places(self) -> list[int]:
        """For each group of the reference, where it stands in the optimizer."""
        mine = self.group_names(self.optimizer, self.model)
        return [mine.index(names) for names in self.group_names(self.slow.optimizer, self.twin)]

    def backward(self, without: str = "") -> None:
        """One backward pass on both sides."""
        self.clock += 1
        backward(self.loss(without))
        backward(self.twin.loss(self.clock, without) + self.slow.penalty())

    def loss(self, without: str) -> torch.Tensor:
        penalty = self.handle.penalty(self.model) if self.handle is not None else 0.0
        return self.model.loss(self.clock, without) + penalty

    def zero(self) -> None:
        for _, optimizer in self.both():
            optimizer.zero_grad()

    def check(self) -> None:
        close = {torch.float64: (1e-6, 1e-9), torch.float32: (1e-3, 1e-4), torch.bfloat16: (8e-2, 2e-2)}[self.lowest]
        close = (1e-4, 1e-6) if self.form == "by_spectrum" and self.lowest is torch.float64 else close
        for (name, mine), other in zip(self.model.named_parameters(), self.twin.parameters(), strict=True):
            assert mine.dtype == self.dtype
            one, two = mine.detach().double(), other.detach()
            if self.lowest is torch.bfloat16:
                one, two = one.norm(), two.norm()
            torch.testing.assert_close(one, two, rtol=close[0], atol=close[1], msg=lambda m, n=name: f"{n}: {m}")
            assert (mine.grad is None) == (other.grad is None), f"{name}: whether it has a gradient"
            if mine.grad is not None and self.lowest is not torch.bfloat16:
                torch.testing.assert_close(
                    mine.grad.double(), other.grad, rtol=close[0], atol=close[1], msg=lambda m, n=name: f"{n}.grad: {m}"
                )
        counted = self.optimizer.state_dict().get("torchdecay", {}).get("groups")
        for group, place in zip(self.slow.optimizer.param_groups, self.places(), strict=True):
            mine = self.optimizer.param_groups[place]
            assert mine["lr"] == group["lr"]
            if self.handle is None:
                assert mine["weight_decay"] == group["weight_decay"], "weight_decay after remove()"
            elif id(group) in self.slow.groups and place < len(counted):
                assert counted[place]["steps"] == self.slow.groups[id(group)].steps, f"steps of group {place}"


class Event:
    """Something that happens between steps, or a step. Prints what is not usual about it."""

    def __call__(self, world: World) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        said = [
            f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if getattr(self, one.name) != one.default
        ]
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(repr=False)
class Train(Event):
    """zero_grad, backward, step; some have no gradient."""

    without: str = ""
    closure: str = ""
    passes: int = 1
    zero: bool = True

    def __call__(self, world):
        if self.closure:
            world.clock += 1

            def closure():
                world.optimizer.zero_grad()
                return backward(world.loss(self.without))

            world.optimizer.step(closure) if self.closure == "positional" else world.optimizer.step(closure=closure)
            world.slow.optimizer.zero_grad()
            backward(world.twin.loss(world.clock, self.without) + world.slow.penalty())
        else:
            if self.zero:
                world.zero()
            for _ in range(self.passes):
                world.backward(self.without)
            world.optimizer.step()
        world.slow.step()


@dataclass(repr=False)
class Backward(Event):
    """Another micro-batch, without a step."""

    without: str = ""

    def __call__(self, world):
        world.backward(self.without)


@dataclass(repr=False)
class Raise(Event):
    """A step that does not end."""

    where: str = "closure"
    error: type[BaseException] = Boom

    def __call__(self, world):
        def boom(*_, **__):
            raise self.error

        def closure():
            backward(world.loss(""))
            boom()

        hooks, arguments = [], []
        if self.where == "closure":
            world.clock += 1
            arguments = [closure]
        elif self.where == "hook":
            hooks = [world.optimizer.register_step_pre_hook(boom)]
        elif self.where == "update":
            world.optimizer._init_group = boom
        elif self.where == "backward":
            hooks = [world.model.a.register_hook(boom)] if world.model.a.requires_grad else []
        try:
            if self.where == "backward":
                world.clock += 1
                backward(world.loss(""))
            else:
                if world.handle is not None:
                    world.handle.penalty()
                world.optimizer.step(*arguments)
        except self.error:
            pass
        for hook in hooks:
            hook.remove()
        if self.where == "closure":
            backward(world.twin.loss(world.clock, "") + world.slow.penalty())
        elif self.where == "update":
            del world.optimizer._init_group
        elif self.where == "backward":
            # What a backward pass that was stopped has left in the gradients, torch does not say.
            world.model.zero_grad()
            world.twin.zero_grad()


@dataclass(repr=False)
class Lr(Event):
    """A learning rate by hand, of one group or all."""

    lr: float = 0.05
    group: int = -1

    def __call__(self, world):
        for index, place in enumerate(world.places()):
            if self.group in (-1, index):
                world.optimizer.param_groups[place]["lr"] = self.lr
                world.slow.optimizer.param_groups[index]["lr"] = self.lr


@dataclass(repr=False)
class WeightDecay(Event):
    """Another hand on what the handle owns: said at the next step, and undone."""

    value: float = 0.7

    def __call__(self, world):
        if world.handle is not None:
            for group in world.optimizer.param_groups:
                group["weight_decay"] = self.value


@dataclass(repr=False)
class Update(Event):
    """Another plan on the running job, of the same form or another."""

    form: str = ""
    strength: float = 1.0

    def __call__(self, world):
        form = self.form or world.form
        if world.handle is None or not can_run(form, world.kind):
            return
        world.form, world.strength = form, self.strength
        world.handle.update(world.plan())
        world.slow.update(world.forms(), world.schedule)


@dataclass(repr=False)
class Remove(Event):
    """The plan goes."""

    def __call__(self, world):
        if world.handle is not None:
            world.handle.remove()
            world.slow.remove()
            world.handle = None


@dataclass(repr=False)
class Attach(Event):
    """A plan comes; one that is there goes before."""

    def __call__(self, world):
        Remove()(world)
        world.attach()


@dataclass(repr=False)
class Reload(Event):
    """Another process goes on from a checkpoint."""

    how: str = "memory"

    def __call__(self, world):
        if world.handle is None:
            return
        saved = [copy.deepcopy(part.state_dict()) for part in (world.model, world.handle, world.optimizer)]
        if self.how != "memory":
            stream = io.BytesIO()
            torch.save(saved, stream)
            stream.seek(0)
            saved = torch.load(stream, weights_only=True)
        groups = world.group_names(world.optimizer, world.model)
        stood = [world.slow.stood.get(id(group), STOOD[0]) for group in world.slow.optimizer.param_groups]
        stood = [stood[world.places().index(place)] for place in range(len(groups))]
        how = self.how
        trained = [param for group in world.optimizer.param_groups for param in group["params"]]
        if how in ("distributed", "flattened"):
            # torch makes states where there are none, by a step of its own, and drops those of frozen weights.
            with_state = all(param.requires_grad and param in world.optimizer.state for param in trained)
            how = how if with_state else "memory"
        order = list(range(len(groups)))[::-1] if how not in ("memory", "file") else list(range(len(groups)))
        options = StateDictOptions(flatten_optimizer_state_dict=how == "flattened")
        if how in ("distributed", "flattened"):
            world.handle.flush()
            saved[2] = copy.deepcopy(get_optimizer_state_dict(world.model, world.optimizer, options=options))
        frozen = {name for name, param in world.model.named_parameters() if not param.requires_grad}
        plan = world.plan()
        world.model = Model(seed=world.clock + 1).to(world.dtype)
        world.optimizer = world.build(world.model, [groups[i] for i in order], [stood[i] for i in order])
        world.handle = td.attach(world.optimizer, plan, model=world.model, via=world.via)
        world.model.load_state_dict(saved[0])
        world.handle.load_state_dict(saved[1])
        if how == "permuted":
            td.load_optimizer(world.optimizer, saved[2], model=world.model)
        elif how in ("distributed", "flattened"):
            set_optimizer_state_dict(world.model, world.optimizer, saved[2], options=options)
        else:
            world.optimizer.load_state_dict(saved[2])
        for name, param in world.model.named_parameters():
            param.requires_grad_(name not in frozen)
        for param in world.twin.parameters():
            param.grad = None
        world.monitor = None


@dataclass(repr=False)
class AddGroup(Event):
    """A parameter that the plan knows comes later."""

    def __call__(self, world):
        if len(world.slow.params()) == len(SHAPES) or "d" in {world.slow.names[id(p)] for p in world.slow.params()}:
            return
        for model, optimizer in world.both():
            optimizer.add_param_group({"params": [model.d], "param_names": ["d"], "weight_decay": STOOD[3], "lr": LR})
        if world.handle is not None:
            world.slow.update(world.slow.plan, world.schedule)


@dataclass(repr=False)
class DropGroup(Event):
    """The first group is taken out."""

    def __call__(self, world):
        if len(world.optimizer.param_groups) < 2:
            return
        place = world.places()[0]
        for optimizer, index in ((world.optimizer, place), (world.slow.optimizer, 0)):
            for param in optimizer.param_groups.pop(index)["params"]:
                optimizer.state.pop(param, None)
                param.grad = None
        if world.handle is not None:
            world.slow.update(world.slow.plan, world.schedule)


@dataclass(repr=False)
class Reorder(Event):
    """The groups stand in another order."""

    def __call__(self, world):
        world.optimizer.param_groups.reverse()


@dataclass(repr=False)
class Move(Event):
    """A parameter goes into another group."""

    def __call__(self, world):
        if len(world.optimizer.param_groups) < 2:
            return
        first, *_, last = world.places()
        for optimizer, here, there in ((world.optimizer, last, first), (world.slow.optimizer, -1, 0)):
            groups = optimizer.param_groups
            if len(groups[here]["params"]) > 1:
                for key in ("params", "param_names"):
                    groups[there][key].append(groups[here][key].pop())
        if world.handle is not None:
            world.slow.update(world.slow.plan, world.schedule)


@dataclass(repr=False)
class Freeze(Event):
    """A weight asks for no gradient any more; the old one may be left."""

    name: str = "a"
    stale: bool = True

    def __call__(self, world):
        for model, _ in world.both():
            param = getattr(model, self.name)
            param.requires_grad_(False)
            if not self.stale:
                param.grad = None


@dataclass(repr=False)
class Unfreeze(Event):
    """All ask for gradients again."""

    def __call__(self, world):
        for model, _ in world.both():
            model.requires_grad_(True)


@dataclass(repr=False)
class Cast(Event):
    """The weights and what the optimizer remembers get another dtype."""

    dtype: torch.dtype = torch.float32

    def __call__(self, world):
        world.dtype = self.dtype
        order = [torch.float64, torch.float32, torch.bfloat16]
        world.lowest = max(world.lowest, self.dtype, key=order.index)
        world.model.to(self.dtype)
        world.optimizer.load_state_dict(world.optimizer.state_dict())


@dataclass(repr=False)
class Look(Event):
    """Whatever only looks changes nothing."""

    what: str = "verify"

    def __call__(self, world):
        if self.what == "verify":
            td.verify(world.optimizer, model=world.model)
        elif self.what == "audit":
            td.audit(world.optimizer, model=world.model)
        elif self.what == "forecast":
            with suppress(td.UnitError, td.ApplyError):
                # Where the learning rate is 0 there is nothing to tell.
                td.forecast(world.optimizer, run=td.Run(steps=10), model=world.model)
        elif self.what == "inspect":
            td.inspect(world.optimizer, model=world.model)
        elif self.what == "watch" and world.monitor is None:
            world.monitor = td.Monitor(world.optimizer, every_steps=2, model=world.model)
        elif self.what == "watch no more" and world.monitor is not None:
            world.monitor.close()
            world.monitor = None
        elif self.what == "flush" and world.handle is not None:
            world.handle.flush()


@dataclass(repr=False)
class Copy(Event):
    """A copy of model and optimizer has a life of its own; with `stay` the life goes on in it.

    The plan is at work there because its handle was copied too, or because it is attached: it goes on from what the
    copy remembers, or from a checkpoint.
    """

    stay: bool = False
    how: str = "checkpoint"

    def __call__(self, world):
        if self.how == "handle":
            model, optimizer, handle = copy.deepcopy((world.model, world.optimizer, world.handle))
        else:
            model, optimizer = copy.deepcopy((world.model, world.optimizer))
        if self.how == "attach" and world.handle is not None:
            handle = td.attach(optimizer, world.plan(), model=model, via=world.via)
        if self.how == "checkpoint" and world.handle is not None:
            plan = world.plan()
            handle = td.attach(optimizer, plan, model=model, via=world.via)
            handle.load_state_dict(world.handle.state_dict())
            optimizer.load_state_dict(copy.deepcopy(world.optimizer.state_dict()))
        if self.stay:
            world.model, world.optimizer, world.monitor = model, optimizer, None
            for param in world.twin.parameters():
                # Copies of parameters have no gradients.
                param.grad = None
            if world.handle is not None:
                world.handle = handle
                for group, place in zip(world.slow.optimizer.param_groups, world.places(), strict=True):
                    # The copy remembers what stood there before the plan.
                    world.slow.stood[id(group)] = handle._before[place]["weight_decay"]
                    group |= {key: one for key, one in handle._before[place].items() if key == SWITCH}
            return
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        if world.handle is not None:
            handle.penalty()
        optimizer.step()


def training():
    return st.builds(
        Train,
        without=st.sampled_from(["", "", "", "a", "bc", "abcd"]),
        closure=st.sampled_from(["", "", "positional", "keyword"]),
        passes=st.sampled_from([1, 1, 2]),
        zero=st.sampled_from([True, True, False]),
    )


ERRORS = st.sampled_from([Boom, KeyboardInterrupt])
EVENTS = st.one_of(
    # Several that are equal, and not one several times, which would count once.
    *(training() for _ in range(12)),
    st.builds(Backward, without=st.sampled_from(["", "a", "bc"])),
    st.builds(Raise, where=st.sampled_from(["closure", "hook", "backward"]), error=ERRORS),
    st.builds(Raise, where=st.just("update"), error=ERRORS),
    st.builds(Lr, lr=st.sampled_from([0.0, 0.0, 0.02, 0.05, 0.1, 0.2]), group=st.sampled_from([-1, -1, 0, 1])),
    st.builds(WeightDecay),
    st.builds(Update, form=st.sampled_from(["", *FORMS]), strength=st.sampled_from([1.0, 1.5])),
    st.builds(Update, strength=st.sampled_from([1.0, 1.5])),
    st.builds(Remove),
    st.builds(Attach),
    st.builds(Reload, how=st.sampled_from(["memory", "file", "permuted", "distributed", "flattened"])),
    st.builds(Reorder),
    st.builds(Move),
    st.builds(AddGroup),
    st.builds(DropGroup),
    st.builds(Freeze, name=st.sampled_from(["a", "b", "c"]), stale=st.booleans()),
    st.builds(Unfreeze),
    st.builds(Cast, dtype=st.sampled_from([torch.float32, torch.float64])),
    st.builds(
        Look,
        what=st.sampled_from(["verify", "audit", "forecast", "inspect", "watch", "watch no more", "flush"]),
    ),
    st.builds(Copy, stay=st.booleans(), how=st.sampled_from(["checkpoint", "attach", "handle"])),
)


@st.composite
def lived(draw):
    """The beginning of a life and its events."""
    form = draw(st.sampled_from([*FORMS, *REMEMBERING]))
    kinds = [one for one in OPTIMIZERS if can_run(form, one)]
    start = {
        "form": form,
        "optimizer": draw(st.sampled_from(kinds)),
        "via": draw(st.sampled_from(["auto", "hook"])),
        "layout": draw(st.sampled_from(list(LAYOUTS))),
        "schedule": draw(st.sampled_from(list(SCHEDULES))),
    }
    return start, draw(st.lists(EVENTS, min_size=1, max_size=14))


def live(start, events):
    """A life; what it finds is said with the events so far."""
    with no_warning(td.OwnershipWarning, PeakWarning) as told:
        world = World(**start)
        for number, event in enumerate(events, 1):
            try:
                event(world)
                world.check()
                assert not told, told[0].message
            except Exception as error:
                said = "\n".join(f"    {one!r}," for one in events[:number])
                raise AssertionError(f"{start}\n[\n{said}\n]\n{type(error).__name__}: {error}") from error
        if world.monitor is not None:
            world.monitor.close()


def law(max_examples, **options):
    """The law over so many lives, the same each time."""

    @settings(
        max_examples=max_examples,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    @given(lived())
    def over(life):
        live(*life)

    return over


def test_a_life_is_what_the_reference_says():
    law(200)()


@pytest.mark.slow
def test_thousands_of_lives_are_what_the_reference_says():
    law(5000)()


def _counts_at_rate_0(patch):
    patch.setattr(GroupProgram, "moves", property(lambda self: True))


def _keeps_what_was_lent(patch):
    patch.setattr(Handle, "abandon", lambda self: setattr(self, "_depth", 0))
    patch.setattr(Passes, "reset", lambda self: setattr(self, "_loans", []))


def _keeps_what_was_pulled(patch):
    patch.setattr(Passes, "take_back", Passes.give_back)


def _forgets_controllers(patch):
    patch.setattr(Runtime, "load", lambda self, scalars: None)


def _forgets_at_updates(patch):
    patch.setattr(Passes, "inherit", lambda self, other: None)
    patch.setattr(Passes, "inherit_controllers", lambda self, other: None)


def _tells_groups_by_place(patch):
    patch.setattr(engine, "origins", lambda before, now: [i if i < len(before) else None for i in range(len(now))])


FAULTS = [
    _counts_at_rate_0,
    _keeps_what_was_lent,
    _keeps_what_was_pulled,
    _forgets_controllers,
    _forgets_at_updates,
    _tells_groups_by_place,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_law_sees_a_seeded_fault(fault, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        law(1000, phases=[Phase.generate], report_multiple_bugs=False)()
