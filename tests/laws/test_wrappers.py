"""Whatever stands around an optimizer, every public function finds the one inside, and says what it says of that."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.apply.handle import handle_of

LR, WD = 0.05, 0.5


class Accelerated(optim.Optimizer):
    """As accelerate's: an Optimizer that never calls `super().__init__`, with properties for all that it has."""

    def __init__(self, optimizer):
        self.optimizer, self.scaler = optimizer, None

    param_groups = property(lambda self: self.optimizer.param_groups)
    state = property(lambda self: self.optimizer.state)
    defaults = property(lambda self: self.optimizer.defaults)

    def step(self, closure=None):
        return self.optimizer.step(closure)

    def state_dict(self):
        return self.optimizer.state_dict()


class Imitating:
    """As Lightning's and Fabric's: its class derives from that of the one inside, which its attributes come from."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self.__class__ = type("Imitating" + type(optimizer).__name__, (Imitating, type(optimizer)), {})

    def step(self, closure=None):
        return self._optimizer.step(closure)

    def __getattr__(self, name):
        return getattr(self._optimizer, name)


class Plain:
    """As those for mixed precision: no Optimizer at all."""

    def __init__(self, optimizer):
        self.opt = optimizer

    @property
    def param_groups(self):
        return [*self.opt.param_groups]

    def step(self):
        self.opt.step()

    def state_dict(self):
        return self.opt.state_dict()


class Slotted:
    """Without a dictionary of attributes."""

    __slots__ = ("inner",)

    def __init__(self, optimizer):
        self.inner = optimizer

    param_groups = property(lambda self: self.inner.param_groups)

    def step(self):
        self.inner.step()

    def state_dict(self):
        return self.inner.state_dict()


class Lookahead(optim.Optimizer):
    """As pytorch_optimizer's: an Optimizer of its own, with a step that does more every few steps."""

    def __init__(self, optimizer):
        super().__init__(optimizer.param_groups, {})
        self.fast, self.slow, self.taken = optimizer, {}, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.fast.step(closure)
        self.taken += 1
        for group in self.param_groups:
            for param in group["params"]:
                slow = self.slow.setdefault(param, param.detach().clone())
                if self.taken % 5 == 0:
                    param.copy_(slow.lerp_(param, 0.5))


class SAM(optim.Optimizer):
    """As the common one: moves the weights, evaluates, and puts them back before the optimizer inside steps."""

    def __init__(self, optimizer):
        super().__init__(optimizer.param_groups, {})
        self.base_optimizer = optimizer
        self.param_groups = optimizer.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        kept = [(param, param.detach().clone()) for group in self.param_groups for param in group["params"]]
        for param, _ in kept:
            param.add_(0 if param.grad is None else param.grad, alpha=0.05)
        if closure is not None:
            torch.enable_grad()(closure)()
        for param, before in kept:
            param.copy_(before)
        self.base_optimizer.step()


class Chained(Plain):
    """The one inside in a list."""

    def __init__(self, optimizer):
        self.chained = [optimizer]

    opt = property(lambda self: self.chained[0])


def _lightning(optimizer):
    return pytest.importorskip("lightning.pytorch.core.optimizer").LightningOptimizer(optimizer)


def _fabric(optimizer):
    return pytest.importorskip("lightning.fabric").Fabric(accelerator="cpu").setup_optimizers(optimizer)


def _accelerate(optimizer):
    return pytest.importorskip("accelerate").Accelerator(cpu=True).prepare(optimizer)


HANDED_ON = {
    "accelerate's kind": Accelerated,
    "lightning's kind": Imitating,
    "plain": Plain,
    "slots": Slotted,
    "chained": Chained,
    "lookahead": Lookahead,
    "sam": SAM,
    "one in another": lambda optimizer: Accelerated(Lookahead(Imitating(optimizer))),
}
REAL = {"lightning": _lightning, "fabric": _fabric, "accelerate": _accelerate}
ANY = [*HANDED_ON, *(pytest.param(name, marks=pytest.mark.long) for name in REAL)]

READ = {
    "inspect": lambda given, model, plan: str(td.inspect(given, model=model)),
    "forecast": lambda given, model, plan: str(td.forecast(given, run=td.Run(steps=100), model=model)),
    "audit": lambda given, model, plan: td.audit(given, model=model).findings,
    "lower": lambda given, model, plan: str(td.lower(plan, given, model=model)),
    "convert": lambda given, model, plan: td.convert(0.01, "coupled", "decoupled", optimizer=given),
    "penalty": lambda given, model, plan: handle_of(given).penalty(model).item(),
}


