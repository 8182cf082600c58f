"""What must be so on a GPU: `make gpu` runs this there, on a CPU it runs with every test, as far as it means something.

TORCHDECAY_GPU_DEVICE says which device.
"""

from __future__ import annotations

import contextlib
import os

import pytest
import torch
from torch import nn, optim
from torch.overrides import TorchFunctionMode

import torchdecay as td
from this_torch import Muon
from torchdecay.lab.training.train import batches_of

DEVICE = os.environ.get("TORCHDECAY_GPU_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
on_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU: make gpu")
WD = 0.1
MODES = {"fused": {"fused": True}, "foreach": {"foreach": True}, "capturable": {"capturable": True, "foreach": True}}
CLASSES = {"AdamW": optim.AdamW, "Adam": optim.Adam, "SGD": optim.SGD, "Muon": Muon}
NATIVE = [
    (name, mode)
    for name in CLASSES
    for mode in MODES
    if not (name == "SGD" and mode == "capturable")
    and not (name == "Muon" and mode != "foreach")
    and not (DEVICE == "cpu" and mode == "capturable")
]
# What these do in a step needs no number back from the device; adaptive and by_spectrum ask for theirs.
FREE_OF_SYNC = {
    "decoupled": td.decoupled(WD),
    "coupled": td.coupled(WD),
    "cautious": td.cautious(WD),
    "l1": td.l1(0.01),
    "huber": td.forms.huber(WD),
    "toward": td.toward("initial", WD),
    "norm_control": td.forms.norm_control(WD),
    "constrained": td.forms.constrained(kappa_initial=0.5),
    "constrained huber": td.forms.constrained(kappa_initial=0.5).replace(regularizer=td.forms.huber(WD).regularizer),
    "projected": td.forms.projected("initial", WD),
    "hyperball": td.forms.hyperball(),
}


def model_of(width=64, *, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)).to(DEVICE, dtype)


def gradients(model, step):
    """Given ones, so that nothing but the optimizer and the decay computes; drawn on the CPU."""
    generator = torch.Generator().manual_seed(step)
    for param in model.parameters():
        drawn = torch.randn(param.shape, generator=generator)
        param.grad = drawn.to(param.device, param.dtype)


def weights(model):
    return torch.cat([param.detach().flatten() for param in model.parameters()])


def plan_of(model, decay):
    return td.plan(model, decay, rules=td.STANDARD if decay.update is not None else ())


def trained(model, optimizer, steps=5):
    for step in range(steps):
        gradients(model, step)
        optimizer.step()
    return weights(model)


@pytest.mark.parametrize(("name", "mode"), NATIVE)
def test_by_hook_is_the_optimizers_own_to_the_bit(name, mode):
    """Through fused, foreach and capturable kernels alike."""
    found = []
    for via in ("auto", "hook"):
        model = model_of()
        params = [p for p in model.parameters() if p.ndim == 2] if name == "Muon" else list(model.parameters())
        named = [(n, p) for n, p in model.named_parameters() if any(p is one for one in params)]
        options = {} if name == "Muon" else MODES[mode] | ({"momentum": 0.9} if name == "SGD" else {})
        optimizer = CLASSES[name](named, lr=0.01, weight_decay=0.0, **options)
        handle = td.attach(optimizer, td.plan(model, td.native(WD), rules=()), via=via)
        assert {row.route for row in handle.lowering.rows} == {"native" if via == "auto" else "hook"}
        found.append(trained(model, optimizer))
    assert torch.equal(*found)


@on_gpu
@pytest.mark.parametrize("decay", [td.decoupled(WD), td.cautious(WD)], ids=repr)
def test_a_captured_step_is_the_step(decay):
    """One that is captured with its hooks decays at each replay as the step outside does."""
    found = []
    for captured in (False, True):
        model = model_of()
        optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0, capturable=True, foreach=True)
        td.attach(optimizer, plan_of(model, decay), model=model, via="hook")
        gradients(model, 0)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                optimizer.step()
        torch.cuda.current_stream().wait_stream(side)
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step()
            for _ in range(5):
                graph.replay()
        else:
            for _ in range(5):
                optimizer.step()
        found.append(weights(model))
    assert torch.equal(*found)


@on_gpu
def test_captured_gradients_and_changed_coefficients():
    """Forward and backward captured, the step outside: a schedule and an update of the plan are seen."""
    found = []
    for captured in (False, True):
        model, x = model_of(), torch.ones(8, 64, device=DEVICE)
        optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0, capturable=True)
        ramp = td.decoupled(WD, schedule=td.schedules.linear(1.0, 0.0, 6))
        handle = td.attach(optimizer, plan_of(model, ramp), model=model)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            model(x).square().mean().backward()
        torch.cuda.current_stream().wait_stream(side)
        optimizer.zero_grad(set_to_none=False)
        graph = torch.cuda.CUDAGraph()
        if captured:
            with torch.cuda.graph(graph):
                model(x).square().mean().backward()
        for step in range(6):
            if step == 3:
                handle.update(plan_of(model, td.decoupled(3 * WD)))
            optimizer.zero_grad(set_to_none=False)
            if captured:
                graph.replay()
            else:
                model(x).square().mean().backward()
            optimizer.step()
        found.append(weights(model))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)


