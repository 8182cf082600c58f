"""A probe takes steps with the optimizer itself, and leaves it as it was to the bit."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.optim.optimizer import register_optimizer_step_pre_hook

import torchdecay as td
from observe.verify.bits import read, same
from observe.verify.optimizers import Lion, OwnName, Wrapper, case_id, cases, live, make
from torch_optimizers import TORCH, WITHOUT
from torchdecay.apply.handle import handle_of
from torchdecay.errors import ApplyError
from torchdecay.observe.verify.fitting import Segments
from torchdecay.observe.verify.probe import Probe, StepFailed
from torchdecay.observe.verify.verify import verify


def train(model, optimizer, steps=3, scheduler=None):
    generator = torch.Generator().manual_seed(1)
    first = next(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        width = first.shape[1]
        x = torch.randn(6, width, generator=generator).to(first)
        model(x).square().mean().backward()
        if isinstance(optimizer, optim.SparseAdam):
            for param in model.parameters():
                param.grad = param.grad.to_sparse()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        torch.rand(3), random.random(), np.random.rand()
    # A gradient is in flight, as between backward and step.
    if not isinstance(optimizer, optim.SparseAdam):
        optimizer.zero_grad()
        model(x).square().mean().backward()


def moved(probe, rows):
    """Whether every entry of every small tensor moved in every step."""
    return all(bool((rows[1:, slot.span] != rows[:-1, slot.span]).all()) for slot in probe.slots)


def two_steps(probe, *, native=True):
    ones = torch.ones(probe.size, dtype=torch.float64)
    return probe.run(
        ones,
        [ones, ones / 2],
        active=[True] * len(probe.slots),
        lrs=[0.01] * len(probe.optimizer.param_groups),
        native=native,
    )


@pytest.mark.parametrize(("name", "implementation"), list(cases(TORCH | WITHOUT)), ids=case_id)
def test_every_torch_optimizer_is_left_as_it_was(name, implementation):
    """Momentum is in flight, a scheduler has stepped, and not a bit or an object differs after verify."""
    model, optimizer = make(name, implementation)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    train(model, optimizer, scheduler=scheduler)
    before = read(optimizer, scheduler)
    verify(optimizer)
    assert same(before, read(optimizer, scheduler)) == []


@pytest.mark.parametrize("name", ["SGD momentum", "Adam", "AdamW", "Adafactor", "Adagrad"])
def test_an_optimizer_that_never_stepped_is_left_as_it_was(name):
    """Lazy state stays absent, and no scheduler is told that a step was taken."""
    _, optimizer = make(name, {})
    scheduler = optim.lr_scheduler.LinearLR(optimizer)
    before = read(optimizer, scheduler)
    verify(optimizer)
    assert same(before, read(optimizer, scheduler)) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.complex64], ids=str)
def test_every_dtype_is_left_as_it_was(dtype):
    """Also where many steps are taken to see what rounding leaves."""
    model = nn.ParameterList([nn.Parameter(torch.randn(9, 70).to(dtype)), nn.Parameter(torch.randn(70).to(dtype))])
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for param in model:
        param.grad = torch.randn(param.shape).to(dtype)
    optimizer.step()
    before = read(optimizer)
    verify(optimizer)
    assert same(before, read(optimizer)) == []


DECAYS = {
    "coupled": td.coupled(0.1),
    "decoupled": td.decoupled(0.1, schedule=td.schedules.linear(1.0, 0.0, 50)),
    "corrected": td.corrected(0.1),
    "independent": td.independent(0.1),
    "cautious": td.cautious(0.1),
    "l1": td.l1(0.01),
    "toward": td.toward("initial", 0.1),
    "toward average": td.forms.toward_average(0.1),
    "adaptive": td.forms.adaptive(0.1),
    "norm control": td.forms.norm_control(0.1),
    "constrained": td.forms.constrained(kappa=1.0),
    "penalized": td.penalized(0.1),
    "rows": td.decoupled(0.1, mask=td.spare_rows(0, 3)),
}


@pytest.mark.filterwarnings("ignore::torchdecay.errors.ForgottenPenaltyWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS)
def test_an_attached_plan_is_left_as_it_was(decay, dtype):
    """Counters, peaks, controllers, debts and references of the handle are the user's run, not the probe's."""
    model, optimizer = make("AdamW", {}, dtype=dtype)
    handle = td.attach(optimizer, td.plan(model, decay), model=model)
    train(model, optimizer)
    handle.penalty(model)
    before = read(optimizer)
    verify(optimizer)
    assert same(before, read(optimizer)) == []


def test_an_attached_plan_goes_on_as_if_nothing_had_been():
    """A run that was verified in the middle ends with the bits of one that was not."""
    ends = []
    for look in (False, True):
        torch.manual_seed(0)
        model, optimizer = make("Adam", {})
        td.attach(optimizer, td.plan(model, td.independent(0.1)), model=model)
        train(model, optimizer)
        if look:
            verify(optimizer)
        train(model, optimizer)
        ends.append([param.detach().clone() for param in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_step_is_seen_by_the_comparison():
    """The seeded fault of all tests above: one real step differs in weights, state and versions."""
    model, optimizer = make("AdamW", {})
    train(model, optimizer)
    before = read(optimizer)
    optimizer.step()
    different = " ".join(same(before, read(optimizer)))
    assert "/params/0" in different and "/state/0" in different


def test_a_small_draw_is_seen_by_the_comparison():
    """The seeded fault for generators: one number drawn from any of the three is noticed."""
    _, optimizer = make("SGD", {})
    for draw in (lambda: torch.rand(1), random.random, np.random.rand):
        before = read(optimizer)
        draw()
        assert len(same(before, read(optimizer))) >= 1


def test_everything_is_put_back_when_a_step_raises():
    """An optimizer that breaks in the middle of a probe leaves no small tensors behind."""

    class Breaks(optim.SGD):
        def step(self, closure=None):
            super().step()
            raise ZeroDivisionError("on purpose")

    model = nn.Linear(9, 7)
    optimizer = Breaks(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(9)).sum().backward()
    before = read(optimizer)
    checked = verify(optimizer)
    assert same(before, read(optimizer)) == []
    assert checked[0].parts[0].fault == "failed" and "on purpose" in checked[0].why
    with pytest.raises(StepFailed, match="ZeroDivisionError"), Probe(optimizer) as probe:
        two_steps(probe)
    assert same(before, read(optimizer)) == []


def test_a_stop_from_the_keyboard_puts_everything_back():
    """Whatever leaves the block, also what is no Exception."""

    class Stopped(optim.SGD):
        def step(self, closure=None):
            super().step()
            raise KeyboardInterrupt

    model = nn.Linear(9, 7)
    optimizer = Stopped(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(9)).sum().backward()
    before = read(optimizer)
    with pytest.raises(KeyboardInterrupt):
        verify(optimizer)
    assert same(before, read(optimizer)) == []


def test_backward_works_after_a_probe_between_forward_and_backward():
    """Versions of the parameters are put back, so that autograd does not see them as changed."""
    model = nn.Sequential(nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    loss = model(torch.ones(3, 9)).sum()
    reference = torch.autograd.grad(model(torch.ones(3, 9)).sum(), list(model.parameters()))
    verify(optimizer)
    loss.backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), reference, strict=True))


def test_gradient_hooks_of_parameters_survive():
    """DDP and others hang on the gradient accumulators, which torch drops when a dtype or device changes."""
    model = nn.Linear(9, 7)
    seen = []
    for param in model.parameters():
        param.register_post_accumulate_grad_hook(lambda p: seen.append(p.shape))
    accumulators = [p.view_as(p).grad_fn.next_functions[0][0] for p in model.parameters()]
    verify(optim.AdamW(model.parameters()))
    assert [p.view_as(p).grad_fn.next_functions[0][0] for p in model.parameters()] == accumulators
    model(torch.ones(9)).sum().backward()
    assert len(seen) == 2


def test_a_foreign_hook_is_refused_by_name_and_runs_when_allowed():
    """What a user's hook does with small tensors is not known; what it does to weights counts once it may run."""
    model = nn.Linear(9, 7, bias=False)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def shrink_all(optimizer, args, kwargs):
        with torch.no_grad():
            for _, param in live(optimizer):
                param.mul_(0.99)

    optimizer.register_step_pre_hook(shrink_all)
    before = read(optimizer)
    with pytest.raises(ApplyError, match="shrink_all"):
        verify(optimizer)
    checked = verify(optimizer, allow_hooks=True)
    assert same(before, read(optimizer)) == []
    assert checked[0].parts[0].fault == "hidden"
    assert checked[0].measured == pytest.approx(0.01, rel=1e-4)


