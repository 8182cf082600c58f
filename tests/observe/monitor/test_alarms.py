"""Each alarm rings for its fault, seeded into a real training, and for nothing else; and can stop the training."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.observe.monitor.layout import lay_out

LR, WD = 0.01, 0.1


def make_model(width=64, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, width), nn.LayerNorm(width), nn.Tanh(), nn.Linear(width, 4)).to(dtype)


def train(model, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(32, 16, generator=generator).to(next(model.parameters()).dtype)
        y = torch.randint(0, 4, (32,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def kinds(monitor, group="weight"):
    return [(event.step, event.kind) for event in monitor.history.events if group in event.groups]


HEALTHY = {
    "native": (lambda m: optim.AdamW(td.param_groups(m, WD), lr=LR), None),
    "fused": (lambda m: optim.AdamW(td.param_groups(m, WD), lr=LR, fused=True), None),
    "tiny": (lambda m: optim.AdamW(td.param_groups(m, 0.01), lr=1e-5), None),
    "hooked": (lambda m: optim.SGD(m.parameters(), lr=LR, momentum=0.9), td.decoupled(WD)),
    "corrected": (lambda m: optim.AdamW(m.parameters(), lr=LR), td.corrected(WD)),
    "cautious": (lambda m: optim.AdamW(m.parameters(), lr=LR), td.cautious(WD)),
    "l1": (lambda m: optim.SGD(m.parameters(), lr=LR), td.l1(1e-3)),
    "toward": (lambda m: optim.SGD(m.parameters(), lr=LR), td.toward("initial", WD)),
    "scheduled": (
        lambda m: optim.AdamW(m.parameters(), lr=LR),
        td.decoupled(WD, schedule=td.schedules.linear(1.0, 0.1, 60)),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_rings_where_nothing_is_wrong(name, dtype):
    """A false alarm is worse than none: it teaches people to look away."""
    make, decay = HEALTHY[name]
    model = make_model(dtype=dtype)
    optimizer = make(model)
    if decay is not None:
        td.attach(optimizer, td.plan(model, decay), model=model)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    with td.Monitor(optimizer, every_steps=4, model=model, by="tensor") as monitor:
        for step in range(60):
            train(model, optimizer, 1, seed=step)
            scheduler.step()
    assert monitor.history.events == ()


def test_a_checkpoint_that_overrides_weight_decay_rings():
    """load_state_dict takes weight_decay from the file, and says nothing."""
    model = make_model()
    other = optim.AdamW(td.param_groups(model, 0.0), lr=LR)
    optimizer = optim.AdamW(
        [{"params": group["params"], "param_names": group["param_names"]} for group in other.param_groups],
        lr=LR,
        weight_decay=WD,
    )
    with td.Monitor(optimizer, every_steps=5, model=model) as monitor:
        train(model, optimizer, 12)
        state = optimizer.state_dict()
        for group in state["param_groups"]:
            group["weight_decay"] = 0.0
        optimizer.load_state_dict(state)
        train(model, optimizer, 20)
    assert (15, "lost") in kinds(monitor)
    event = next(event for event in monitor.history.events if event.kind == "lost")
    assert "weight_decay=0.0" in event.why and "0.1" in event.why
    assert "td.load_optimizer" in event.fix
    assert [kind for _, kind in kinds(monitor)].count("lost") == 1, "once, when it begins"


@pytest.mark.parametrize("every_steps", [1, 4])
@pytest.mark.parametrize(
    ("begun", "schedule"),
    [
        (WD, lambda step: WD / 2 * (1 + math.cos(math.pi * min(1, step / 10)))),
        (WD, lambda step: max(0.0, WD * (1 - step / 10))),
        (WD, lambda step: WD if step < 10 else WD / 10 if step < 20 else 0.0),
        (WD, lambda step: 0.01 * step),
        (0.0, lambda step: 0.01 * step),
    ],
    ids=["cosine", "linear", "stairs", "rising", "rising from 0"],
)
def test_a_schedule_by_hand_down_to_0_or_up_from_it_is_no_loss(begun, schedule, every_steps):
    """What moves is a schedule, wherever it ends or begins."""
    model = make_model()
    optimizer = optim.AdamW(td.param_groups(model, WD), lr=LR)
    optimizer.param_groups[0]["weight_decay"] = begun
    with td.Monitor(optimizer, every_steps=every_steps, model=model) as monitor:
        for step in range(30):
            optimizer.param_groups[0]["weight_decay"] = schedule(step)
            train(model, optimizer, 1, seed=step)
    assert monitor.history.events == ()


def test_a_decay_that_is_gone_before_the_first_step_rings_once_it_stays_so():
    """Until then it may be a schedule that begins at 0."""
    model = make_model()
    optimizer = optim.AdamW(td.param_groups(model, WD), lr=LR)
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        optimizer.param_groups[0]["weight_decay"] = 0.0
        train(model, optimizer, 6)
    assert [kind for _, kind in kinds(monitor)] == ["lost"]


def test_groups_that_swap_their_decay_ring_on_both_sides():
    """Groups of equal size in another order: what was spared decays, what decayed is spared."""
    model = make_model()
    weights, rest = [p for p in model.parameters() if p.dim() > 1], [p for p in model.parameters() if p.dim() == 1]
    optimizer = optim.AdamW([{"params": weights, "weight_decay": WD}, {"params": rest, "weight_decay": 0.0}], lr=LR)
    with td.Monitor(optimizer, every_steps=5, model=model) as monitor:
        train(model, optimizer, 6)
        optimizer.param_groups[0]["weight_decay"], optimizer.param_groups[1]["weight_decay"] = 0.0, WD
        train(model, optimizer, 6)
    assert (10, "lost") in kinds(monitor)
    assert (10, "differs") in kinds(monitor, "norm")


def test_hooks_that_vanish_ring():
    """The pass is gone while the optimizer goes on: measured, there is nothing."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    handle = td.attach(optimizer, td.plan(model, td.decoupled(WD)), model=model)
    with td.Monitor(optimizer, every_steps=5) as monitor:
        train(model, optimizer, 7)
        for hook in handle._hooks:
            hook.remove()
        train(model, optimizer, 7)
    assert kinds(monitor) == [(10, "lost")]