@on_gpu
def test_a_scheduled_step_can_not_be_captured():
    """The graph would repeat one coefficient for ever."""
    model = model_of()
    optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0, capturable=True)
    td.attach(optimizer, plan_of(model, td.decoupled(WD, schedule=td.schedules.linear(1.0, 0.0, 6))), model=model)
    gradients(model, 0)
    optimizer.step()
    with pytest.raises(td.ApplyError, match="inside a CUDA graph"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()


class NothingIsSent(TorchFunctionMode):
    """A CPU waits for nobody; but numbers that are sent to a device in a step are seen there too."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func is not torch.tensor or "device" not in (kwargs or {}), "the host would wait for the device"
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def no_sync():
    """Where the host waits for the device, an error."""
    if DEVICE == "cpu":
        with NothingIsSent():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", FREE_OF_SYNC)
def test_a_step_does_not_wait_for_the_device(name):
    """Between the monitor's records, with given gradients."""
    model = model_of()
    optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0, fused=True)
    td.attach(optimizer, plan_of(model, FREE_OF_SYNC[name]), model=model)
    with td.Monitor(optimizer, every_steps=100, model=model):
        trained(model, optimizer, 2)
        gradients(model, 2)
        before = weights(model)
        with no_sync():
            for _ in range(3):
                optimizer.step()
    assert not torch.equal(before, weights(model)) and bool(weights(model).isfinite().all())


def test_batches_are_the_same_rows_on_every_device():
    """Drawn on the CPU, taken where the rows are."""
    x = torch.arange(20.0)
    found = []
    for device in (DEVICE, "cpu"):
        batches = batches_of((x.to(device), x.to(device)), 8, torch.Generator().manual_seed(0))
        found.append([next(batches)[0].cpu() for _ in range(5)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("decay", [td.decoupled(0.01), td.l1(0.001), td.forms.huber(0.01)], ids=repr)
def test_low_precision_weights_pay_the_same_bits_as_on_a_cpu(decay):
    """By counters in integers; the weights move by their decay alone."""
    found = []
    for device in (DEVICE, "cpu"):
        torch.manual_seed(0)
        model = nn.Linear(64, 64).bfloat16().to(device)
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        handle = td.attach(optimizer, plan_of(model, decay), model=model, via="hook")
        start = weights(model).cpu()
        for param in model.parameters():
            param.grad = torch.zeros_like(param)
        for _ in range(40):
            optimizer.step()
        found.append((weights(model).cpu(), handle.debts))
        assert not torch.equal(start, found[-1][0]), "nothing was paid"
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]


@pytest.mark.parametrize("decay", [td.coupled(WD), td.cautious(WD)], ids=repr)
@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_changes_nothing(decay, fused):
    """A scale of 2¹⁶ is exact; a step that it skips does not count."""
    found = []
    for scaled in (False, True):
        model, x = model_of(), torch.ones(8, 64, device=DEVICE)
        optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0, fused=fused)
        handle = td.attach(optimizer, plan_of(model, decay), model=model, via="hook")
        scaler = torch.amp.GradScaler(DEVICE, enabled=scaled)
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(model(x + step).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert handle.steps(0) == 4
        if scaled:
            before = weights(model)
            next(model.parameters()).grad.fill_(torch.inf)
            scaler.scale(torch.ones((), device=DEVICE))
            scaler.step(optimizer)
            scaler.update()
            assert torch.equal(before, weights(model)) and handle.steps(0) == 4
        found.append(weights(model))
    # A kernel that divides by the scale itself rounds once more.
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)


@pytest.mark.skipif(DEVICE == "cpu" and "TORCHDECAY_GPU_DEVICE" not in os.environ, reason="needs a GPU: make gpu")
@pytest.mark.parametrize("decay", [td.cautious(WD), td.l1(0.01), td.forms.huber(WD)], ids=repr)
def test_a_compiled_pass_is_one_kernel(decay):
    """Which reads and writes each stream once; and gives the numbers of the pass that is not compiled."""
    from torch._inductor.utils import run_and_get_code

    found = []
    for compiled in (False, True):
        torch.compiler.reset()
        model = nn.Linear(512, 512, bias=False).to(DEVICE)
        with torch.no_grad():
            model.weight.copy_(torch.linspace(-1, 1, 512 * 512).view(512, 512))
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        td.attach(optimizer, plan_of(model, decay), model=model, via="hook", compile=compiled)
        # What comes from a cache generates none.
        with torch._inductor.config.patch(force_disable_caches=True):
            made, code = run_and_get_code(trained, model, optimizer, 2)
        found.append(made)
    # One for each way to be called. Soft thresholding without a reference is one operation of torch already.
    assert bool(code) == (decay != td.l1(0.01))
    assert all(text.count("@triton.jit") + text.count('extern "C"') == 1 for text in code)
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)