def test_a_global_hook_and_a_replaced_step_are_foreign_too():
    """A decay may be anywhere around a step; a scheduler's own wrapper is none."""
    model = nn.Linear(9, 7)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optim.lr_scheduler.StepLR(optimizer, 1)
    assert verify(optimizer).ok
    handle = register_optimizer_step_pre_hook(lambda *args: None)
    try:
        with pytest.raises(ApplyError, match="global pre-step hook"):
            verify(optimizer)
        assert verify(optimizer, allow_hooks=True).ok
    finally:
        handle.remove()
    own = optimizer.step
    optimizer.step = lambda closure=None: own(closure)
    with pytest.raises(ApplyError, match="replaced step"):
        verify(optimizer)
    assert verify(optimizer, allow_hooks=True).ok


def test_hooks_of_torchdecay_that_only_watch_do_not_run():
    """A monitor must not take the probe's steps for the run's."""

    class Watcher:
        def __init__(self):
            self.steps = 0

        def after(self, optimizer, args, kwargs):
            self.steps += 1

    Watcher.after.__module__ = "torchdecay.observe.monitor"
    watcher, model = Watcher(), nn.Linear(9, 7)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(watcher.after)
    assert verify(optimizer).ok
    assert watcher.steps == 0


def test_lbfgs_is_refused_with_the_way_out():
    """Its step evaluates the closure many times, so no single update is there to measure."""
    optimizer = optim.LBFGS(nn.Linear(2, 1).parameters())
    with pytest.raises(ApplyError, match="closure many times") as caught:
        verify(optimizer)
    assert "penalty" in str(caught.value)


