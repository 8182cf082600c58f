"""Coefficient schedules count steps really taken, beside every learning rate scheduler, compiled or not."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

import torchdecay as td
from torchdecay.apply.program import GroupProgram

RAMP = td.schedules.cosine(1.0, 0.1, 8)
SCHEDULERS = {
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, total_iters=3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=3, cycle_momentum=False),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=12),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, total_iters=3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, total_iters=2), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[2]
    ),
}
FORMS = {
    "decoupled": lambda: td.decoupled(0.3, schedule=RAMP),
    "coupled": lambda: td.coupled(0.3, schedule=RAMP),
    "independent": lambda: td.independent(0.03, max_lr=0.1, schedule=RAMP),
}


def model_of():
    torch.manual_seed(0)
    return nn.Linear(4, 3).double()


def train(model, optimizer, scheduler=None, steps=range(9), before=lambda step: None):
    for step in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)).double()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        before(step)
        optimizer.step()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(1.0)
        elif scheduler is not None:
            scheduler.step()
    return [param.detach().clone() for param in model.parameters()]


def by_hand(form, optimizer, model):
    """The multiplier of each step written out, without any hook of torchdecay's."""

    def pull(step):
        lr, factor = optimizer.param_groups[0]["lr"], RAMP(step)
        for param in model.parameters():
            if form == "coupled":
                param.grad.add_(param.detach(), alpha=0.3 * factor)
            else:
                param.data.mul_(1 - (lr * 0.3 if form == "decoupled" else lr / 0.1 * 0.03) * factor)

    return pull


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_coefficient_schedule_runs_beside_every_lr_scheduler(name, form):
    """One counts steps, the other sets learning rates, and neither disturbs the other."""
    model = model_of()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = SCHEDULERS[name](optimizer)
    expected = train(model, optimizer, scheduler, before=by_hand(form, optimizer, model))
    model = model_of()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    td.attach(optimizer, td.plan(model, FORMS[form](), rules=()), model=model)
    found = train(model, optimizer, SCHEDULERS[name](optimizer))
    # c·λ·s(t) is multiplied in another order.
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)


def test_every_scheduler_of_torch_is_in_this_law():
    """A scheduler that a later torch adds must be added here."""
    known = {
        name
        for name, cls in vars(lr_scheduler).items()
        if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler) and not name.startswith("_")
    }
    assert known - {"LRScheduler"} == set(SCHEDULERS)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_gradient_scaler_skips_do_not_count(fused):
    """An overflow costs a step of training, and none of the schedule."""

    def run(overflows):
        model = model_of().float()
        optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0, fused=fused)
        decay = td.decoupled(0.3, schedule=RAMP)
        handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
        # Powers of two, by which scaling and unscaling change no bit.
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
        taken = iter(range(5))
        for overflow in overflows:
            x = torch.ones(2, 4) if overflow else torch.full((2, 4), 1.0 + next(taken))
            optimizer.zero_grad()
            scaler.scale(model(x).square().mean() * (float("inf") if overflow else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
        return model.weight.detach().clone(), handle.steps(0)

    plain, skipped = run([False] * 5), run([False, True, False, False, True, True, False, False])
    assert plain[1] == skipped[1] == 5
    assert torch.equal(plain[0], skipped[0])


def test_accumulation_counts_steps_and_not_backward_passes():
    """Four micro-batches and one step are one step of the schedule."""

    def run(parts):
        model = model_of()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        td.attach(optimizer, td.plan(model, td.coupled(0.3, schedule=RAMP), rules=()), model=model)
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double()
        for _ in range(5):
            optimizer.zero_grad()
            for part in x.chunk(parts):
                (model(part).square().sum() / 8).backward()
            optimizer.step()
        return model.weight.detach().clone()

    # The same sums in another order.
    torch.testing.assert_close(run(4), run(1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("cls", "form"), [(optim.Adam, td.coupled), (optim.AdamW, td.decoupled)])
class TestTensors:
    """Where a group's learning rate is a tensor, a coefficient that changes is one too."""

    @staticmethod
    def job(cls, form):
        model = model_of().float()
        optimizer = cls(model.parameters(), lr=torch.tensor(0.1), weight_decay=0.07)
        handle = td.attach(optimizer, td.plan(model, form(0.3, schedule=RAMP), rules=()), model=model)
        return model, optimizer, handle

    @staticmethod
    def steps(model, optimizer, numbers, step=None):
        for number in numbers:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            (step or optimizer.step)()
        return model.weight.detach().clone()

    @pytest.mark.long
    def test_a_compiled_step_is_compiled_once(self, cls, form, monkeypatch):
        """And with the coefficient written as a number it is compiled again: the seeded fault."""

        def graphs():
            torch._dynamo.reset()
            model, optimizer, _ = self.job(cls, form)
            step = torch.compile(lambda: optimizer.step(), backend="eager")
            self.steps(model, optimizer, range(1), step)
            torch._dynamo.utils.counters.clear()
            found = self.steps(model, optimizer, range(1, 5), step)
            made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
            torch._dynamo.reset()
            return made, found

        def write(program, value):
            program.group["weight_decay"] = program.written = value

        once, found = graphs()
        # Compiled steps round elsewhere.
        torch.testing.assert_close(found, self.steps(*self.job(cls, form)[:2], range(5)), rtol=1e-4, atol=1e-5)
        monkeypatch.setattr(GroupProgram, "write", write)
        assert once == 0 < graphs()[0]

    def test_a_tensor_is_the_number(self, cls, form):
        """In float32 as it is used: the same weights as with weight_decay written as a number each step."""
        model, optimizer, _ = self.job(cls, form)
        found = self.steps(model, optimizer, range(6))
        reference = model_of().float()
        plain = cls(reference.parameters(), lr=torch.tensor(0.1), weight_decay=0.0)
        for number in range(6):
            plain.param_groups[0]["weight_decay"] = 0.3 * RAMP(number)
            expected = self.steps(reference, plain, [number])
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
        assert not torch.equal(found, self.steps(reference, plain, [6]))

    def test_the_state_dict_holds_a_number_and_resumes_bit_for_bit(self, cls, form):
        """The tensor is filled anew later, and a checkpoint that held it would change."""
        expected = self.steps(*self.job(cls, form)[:2], range(6))
        model, optimizer, _ = self.job(cls, form)
        self.steps(model, optimizer, range(3))
        saved = optimizer.state_dict()
        assert isinstance(saved["param_groups"][0]["weight_decay"], float)
        assert isinstance(optimizer.param_groups[0]["weight_decay"], torch.Tensor)
        fresh, again, handle = self.job(cls, form)
        fresh.load_state_dict(model.state_dict())
        again.load_state_dict(saved)
        assert torch.equal(self.steps(fresh, again, range(3, 6)), expected)
        handle.remove()
        assert again.param_groups[0]["weight_decay"] == 0.07
