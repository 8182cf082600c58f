"""Rules for the update: what they hold to, on real optimizers; what they refuse, and what they leave alone."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn, optim

import torchdecay as td

OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.05, momentum=0.9),
    "adamw": lambda params: optim.AdamW(params, lr=0.05, weight_decay=0.3),
    "adafactor": lambda params: optim.Adafactor(params, lr=0.05),
    "asgd": lambda params: optim.ASGD(params, lr=0.05),
}
if hasattr(optim, "Muon"):
    OPTIMIZERS["muon"] = lambda params: optim.Muon(params, lr=0.05)


class Bag(nn.Module):
    def __init__(self, *shape: int, dtype: torch.dtype = torch.float32, fill: float | None = None) -> None:
        super().__init__()
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter((drawn if fill is None else torch.full(shape, fill)).to(dtype))


def gradient(model: Bag, step: int) -> None:
    drawn = torch.randn(model.weight.shape, generator=torch.Generator().manual_seed(1 + step))
    model.weight.grad = drawn.to(model.weight.dtype)


def train(model: Bag, optimizer: optim.Optimizer, steps: int) -> list[torch.Tensor]:
    seen = [model.weight.detach().clone()]
    for step in range(steps):
        gradient(model, step)
        optimizer.step()
        seen.append(model.weight.detach().clone())
    return seen


def run(form: td.Decay, *shape: int, optimizer: str = "sgd", dtype: torch.dtype = torch.float32, steps: int = 5):
    model = Bag(*shape, dtype=dtype)
    made = OPTIMIZERS[optimizer](model.parameters())
    td.attach(made, td.plan(model, form, rules=()), model=model)
    return [one.double() for one in train(model, made, steps)]


# ── What each holds to ──


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hyperball_keeps_the_norm_and_turns_by_as_much_on_any_optimizer(optimizer: str, dtype: torch.dtype) -> None:
    """W − ηR·N(u) is ηR away before it is scaled back: the distance between two points is nearly that."""
    seen = run(td.forms.hyperball(), 24, 24, optimizer=optimizer, dtype=dtype)
    # A weight in bf16 is rounded by up to a part in 256, at random.
    close = 1e-5 if dtype is torch.float32 else 2e-3
    for before, after in itertools.pairwise(seen):
        assert after.norm() == pytest.approx(seen[0].norm(), rel=close)
        turn = (after - before).norm() / seen[0].norm()
        assert turn == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    ("per", "shape", "dims"),
    [
        (None, (6, 5), (0, 1)),
        (None, (3, 4, 5), (1, 2)),
        (None, (3, 4, 2, 2), (0, 1, 2, 3)),
        ("tensor", (3, 4, 5), (0, 1, 2)),
        ("row", (6, 5), (1,)),
        ("row", (3, 4, 5), (2,)),
        ("row", (3, 4, 2, 2), (1, 2, 3)),
        ("column", (6, 5), (0,)),
        ("column", (3, 4, 5), (1,)),
        ("column", (3, 4, 2, 2), (0, 2, 3)),
        ("expert", (6, 5), (1,)),
        ("expert", (3, 4, 5), (1, 2)),
    ],
)
def test_each_slice_has_a_norm_of_its_own(per: str | None, shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    """By default each expert of a stack, else the tensor; by rows and columns those of its matrices."""
    for form in (td.forms.hyperball(2.0, per=per), td.forms.projection(2.0, per=per)):
        norms = torch.linalg.vector_norm(run(form, *shape)[-1], dim=dims)
        torch.testing.assert_close(norms, torch.full_like(norms, 2.0), rtol=1e-5, atol=0)


def test_relative_update_makes_a_step_of_the_learning_rate_times_the_norm() -> None:
    """And leaves the norm free."""
    seen = run(td.forms.relative_update(), 8, 6, optimizer="adamw")
    for before, after in itertools.pairwise(seen):
        assert (after - before).norm() == pytest.approx(0.05 * before.norm(), rel=1e-4)
    assert seen[-1].norm() != pytest.approx(seen[0].norm(), rel=1e-4)


def test_a_brake_of_1_is_the_optimizers_own_step_and_one_of_0_the_projection() -> None:
    """To the rounding of one multiplication."""
    model = Bag(8, 6)
    plain = train(model, OPTIMIZERS["sgd"](model.parameters()), 5)
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(run(td.forms.radial_brake(outward=1.0), 8, 6)[-1], plain[-1].double(), **close)
    held = run(td.forms.radial_brake(outward=0.0, inward=0.0), 8, 6)
    torch.testing.assert_close(held[-1], run(td.forms.projection("current"), 8, 6)[-1], **close)


def test_decay_before_a_norm_is_set_is_a_longer_step() -> None:
    """R·N((1 − cλ)W − ηu) = R·N(W − η/(1 − cλ)·u), in one step as in twenty."""
    ends = []
    for decay, longer in ((0.2, 1.0), (0.0, 1 / (1 - 0.05 * 0.2))):
        model = Bag(8, 6)
        optimizer = optim.SGD(model.parameters(), lr=0.05 * longer)

        def shrink(*_, kept=1 - 0.05 * decay, weight=model.weight):
            weight.data.mul_(kept)

        optimizer.register_step_pre_hook(shrink)
        td.attach(optimizer, td.plan(model, td.forms.projection(3.0), rules=()), model=model)
        ends.append(train(model, optimizer, 20)[-1])
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_a_share_lies_between_the_optimizers_step_and_the_rule() -> None:
    """A schedule goes from one to the other."""
    ends = {}
    for share in (0.0, 0.25, 1.0):
        model = Bag(8, 6, dtype=torch.float64)
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        form = td.forms.hyperball(schedule=lambda step, s=share: s)
        td.attach(optimizer, td.plan(model, form, rules=()), model=model)
        ends[share] = train(model, optimizer, 1)[-1]
    torch.testing.assert_close(ends[0.25], 0.75 * ends[0.0] + 0.25 * ends[1.0])


def test_a_schedule_above_1_is_refused_before_anything_moves() -> None:
    """It is a share."""
    model = Bag(4, 3)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    form = td.forms.projection(schedule=lambda step: 1.0 + step)
    td.attach(optimizer, td.plan(model, form, rules=()), model=model)
    before = train(model, optimizer, 1)[-1]
    with pytest.raises(td.DecayError, match="share"):
        train(model, optimizer, 2)
    assert torch.equal(model.weight, before)


# ── Nothing to go by ──


@pytest.mark.parametrize(
    "form", [td.forms.hyperball(), td.forms.relative_update(), td.forms.hyperball(per="row")], ids=repr
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_update_that_is_zero_leaves_the_weights_bit_for_bit(form: td.Decay, dtype: torch.dtype) -> None:
    """A zero norm gives no update, and no NaN."""
    model = Bag(4, 3, dtype=dtype)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, form, rules=()), model=model)
    before = model.weight.detach().clone()
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    assert torch.equal(model.weight, before)


def test_a_row_of_zeros_stays_and_the_others_move() -> None:
    """The padding row of a table."""
    model = Bag(4, 3)
    model.weight.data[0] = 0.0
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.forms.hyperball(per="row"), rules=()), model=model)
    end = train(model, optimizer, 3)[-1]
    assert torch.isfinite(end).all()
    assert not end[0].any()
    assert end[1:].all()


def test_zeros_take_a_radius_that_is_a_number() -> None:
    """And are on the sphere after the first step."""
    for form in (td.forms.hyperball(2.0), td.forms.projection(2.0)):
        model = Bag(4, 3, fill=0.0)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        td.attach(optimizer, td.plan(model, form, rules=()), model=model)
        assert train(model, optimizer, 2)[-1].norm() == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize(
    ("form", "model", "said"),
    [
        (td.forms.hyperball(), Bag(4, 3, fill=0.0), r"all zeros[\s\S]*hyperball\(1\.0\)"),
        (td.forms.hyperball("current"), Bag(4, 3, fill=0.0), "all zeros"),
        (td.forms.projection(), Bag(4, 3, fill=0.0), r"all zeros[\s\S]*projection\(1\.0\)"),
        (td.forms.relative_update(), Bag(4, fill=0.0), "all zeros"),
        (td.forms.hyperball(1.0), Bag(4), r"no matrix[\s\S]*td\.rule\('weight', None\)"),
        (td.forms.projection(), Bag(4), "no matrix"),
        (td.forms.radial_brake(per="row"), Bag(4), r"no rows[\s\S]*per=\"tensor\""),
        (td.forms.norm_control(0.1, per="column"), Bag(4), "no columns"),
        (td.forms.hyperball(per="row"), Bag(4), r"bias or a gain[\s\S]*None\), as the default"),
        (td.forms.group_lasso(0.1), Bag(4), r"no rows[\s\S]*td\.l1\(wd\)"),
    ],
    ids=lambda value: repr(value) if isinstance(value, td.Decay) else "",
)
def test_what_has_no_norm_to_hold_is_refused_at_attach_with_what_to_write(form, model, said) -> None:
    """Not in a step, and by name."""
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(td.ApplyError, match=rf'"weight"[\s\S]*{said}'):
        td.attach(optimizer, td.plan(model, form, rules=()), model=model)
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("radius", [0, 0.0, -1, float("nan"), float("inf"), True, None, "intial", "1"])
def test_a_radius_is_a_word_or_a_number_above_0(radius) -> None:
    """0 would end the weight, NaN the run."""
    for form in (td.forms.hyperball, td.forms.projection):
        with pytest.raises(td.DecayError, match="radius"):
            form(radius)


def test_a_rule_for_the_update_takes_no_decay_beside_it() -> None:
    """In one row there is one of them, and its optimizer's own is 0 meanwhile."""
    with pytest.raises(td.DecayError, match="beside"):
        td.decoupled(0.1).replace(update=td.forms.hyperball().update)
    with pytest.raises(td.DecayError, match="beside"):
        td.forms.hyperball().replace(mask=td.spare_rows(0))
    model = Bag(4, 3)
    optimizer = optim.AdamW(model.parameters(), weight_decay=0.3)
    with td.attach(optimizer, td.plan(model, td.forms.hyperball(), rules=()), model=model):
        assert optimizer.param_groups[0]["weight_decay"] == 0.0
    assert optimizer.param_groups[0]["weight_decay"] == 0.3