def test_a_differentiable_optimizer_is_refused():
    """Its step would put the small tensors into the user's graph."""
    optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1, differentiable=True)
    with pytest.raises(ApplyError, match="differentiable"):
        verify(optimizer)


@pytest.mark.parametrize("given", [None, 3, "AdamW", nn.Linear(2, 1), [], {}], ids=repr)
def test_what_is_no_optimizer_is_refused(given):
    """One clear message, whatever was passed."""
    with pytest.raises(ApplyError):
        verify(given)


def test_an_optimizer_that_makes_its_state_when_it_is_made_is_probed_too():
    """Adagrad's state is not remade by step, so it gets its keys on small zeros."""
    _, optimizer = make("Adagrad", {})
    with Probe(optimizer) as probe:
        rows = two_steps(probe)
    assert moved(probe, rows)


def test_a_step_that_wants_a_closure_gets_one():
    """SAM and its like evaluate the closure in between, and may clear the gradients before."""

    class Sharp(optim.Optimizer):
        def __init__(self, params, lr, weight_decay):
            self.seen = 0
            super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
            self.base = optim.AdamW(self.param_groups, lr=lr, weight_decay=weight_decay)
            self.param_groups = self.base.param_groups

        def step(self, closure):
            self.zero_grad()
            closure()
            self.seen += 1
            self.base.step()

    model = nn.Linear(9, 7)
    optimizer = Sharp(model.parameters(), lr=0.1, weight_decay=0.1)
    checked = verify(optimizer)
    assert checked.ok and checked[0].measured == pytest.approx(0.01, rel=1e-3)
    assert optimizer.seen == 0