def test_a_copied_optimizer_rings_at_once():
    """deepcopy drops the hooks of the plan; what they left in the groups says that there was one."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR)
    td.attach(optimizer, td.plan(model, td.decoupled(WD)), model=model)
    copied, model = copy.deepcopy((optimizer, model))
    with td.Monitor(copied, model=model) as monitor:
        train(model, copied, 1)
    (event,) = monitor.history.events
    assert event.kind == "not attached" and event.groups == monitor.history.groups
    assert "deepcopy" in event.why


def test_a_plan_that_is_taken_off_is_no_plan_any_more():
    """What then counts is the groups' own weight_decay; where they wait for their plan, that it is gone is an alarm."""
    model = make_model()
    plan = td.plan(model, td.decoupled(WD))
    for optimizer, expected in (
        (optim.SGD(model.parameters(), lr=LR), []),
        (optim.SGD(plan.param_groups(model), lr=LR), [(10, "lost")]),
    ):
        handle = td.attach(optimizer, plan, model=model)
        with td.Monitor(optimizer, every_steps=5, model=model, by="tensor") as monitor:
            train(model, optimizer, 7)
            handle.remove()
            train(model, optimizer, 7)
        _, planned = monitor.history.curve("0.weight", "planned_shrink")
        assert planned[:2] == pytest.approx([LR * WD] * 2) and not any(planned[2:])
        assert kinds(monitor, "0.weight") == expected


def test_steps_at_learning_rate_zero_are_steps_that_were_taken():
    """They have no record, and it is no other optimizer that trains."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    with td.Monitor(optimizer, model=model) as monitor:
        train(model, optimizer, 3)
    assert monitor.history.events == () and monitor.history.records == ()


def test_a_shrink_between_the_steps_rings():
    """A line of the training loop that multiplies weights, or decay by hand; other changes between steps are none."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    with td.Monitor(optimizer, every_steps=3, model=model, by="tensor") as monitor:
        for step in range(14):
            train(model, optimizer, 1, seed=step)
            with torch.no_grad():
                model[0].weight[0].mul_(0.5)
                model[1].weight.clamp_(max=1.0)
                if step >= 9:
                    model[3].weight.mul_(1 - 1e-4)
    (event,) = monitor.history.events
    assert (event.kind, event.groups, event.step) == ("between steps", ("3.weight",), 12)
    assert "0.0001 " in event.what


class InPlace(optim.Optimizer):
    """An AdamW of another library, as far as low precision goes: it shrinks weights in place."""

    def __init__(self, params, **options):
        super().__init__(params, {"lr": 1e-3, "weight_decay": 0.1, **options})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                if group.get("keeps_state"):
                    self.state[param]["kahan_comp"] = torch.zeros_like(param)
                param.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * param.grad.sign())