def test_a_decay_that_has_another_name_is_said() -> None:
    """Nobody but the optimizer can set it to 0."""
    model = Bag(4, 3)
    handle = td.attach(optim.ASGD(model.parameters()), td.plan(model, td.forms.hyperball(), rules=()), model=model)
    assert "lambd=0.0001 stays beside it" in handle.lowering["weight"].why


# ── Between steps ──


def test_weights_that_are_0_while_a_step_runs_are_back_when_it_raises() -> None:
    """In bf16 the update is seen whole on weights of 0; a step that ends halfway must not leave them so."""
    model = Bag(6, 5, dtype=torch.bfloat16)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(model, td.forms.hyperball(), rules=()), model=model)
    before = train(model, optimizer, 1)[-1]
    hook = optimizer.register_step_post_hook(lambda *_: None)
    optimizer._init_group = None  # type: ignore[method-assign, assignment]
    with pytest.raises(TypeError):
        train(model, optimizer, 1)
    assert torch.equal(model.weight, before)
    del optimizer._init_group
    hook.remove()
    assert torch.isfinite(train(model, optimizer, 1)[-1]).all()


def test_bf16_turns_toward_where_float32_turns() -> None:
    """A difference of rounded weights would have lost the direction: 1e-4 of a weight is below what bf16 tells."""
    ends = []
    for dtype in (torch.float32, torch.bfloat16):
        model = Bag(64, 64, dtype=dtype)
        optimizer = optim.SGD(model.parameters(), lr=1e-4)
        td.attach(optimizer, td.plan(model, td.forms.hyperball(), rules=()), model=model)
        for _ in range(100):
            gradient(model, 0)
            optimizer.step()
        ends.append(model.weight.detach().float() - Bag(64, 64, dtype=dtype).weight.detach().float())
    toward = (ends[0] * ends[1]).sum() / ends[0].square().sum()
    assert toward == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("form", [td.forms.hyperball(), td.forms.relative_update(per="row")], ids=repr)