def trained(*, momentum=0.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 1))
    plan = td.plan(model, td.decoupled(WD))
    return model, plan, optim.SGD(plan.param_groups(model), lr=LR, momentum=momentum)


def step(taken, model):
    """One step with gradients of zero, which move nothing but through the decay."""
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    taken.step()


@pytest.mark.parametrize("name", ANY)
def test_every_function_says_of_a_wrapper_what_it_says_of_the_optimizer_inside(name):
    """Whether the plan was attached to the one or to the other."""
    for attach_inside in (True, False):
        model, plan, inside = trained()
        given = (HANDED_ON | REAL)[name](inside)
        assert td.lower(plan, given)["0.weight"].route == "hook"
        handle = td.attach(inside if attach_inside else given, plan, model=model)
        assert handle.optimizer is inside
        for what, read in READ.items():
            assert read(given, model, plan) == read(inside, model, plan), what
        checked = td.verify(given)
        assert checked.ok and checked[0].measured == pytest.approx(LR * WD), str(checked)
        with pytest.raises(td.ApplyError, match="attached to this optimizer already"):
            td.attach(inside, plan, model=model)
        with pytest.raises(td.ApplyError, match="attached to this optimizer already"):
            td.attach(given, plan, model=model)


@pytest.mark.parametrize("name", ANY)
def test_a_checkpoint_is_loaded_through_a_wrapper(name):
    """Counters and moments of the run before come into the optimizer inside."""
    model, plan, inside = trained(momentum=0.9)
    td.attach(inside, plan, model=model)
    for _ in range(3):
        step(inside, model)
    other, plan, fresh = trained(momentum=0.9)
    given = (HANDED_ON | REAL)[name](fresh)
    handle = td.attach(given, plan, model=other)
    assert td.load_optimizer(given, inside.state_dict()).matched
    assert handle.steps(0) == 3


@pytest.mark.parametrize("name", HANDED_ON)
def test_a_step_through_a_wrapper_decays_once(name):
    """Also where the wrapper moves weights and puts them back, and whatever the plan was attached through."""
    for attach_inside in (True, False):
        model, plan, inside = trained()
        given = HANDED_ON[name](inside)
        td.attach(inside if attach_inside else given, plan, model=model)
        before = model[0].weight.detach().clone()
        with td.Monitor(given, every_steps=1, model=model) as monitor:
            step(given, model)
        assert torch.allclose(model[0].weight, before * (1 - LR * WD))
        assert monitor.history.shrink("weight").realized[-1] == pytest.approx(LR * WD, rel=0.02)


class Handing(optim.Optimizer):
    """Hands its step on to optimizers with groups of their own."""

    def __init__(self, *optimizers):
        super().__init__([p for one in optimizers for group in one.param_groups for p in group["params"]], {"lr": 0.0})
        self.optimizers = optimizers

    def step(self, closure=None):
        for one in self.optimizers:
            one.step(closure)


def test_what_cannot_be_seen_through_is_refused_and_left_as_it_was():
    """Several at once, groups of its own, hooks that nobody would call; each says what to give instead."""
    model, plan, inside = trained()
    hidden = type("Hidden", (Accelerated,), {"__init__": lambda self: None, "optimizer": inside})()
    decaying = optim.AdamW(model.parameters(), lr=0.1)
    for given, said in (
        ([inside], r"list where a torch optimizer belongs[\s\S]*on its own"),
        ({"a": inside}, "dict where a torch optimizer"),
        (optim.lr_scheduler.StepLR(inside, 1), r"StepLR where a torch optimizer belongs. It holds \w+ in .optimizer"),
        (hidden, r"this Hidden lacks hooks[\s\S]*Give the optimizer inside it"),
        (Handing(decaying), r"hands its step on to AdamW[\s\S]*each on its own"),
    ):
        for call in (
            lambda given=given: td.attach(given, plan, model=model),
            lambda given=given: td.lower(plan, given, model=model),
        ):
            with pytest.raises(td.ApplyError, match=said):
                call()
    for given in ([inside], {"a": inside}):
        with pytest.raises(td.LoadError, match=f"{type(given).__name__} where an optimizer belongs"):
            td.load_optimizer(given, inside.state_dict())
    with pytest.raises(td.ApplyError, match="lacks hooks"):
        td.Monitor(hidden)
    assert handle_of(hidden) is None and not inside._optimizer_step_pre_hooks
    step(hidden, model)