@pytest.mark.parametrize(
    ("dtype", "options", "rings"),
    [
        (torch.bfloat16, {}, True),
        (torch.float32, {}, False),
        (torch.bfloat16, {"weight_decay": 10.0}, False),
        (torch.bfloat16, {"weight_decay": 0.0}, False),
        (torch.bfloat16, {"keeps_state": True}, False),
        (torch.bfloat16, {"bf16_stochastic_round": True}, False),
        (torch.bfloat16, {"bf16_stochastic_round": False}, True),
    ],
    ids=str,
)
def test_an_unknown_optimizer_whose_decay_low_precision_rounds_away_rings(dtype, options, rings):
    """Nobody knows what its weight_decay does, but in bf16 no shrink this small arrives, unless it keeps the rest."""
    model = make_model(dtype=dtype)
    optimizer = InPlace(model.parameters(), **options)
    with td.Monitor(optimizer, every_steps=5, model=model) as monitor:
        train(model, optimizer, 12)
    assert ([event.kind for event in monitor.history.events] == ["rounded away"]) is rings


@pytest.mark.parametrize("size", [1e25, 1e-30])
def test_weights_that_are_very_large_or_small_are_finite(size):
    """In float32 their squares are neither finite nor above 0."""
    weight = nn.Parameter(torch.full((64, 64), size))
    optimizer = optim.SGD([weight], lr=0.01, weight_decay=0.1)
    with td.Monitor(optimizer, every_steps=1) as monitor:
        for _ in range(3):
            weight.grad = torch.zeros_like(weight)
            optimizer.step()
    (group,) = monitor.history.groups
    assert [event.kind for event in monitor.history.events] == ["dominates"]
    assert monitor.history.curve(group, "weight_norm")[1][0] == pytest.approx(64 * size, rel=1e-2)


@pytest.mark.parametrize("value", [-0.1, "0.1", True, float("nan"), None], ids=str)
def test_a_weight_decay_that_is_no_number_is_called_by_its_name(value):
    """Weights that it stands for are not spared: what inspect, audit and forecast refuse, the monitor shows."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=LR, weight_decay=0.0)
    optimizer.param_groups[0]["weight_decay"] = value
    layout = lay_out(optimizer, None, plan=None, model=model, by="role", prefix="")
    assert {one.decay for one in layout.series} == {f"weight_decay={value!r}"}
    assert td.inspect(optimizer)[0].problem
    with pytest.raises(td.UnitError, match="weight_decay is"):
        td.forecast(optimizer, run=td.Run(steps=10))
    assert "WD301" in td.audit(optimizer, model=model).codes


def test_one_cause_is_one_alarm():
    """Of twenty tensors that lose their decay at once: one call, one entry, a few lines that name some of them."""
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(20)))
    optimizer = optim.SGD(td.param_groups(model, WD), lr=LR)
    told = []
    with td.Monitor(optimizer, every_steps=2, by="tensor", on_alarm=told.append) as monitor:
        for step in range(4):
            optimizer.param_groups[0]["weight_decay"] = WD if step < 2 else 0.0
            for param in model.parameters():
                param.grad = torch.ones_like(param)
            optimizer.step()
    (event,) = told
    assert monitor.history.events == (event,)
    assert event.groups == tuple(f"{i}.weight" for i in range(20)) and event.step == 4
    assert "0.weight, 1.weight, 2.weight and 17 more" in str(event)
    assert len(str(monitor.history).splitlines()) < 20 + 20 + 8
    assert "And 28 more alarms" in str(td.History(events=(event,) * 40))


def test_a_copy_that_trains_in_the_originals_place_rings_at_the_end():
    """The original, which is monitored, never steps."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=LR)
    with td.Monitor(optimizer, model=model) as monitor:
        copied, copied_model = copy.deepcopy((optimizer, model))
        train(copied_model, copied, 3)
    (event,) = monitor.history.events
    assert event.kind == "no steps" and "a copy of it" in event.why


def test_an_optimizer_of_weights_that_the_model_has_no_more_rings():
    """As after fully_shard: it steps, and nothing trains. With a gradient on one of them it does not."""
    model = make_model()
    optimizer = optim.AdamW(td.param_groups(model, 0.1), lr=LR)
    with td.Monitor(optimizer) as monitor:
        train(make_model(), optimizer, 3)
    assert [event.kind for event in monitor.history.events] == ["no gradients"]
    assert "Shard the model first" in monitor.history.events[0].fix
    with td.Monitor(optimizer) as monitor:
        model[0].weight.grad = torch.ones_like(model[0].weight)
        optimizer.step()
    assert not monitor.history.events


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "foreach"])
def test_decay_that_bf16_rounds_away_rings(fused):
    """lr·wd = 1e-4 is far below what a bf16 weight can lose in one step."""
    model = make_model(256, torch.bfloat16)
    optimizer = optim.AdamW(td.param_groups(model, WD), lr=1e-3, fused=fused, foreach=not fused)
    with td.Monitor(optimizer, every_steps=5) as monitor:
        train(model, optimizer, 10)
    assert kinds(monitor)[0][1] == "rounded away"
    assert "bfloat16" in next(event for event in monitor.history.events if "weight" in event.groups).why

    model = make_model(256, torch.bfloat16)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    td.attach(optimizer, td.plan(model, td.decoupled(WD)), model=model)
    with td.Monitor(optimizer, every_steps=5) as monitor:
        train(model, optimizer, 10)
    assert kinds(monitor) == [], "attached, it is paid"