def test_what_an_optimizer_keeps_beside_its_state_is_put_back():
    """Counters, lists of tensors, nested dicts, generators and attributes of parameters."""

    class Keeps(optim.SGD):
        def __init__(self, params, **options):
            super().__init__(params, **options)
            self.count, self.log, self.nested = 0, [], {"a": [1, {"b": 2}]}
            self.average = [p.detach().clone() for p in self.param_groups[0]["params"]]
            self.generator = torch.Generator().manual_seed(3)

        def step(self, closure=None):
            self.count += 1
            self.log.append(self.count)
            self.nested["a"][1]["b"] = self.count
            self.new = True
            torch.rand(3, generator=self.generator)
            for average, param in zip(self.average, self.param_groups[0]["params"], strict=True):
                average.mul_(0.9).add_(param.detach(), alpha=0.1)
                param.seen = True
            super().step()

    model = nn.Linear(70, 7)
    optimizer = Keeps(model.parameters(), lr=0.1, weight_decay=0.01)
    averages = [average.clone() for average in optimizer.average]
    state = optimizer.generator.get_state()
    assert verify(optimizer).ok
    assert (optimizer.count, optimizer.log, optimizer.nested) == (0, [], {"a": [1, {"b": 2}]})
    assert not hasattr(optimizer, "new") and not hasattr(model.weight, "seen")
    assert all(torch.equal(a, b) for a, b in zip(optimizer.average, averages, strict=True))
    assert torch.equal(optimizer.generator.get_state(), state)


def test_an_optimizer_inside_another_is_put_back_too():
    """A wrapper's inner optimizer holds state, groups and hooks of its own."""
    model = nn.Linear(9, 7)
    optimizer = Wrapper(model.parameters(), lr=0.1, weight_decay=0.1)
    train(model, optimizer)
    outer, inner = read(optimizer), read(optimizer.inner)
    verify(optimizer)
    assert same(outer, read(optimizer)) == [] and same(inner, read(optimizer.inner)) == []


def test_code_that_replaces_data_is_measured_and_undone():
    """Old optimizers write `p.data = ...`, so that the small tensor is no longer where it was lent."""
    model = nn.Linear(9, 7)
    optimizer = OwnName(model.parameters(), lr=0.1, wd=0.1)
    model(torch.ones(9)).sum().backward()
    before = read(optimizer)
    with Probe(optimizer) as probe:
        rows = two_steps(probe)
    assert moved(probe, rows)
    assert same(before, read(optimizer)) == []


def test_tensor_learning_rates_and_decays_are_left_as_they_were():
    """Compiled steps keep them as 0-d tensors, and they must stay the same objects."""
    model = nn.Linear(9, 7)
    optimizer = optim.Adam(model.parameters(), lr=torch.tensor(0.1), weight_decay=torch.tensor(0.1), foreach=False)
    before = read(optimizer)
    assert verify(optimizer).ok
    assert same(before, read(optimizer)) == []


def test_parameters_of_every_shape_are_lent_something():
    """Scalars, empty ones, 5-D kernels, frozen ones and one in two dtypes' company."""
    shapes = [(), (1,), (0, 3), (100,), (3, 1), (2, 3, 4, 5, 6)]
    params = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    params.append(nn.Parameter(torch.randn(5, 5), requires_grad=False))
    params.append(nn.Parameter(torch.randn(5, 5, dtype=torch.float64)))
    optimizer = optim.AdamW(params, lr=0.1, weight_decay=0.1)
    before = read(optimizer)
    checked = verify(optimizer)
    assert same(before, read(optimizer)) == []
    assert checked.ok, checked[0].why
    assert sum(len(part.names) for part in checked[0].parts) == len(params)


def test_a_parameter_that_is_there_twice_decays_twice():
    """torch only warns."""
    weight = nn.Parameter(torch.randn(5, 5))
    with pytest.warns(UserWarning, match="duplicate"):
        optimizer = optim.SGD([weight, weight], lr=0.1, weight_decay=0.1)
    weight.grad = torch.ones_like(weight)
    before = read(optimizer)
    verify(optimizer)
    assert same(before, read(optimizer)) == []