def test_bf16_weights_of_several_groups_go_where_each_goes_alone(form: td.Decay) -> None:
    """Each group is set by itself, and those of the next are 0 until it is their turn."""

    def train_of(*names: str) -> dict[str, torch.Tensor]:
        every = nn.ParameterDict({name: Bag(8, 6, dtype=torch.bfloat16).weight for name in "abc"})
        groups = [{"params": [every[name]], "param_names": [name], "lr": 0.05 * (1 + ord(name) % 3)} for name in names]
        optimizer = optim.AdamW(groups, weight_decay=0.0)
        td.attach(optimizer, td.plan(every, form, rules=()), model=every)
        for step in range(3):
            drawn = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
            for name in names:
                every[name].grad = drawn.bfloat16()
            optimizer.step()
        return {name: every[name].detach() for name in names}

    together = train_of(*"abc")
    for name in "abc":
        assert torch.equal(together[name], train_of(name)[name])


@pytest.mark.parametrize("form", [td.forms.hyperball(per="row"), td.forms.norm_control(0.3, per="column")], ids=repr)
def test_norms_of_slices_are_saved_and_come_back(form: td.Decay) -> None:
    """Resumed is never stopped, bit for bit: the norms at attach are those of the run that began."""
    expected = run(form, 6, 5, steps=6)[-1]
    model = Bag(6, 5)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    td.attach(optimizer, td.plan(model, form, rules=()), model=model)
    train(model, optimizer, 3)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    fresh = Bag(6, 5, fill=0.5)
    optimizer = OPTIMIZERS["sgd"](fresh.parameters())
    td.attach(optimizer, td.plan(fresh, form, rules=()), model=fresh)
    fresh.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    for step in range(3, 6):
        gradient(fresh, step)
        optimizer.step()
    assert torch.equal(fresh.weight.detach().double(), expected)


def test_the_copy_is_stated() -> None:
    """What it costs in memory can be asked for."""
    model = Bag(6, 5)
    handle = td.attach(
        OPTIMIZERS["sgd"](model.parameters()), td.plan(model, td.forms.hyperball(), rules=()), model=model
    )
    assert "a copy of the weights" in handle.lowering["weight"].why
    assert handle.cost("weight").held == model.weight.nbytes


def test_a_monitor_sees_weights_that_are_0_for_a_moment_where_they_were() -> None:
    """Else all of a weight would be said to be taken, and given back."""
    norms = []
    for dtype in (torch.float32, torch.bfloat16):
        model = Bag(32, 32, dtype=dtype)
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        td.attach(optimizer, td.plan(model, td.forms.hyperball(), rules=()), model=model)
        with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
            train(model, optimizer, 4)
        (group,) = monitor.history.groups
        curves = [monitor.history.curve(group, kind)[1] for kind in ("update_norm", "weight_norm")]
        norms.append(torch.tensor(curves))
    torch.testing.assert_close(*norms, rtol=0.05, atol=0.0)