@pytest.mark.parametrize(("wd", "says"), [(20.0, "within 5 steps"), (150.0, "changes its sign")])
def test_a_decay_that_is_far_too_strong_rings(wd, says):
    """lr·wd = 0.2, and 1.5."""
    model = make_model()
    optimizer = optim.AdamW(td.param_groups(model, wd), lr=LR)
    with td.Monitor(optimizer) as monitor:
        train(model, optimizer, 1)
    (event,) = [event for event in monitor.history.events if "weight" in event.groups]
    assert event.kind == "dominates" and says in event.why


def test_decay_that_outweighs_the_update_rings_once_it_lasts():
    """A single record may be chance; three are not."""
    model = make_model()
    optimizer = optim.SGD(td.param_groups(model, 1.0), lr=LR)
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        for _ in range(6):
            for param in model.parameters():
                param.grad = torch.full_like(param, 1e-4)
            optimizer.step()
    assert kinds(monitor) == [(3, "dominates")]


@pytest.mark.parametrize(("exponent", "rings"), [(2.0, True), (1.0, True), (0.5, False), (0.0, False)])
def test_a_norm_that_grows_without_bound_rings(exponent, rings):
    """As fast as a straight line, from zero too; a random walk and what levels off are no alarm."""
    param = nn.Parameter(torch.zeros(8))
    optimizer = optim.SGD([param], lr=1.0)
    with td.Monitor(optimizer, every_steps=25) as monitor:
        for step in range(1, 700):
            param.grad = torch.full_like(param, -(step**exponent - (step - 1) ** exponent))
            optimizer.step()
    assert ([event.kind for event in monitor.history.events] == ["grows"]) is rings


def test_weights_that_are_not_finite_ring():
    """And no other alarm beside it: nothing else can be said of them."""
    param = nn.Parameter(torch.ones(8))
    optimizer = optim.AdamW([param], lr=LR)
    with td.Monitor(optimizer, every_steps=1) as monitor:
        for value in (1.0, float("nan"), 1.0):
            param.grad = torch.full_like(param, value)
            optimizer.step()
    assert [(event.step, event.kind) for event in monitor.history.events] == [(3, "not finite")]


def test_an_alarm_may_stop_the_training():
    """on_alarm is called from within the step, after the record and the alarm were kept."""
    model = make_model()
    optimizer = optim.AdamW(td.param_groups(model, 20.0), lr=LR)

    def stop(event):
        raise RuntimeError(event.kind)

    with td.Monitor(optimizer, on_alarm=stop) as monitor, pytest.raises(RuntimeError, match="dominates"):
        train(model, optimizer, 5)
    assert monitor.history.steps == (1,) and len(monitor.history.events) == 1
    assert not optimizer._optimizer_step_pre_hooks


class PutsBack(optim.Optimizer):
    """Goes on from where its last step ended, whatever became of the weights since."""

    def __init__(self, params, **options):
        super().__init__(params, {"lr": 0.01, "weight_decay": 0.0, **options})
        self.kept = [param.detach().clone() for param in params]

    @torch.no_grad()
    def step(self, closure=None):
        params = [param for group in self.param_groups for param in group["params"]]
        for param, before in zip(params, self.kept, strict=True):
            param.copy_(before)
            param.sub_(param.grad, alpha=self.param_groups[0]["lr"])
        self.kept = [param.clone() for param in params]


@pytest.mark.parametrize(("dtype", "coefficient"), [(torch.float32, WD), (torch.bfloat16, 2.0)])
def test_a_step_that_undoes_what_a_pass_took_rings(dtype, coefficient):
    """The pass is measured around itself; copies that step with it and without it end in the same place."""
    model = make_model(dtype=dtype)
    optimizer = PutsBack(list(model.parameters()))
    td.attach(optimizer, td.plan(model, td.decoupled(coefficient)), model=model)
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        train(model, optimizer, 2)
    events = [event for event in monitor.history.events if event.kind == "lost"]
    assert [(event.step, event.groups) for event in events] == [(1, ("weight",))]
    assert "100% of that was put back" in events[0].what


