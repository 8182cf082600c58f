"""Accelerate and timm need no module of their own: `td.attach`, `Monitor` and `param_groups` fit what they make."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td

pytestmark = pytest.mark.peers
DECAY = td.decoupled(0.5).replace(schedule=td.schedules.linear(1.0, 0.0, 8))


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))


def weights(model):
    return torch.cat([param.detach().flatten() for param in model.parameters()])


@pytest.mark.parametrize("decay", [DECAY, td.toward("initial", 0.5)])
@pytest.mark.parametrize("order", ["attach, register, load", "register, load, attach"])
def test_accelerate_resumes_in_any_order(decay, order, tmp_path):
    """The plan on the prepared optimizer; references travel with the optimizer's state, whoever loads first."""
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerator = accelerate.Accelerator(cpu=True)

    def begin(seed=0):
        torch.manual_seed(seed)
        model = nn.Linear(4, 2)
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        return accelerator.prepare(model, optimizer)

    def attach(model, optimizer, bind=None):
        return td.attach(optimizer, decay, model=model, save_references=True, bind=bind)

    def train(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            accelerator.backward(model(torch.ones(3, 4)).square().mean())
            optimizer.step()

    class Counter:
        def state_dict(self):
            return {"seen": 3}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    model, optimizer = begin()
    first = attach(model, optimizer).state_dict()
    counter = Counter()
    accelerator.register_for_checkpointing(counter)
    with td.Monitor(optimizer, model=model, every_steps=1) as monitor:
        train(model, optimizer)
    assert len(monitor.history.records) == 3 and not monitor.history.events
    accelerator.save_state(str(tmp_path / "a"))
    train(model, optimizer)
    accelerator.free_memory()
    accelerator._custom_objects.clear()
    again, other = begin(seed=5)
    for done in order.split(", "):
        if done == "attach":
            handle = attach(again, other, bind={"initial": first} if order.endswith("attach") and first else None)
        elif done == "register":
            accelerator.register_for_checkpointing(counter)
        else:
            accelerator.load_state(str(tmp_path / "a"))
    train(again, other)
    assert torch.equal(weights(model), weights(again)) and handle.steps(0) == 6
    with pytest.raises(td.ApplyError, match="attached to this optimizer already"):
        attach(again, other)


def test_timm_builds_its_optimizer_from_the_groups_of_a_plan():
    """By whichever of its names, and the decay is native or attached to what it returns, Lookahead included."""
    timm_optim = pytest.importorskip("timm.optim", reason="timm is not installed")
    model = small()
    plan = td.plan(model, 0.05)
    made = timm_optim.create_optimizer_v2(model, "adamw", lr=0.1, weight_decay=0.3, param_group_fn=plan.param_groups)
    assert [group["weight_decay"] for group in made.param_groups] == [0.05, 0.0]
    plan = td.plan(model, td.cautious(0.05))
    for name in ("adamw", "lookahead_adamw", "sgd", "lamb"):
        made = timm_optim.create_optimizer_v2(model, name, lr=0.1, param_group_fn=plan.param_groups)
        handle = td.attach(made, plan, model=model)
        assert {row.name for row in handle.lowering if row.decay} == {"0.weight", "2.weight"}
        handle.remove()


def test_layer_rates_of_timm_are_kept():
    """Its groups are split by the plan, and keep the scales of their layers."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    from timm.optim import create_optimizer_v2
    from timm.optim._param_groups import param_groups_layer_decay

    model = timm.create_model("vit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=2, img_size=32)
    plan = td.plan(model, 0.05)
    groups = plan.param_groups(model, keep=param_groups_layer_decay(model, layer_decay=0.5))
    optimizer = create_optimizer_v2(groups, "adamw", lr=0.1)
    assert len({group["lr_scale"] for group in optimizer.param_groups}) > 2
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.05, 0.0}


def test_native_scaler_steps_once():
    """timm's scaler steps the optimizer as any does, and its scheduler's rate is the one that decay goes by."""
    pytest.importorskip("timm", reason="timm is not installed")
    from timm.scheduler import CosineLRScheduler
    from timm.utils import NativeScaler

    model = small()
    optimizer = optim.AdamW(td.param_groups(model, 0.1), lr=0.1)
    schedule = CosineLRScheduler(optimizer, t_initial=10, warmup_t=2, warmup_lr_init=0.01, t_in_epochs=False)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    scaler, planned = NativeScaler(device="cpu"), []
    with td.Monitor(optimizer, every_steps=1) as monitor:
        for step in range(10):
            schedule.step_update(step)
            planned.append(0.1 * optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            scaler(model(torch.ones(3, 4)).square().mean(), optimizer, clip_grad=1.0, parameters=model.parameters())
    assert handle.steps(0) == 10
    assert monitor.history.curve("weight", "realized_shrink")[1] == pytest.approx(planned, rel=1e-3)


def test_a_run_takes_timms_scheduler():
    """Its own way of stepping is read, and the forecast is what the training does."""
    pytest.importorskip("timm", reason="timm is not installed")
    from timm.scheduler import CosineLRScheduler

    optimizer = optim.AdamW(td.param_groups(small(), 0.1), lr=0.1)
    schedule = CosineLRScheduler(optimizer, t_initial=10, warmup_t=2, warmup_lr_init=0.01, t_in_epochs=False)
    forecast = td.forecast(optimizer, run=td.Run(steps=10, lr_schedule=schedule))
    left = 1.0
    for step in range(10):
        schedule.step_update(step)
        left *= 1 - 0.1 * optimizer.param_groups[0]["lr"]
    assert forecast.groups[0].total_shrink == pytest.approx(1 - left)