class OwnSAM(optim.SGD):
    """Moves the weights, evaluates, puts them back and updates, all in a step of its own."""

    @torch.no_grad()
    def step(self, closure):
        kept = [(param, param.detach().clone()) for group in self.param_groups for param in group["params"]]
        for param, _ in kept:
            param.add_(0.05)
        with torch.enable_grad():
            closure()
        for param, before in kept:
            param.copy_(before)
        super().step()


@pytest.mark.parametrize(
    "decay", [td.decoupled(WD), td.coupled(WD), td.per_step(0.02), td.l1(WD), td.toward("initial", WD)]
)
def test_decay_survives_a_step_that_puts_weights_back(decay):
    """It comes after the update where the weights were moved before the closure was called; the lowering says so."""

    def run(cls):
        torch.manual_seed(0)
        model = nn.Linear(4, 3, bias=False).double()
        made = cls(model.parameters(), lr=LR)
        handle = td.attach(made, td.plan(model, decay, rules=()), model=model)

        def closure():
            for param in model.parameters():
                param.grad = torch.ones_like(param)

        for _ in range(5):
            made.step(closure)
        return model.weight.detach(), handle.lowering["weight"].why

    (expected, _), (weight, why) = run(optim.SGD), run(OwnSAM)
    assert torch.allclose(weight, expected, atol=6 * LR * LR * WD)
    assert ("before it calls its closure" in why) == (decay.site is td.Site.BEFORE)


class Climbing(optim.SGD):
    """Moves the weights in a step of its own, keeps what they were, and puts them back before it updates."""

    @torch.no_grad()
    def first_step(self):
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["before"] = param.clone()
                param.add_(0.05)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param.copy_(self.state[param].pop("before"))
        super().step()


@pytest.mark.parametrize("name", ["Climbing", "LookSAM"])
def test_a_class_that_says_that_it_puts_weights_back_has_its_decay_after_the_update(name):
    """Before it, the pull would be undone with the rest, silently; what can't come after is refused."""
    cls = type(name, (Climbing,), {})
    model = nn.Linear(4, 3, bias=False).double()
    made = cls(model.parameters(), lr=LR)
    handle = td.attach(made, td.plan(model, td.decoupled(WD), rules=()), model=model)
    assert f"since {name} puts weights back" in handle.lowering["weight"].why
    before = model.weight.detach().clone()
    for _ in range(2):
        model.weight.grad = torch.zeros_like(model.weight)
        made.first_step()
        made.step()
    assert torch.allclose(model.weight, before * (1 - LR * WD) ** 2)
    handle.remove()
    for decay in (td.cautious(WD), td.decoupled(WD, rows="touched")):
        with pytest.raises(td.ApplyError, match="puts weights back"):
            td.attach(made, td.plan(model, decay, rules=()), model=model)


class Outer(optim.Optimizer):
    """An Optimizer of its own around another, whose groups it shares, and takes back when it is loaded."""

    def __init__(self, inner):
        super().__init__(inner.param_groups, {})
        self.base_optimizer = inner
        self.param_groups = inner.param_groups

    def step(self, closure=None):
        self.base_optimizer.step(closure)

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups


def test_the_state_dict_of_a_wrapper_that_was_given_has_the_counters():
    """It is the one that such users save, and its own hooks are not those of the one inside."""
    ends = []
    for resumed in (False, True):
        model, _, inside = trained()
        plan = td.plan(model, td.decoupled(WD, schedule=td.schedules.linear(1.0, 0.0, 6)))
        outer = Outer(inside)
        handle = td.attach(outer, plan, model=model)
        for _ in range(3):
            step(outer, model)
        if resumed:
            saved, held = outer.state_dict(), model.state_dict()
            model, _, inside = trained()
            model.load_state_dict(held)
            outer = Outer(inside)
            handle = td.attach(outer, plan, model=model)
            outer.load_state_dict(saved)
        for _ in range(2):
            step(outer, model)
        assert handle.steps(0) == 5
        ends.append(model[0].weight.detach().clone())
    assert torch.equal(*ends)


def test_a_scheduler_may_be_wrapped():
    """The peaks of a cycle are on the scheduler inside, which wrappers need not hand on."""
    model, _, inside = trained()
    cycle = optim.lr_scheduler.CyclicLR(inside, base_lr=0.1, max_lr=0.4, cycle_momentum=False)
    wrapped = type("Wrapped", (), {"scheduler": cycle, "step": lambda self: self.scheduler.step()})()
    handle = td.attach(inside, td.plan(model, td.independent(0.1)), model=model, scheduler=wrapped)
    step(inside, model)
    assert handle.max_lr(0) == 0.4