def test_a_projection_after_the_step_rings():
    """A hook of the user's that sets every norm anew leaves nothing of a decay."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    td.attach(optimizer, td.plan(model, td.decoupled(10.0)), model=model)
    norms = {param: param.detach().norm() for param in model.parameters() if param.dim() == 2}

    @torch.no_grad()
    def project(*arguments):
        for param, norm in norms.items():
            param.mul_(norm / param.norm())

    optimizer.register_step_post_hook(project)
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        train(model, optimizer, 2)
    assert (1, "lost") in kinds(monitor)


@pytest.mark.parametrize(
    ("kind", "options", "decay"),
    [
        (optim.AdamW, {"lr": 1e-2}, td.l1(0.2)),
        (optim.SGD, {"lr": 0.3, "momentum": 0.9}, td.cautious(0.1)),
        (optim.AdamW, {"lr": 1e-2}, td.native(0.2)),
        (optim.SGD, {"lr": 0.3, "momentum": 0.9}, td.native(0.02)),
        (optim.Adam, {"lr": 1e-2}, td.coupled(0.2)),
        (optim.AdamW, {"lr": 1e-2}, td.decoupled(0.2)),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
@pytest.mark.parametrize("does", ["projects", "restores", "nothing"])
def test_a_hook_that_comes_after_the_step_is_held_against_what_the_step_was_to_leave(kind, options, decay, does):
    """At whatever site decay acts, by a pass or lowered; updates are much larger than the decay."""
    model = make_model()
    optimizer = kind(model.parameters(), **options)
    weights = [param for param in model.parameters() if param.dim() == 2]
    before = {}

    def remember(*arguments):
        before.update((param, param.detach().clone()) for param in weights)

    @torch.no_grad()
    def back(*arguments):
        for param in weights:
            if does == "projects":
                param.mul_(before[param].norm() / param.norm())
            elif does == "restores":
                param.copy_(before[param])

    optimizer.register_step_pre_hook(remember)
    td.attach(optimizer, td.plan(model, decay), model=model)
    optimizer.register_step_post_hook(back)
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        train(model, optimizer, 4)
    lost = [event for event in monitor.history.events if event.kind == "lost"]
    assert bool(lost) == (does != "nothing"), monitor.history.events
    assert all(event.groups == ("weight",) for event in lost)


class Lookahead(optim.SGD):
    """Every so many steps weights go back a part of the way to slow ones."""

    def __init__(self, params, *, k, alpha, **options):
        super().__init__(params, **options)
        self.k, self.alpha, self.taken = k, alpha, 0

    @torch.no_grad()
    def step(self, closure=None):
        for param in (param for group in self.param_groups for param in group["params"]):
            self.state[param].setdefault("slow", param.detach().clone())
        super().step(closure)
        self.taken += 1
        if self.taken % self.k == 0:
            for param in (param for group in self.param_groups for param in group["params"]):
                slow = self.state[param]["slow"]
                param.copy_(slow.lerp_(param, self.alpha))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.7, 1.0])
def test_slow_weights_that_come_back_some_steps_later_ring(alpha):
    """By the part of each step that they leave."""
    model = make_model()
    optimizer = Lookahead(model.parameters(), k=3, alpha=alpha, lr=0.1)
    td.attach(optimizer, td.plan(model, td.decoupled(0.1)), model=model)
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        train(model, optimizer, 7)
    lost = [event for event in monitor.history.events if event.kind == "lost"]
    assert [event.step for event in lost] == ([] if alpha == 1.0 else [3, 6])
    assert all(f"{1 - alpha:.0%} of that was put back" in event.what for event in lost)


def test_norms_that_are_clipped_between_the_steps_ring_and_have_a_column():
    """No part of every weight, but much of some rows; what small things move stands in the column alone."""
    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    with td.Monitor(optimizer, every_steps=1, model=model, by="tensor") as monitor:
        for step in range(3):
            train(model, optimizer, 1, seed=step)
            with torch.no_grad():
                model[0].weight.copy_(torch.renorm(model[0].weight, 2, 0, 0.4))
                model[3].weight[0, 0] *= 0.9
    assert ("between steps", ("0.weight",)) in [(event.kind, event.groups) for event in monitor.history.events]
    (_, took), (_, little) = (monitor.history.curve(name, "between_shrink") for name in ("0.weight", "3.weight"))
    assert took[0] > 0.1 and 0 < little[0] < 1e-2