def test_inference_mode_around_it_changes_nothing():
    """A tensor made in inference mode could not be lent to a parameter that trains."""
    model, optimizer = make("AdamW", {})
    train(model, optimizer)
    before = read(optimizer)
    with torch.inference_mode():
        assert verify(optimizer).ok
    assert same(before, read(optimizer)) == []


def test_no_decay_at_all_is_left_when_the_probe_switches_it_off():
    """That is what candidates are held against: group values, attributes and hooks, in the optimizer and inside it."""
    model = nn.Linear(9, 7)
    handled = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(handled, td.plan(model, td.decoupled(0.5)), model=model)
    for optimizer in (handled, OwnName(model.parameters(), 0.1, 0.5), Lion(model.parameters(), 0.1, 0.5)):
        with Probe(optimizer) as probe:
            nothing = [torch.zeros(probe.size, dtype=torch.float64)]
            ones = torch.ones(probe.size, dtype=torch.float64)
            active = [True] * len(probe.slots)
            on, off = (
                probe.run(ones, nothing, active=active, lrs=[0.1], native=native)[-1] for native in (True, False)
            )
            layout = Segments(probe.slots, probe.size)
        weight = [slot.param is model.weight for slot in probe.slots].index(True)
        assert float(layout.total(off - ones)[weight]) == 0
        assert float(layout.total(on - ones)[weight]) < -0.01
    assert handle_of(handled) is handle


def test_an_unknown_kind_of_tensor_is_refused():
    """Its numbers lie in other tensors, and a small one can't take their place."""

    class Twin(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, requires_grad=True)

        def __init__(self, inner):
            self.inner = inner

        def __tensor_flatten__(self):
            return ["inner"], None

        @staticmethod
        def __tensor_unflatten__(inner, meta, size, stride):
            return Twin(inner["inner"])

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            def plain(value):
                return value.inner if isinstance(value, Twin) else value

            return function(*torch.utils._pytree.tree_map(plain, args), **(kwargs or {}))

    weight = Twin(torch.randn(4, 4))
    with pytest.raises(ApplyError, match="Twin"):
        verify(optim.SGD([weight], lr=0.1))


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone."""
    dist = pytest.importorskip("torch.distributed")
    if not dist.is_available():
        pytest.skip("torch was built without distributed")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.integration
@pytest.mark.parametrize("cls", [optim.AdamW, optim.SGD], ids=lambda cls: cls.__name__)
def test_sharded_parameters_are_measured_and_left_as_they_were(one_process, cls):
    """DTensors, as FSDP2 makes them, with a plan that reads references which are DTensors too."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, init_device_mesh

    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5))
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    assert isinstance(model[0].weight, DTensor)
    optimizer = cls(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.toward("initial", 0.1)), model=model)
    model(torch.randn(3, 20)).sum().backward()
    optimizer.step()
    held = [(param._local_tensor, param._spec, param.grad) for param in model.parameters()]
    values = [param.to_local().detach().clone() for param in model.parameters()]
    checked = verify(optimizer)
    assert checked.ok, checked[0].why
    assert checked[0].measured == pytest.approx(0.01, rel=1e-3)
    for param, (part, spec, grad), value in zip(model.parameters(), held, values, strict=True):
        assert param._local_tensor is part and param._spec is spec and param.grad is grad
        assert torch.equal(part.detach(), value)
    model(torch.randn(3, 20)).sum().backward()
    optimizer.step()


def test_a_copy_of_an_optimizer_with_a_plan_says_that_its_hooks_are_gone():
    """deepcopy drops hooks, and the mark in the groups tells."""
    model = nn.Linear(9, 7)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    assert verify(optimizer).ok
    lost = copy.deepcopy(optimizer)
    checked = verify(lost)
    assert not checked.ok and checked[0].parts[0].fault == "wiring"
    handle.remove()
