"""What happens between steps: groups come and go, steps raise, hooks of others stand around, weights are cast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.errors import ApplyError

WD = 0.3


def weights(*names):
    torch.manual_seed(0)
    return nn.ParameterDict({name: nn.Parameter(torch.randn(3, 2, dtype=torch.float64)) for name in names})


def attached(model, decay, *, cls=optim.SGD, via="auto", groups=None, **options):
    optimizer = cls(list(model.parameters()) if groups is None else groups, lr=0.1, **options)
    return optimizer, td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via=via)


def give(model, size=1.0):
    for param in model.parameters():
        param.grad = torch.full_like(param, size)


class Boom(Exception):
    pass


def test_what_a_group_remembers_follows_its_parameters():
    """A group that is taken out takes its own counter and weight_decay along, not those of the next one."""
    model = weights("a", "b")
    groups = [{"params": [model["a"]], "weight_decay": 0.01}, {"params": [model["b"]], "weight_decay": 0.02}]
    optimizer, handle = attached(model, td.decoupled(WD, schedule=td.schedules.linear(0.0, 1.0, 9)), groups=groups)
    give(model)
    optimizer.step()
    model["b"].grad = None
    optimizer.step()
    assert (handle.steps(0), handle.steps(1)) == (2, 1)
    del optimizer.param_groups[0]
    model["a"].grad = None
    assert handle.steps(0) == 1
    give(model)
    optimizer.step()
    assert handle.steps(0) == 2
    handle.remove()
    assert optimizer.param_groups[0]["weight_decay"] == 0.02


RETURNING = {
    "steps": td.decoupled(WD, schedule=lambda step: 1.0 / (1 + step)),
    "peak": td.independent(0.05),
    "reference": td.toward("initial", WD),
    "dual": td.forms.constrained(kappa_initial=0.5),
    "average": td.forms.toward_average(WD),
}


@pytest.mark.parametrize("form", RETURNING)
@pytest.mark.parametrize("fresh", [False, True], ids=["the same group", "a group made anew"])
def test_a_group_that_was_out_for_some_steps_goes_on_where_it_was(form, fresh):
    """As one does that was frozen meanwhile; and what stood in the group before the plan is put back at the end."""
    model, ends = weights("a", "b"), []
    start = copy.deepcopy(model.state_dict())
    for out in (False, True):
        model.load_state_dict(start)
        groups = [{"params": [model[name]], "weight_decay": 0.02} for name in ("a", "b")]
        optimizer, handle = attached(model, RETURNING[form], groups=groups)
        for clock in range(6):
            give(model)
            if clock in (2, 3):
                model["b"].grad = None
            if out and clock == 2:
                group = optimizer.param_groups.pop()
            if out and clock == 4:
                made = {"params": [model["b"]], "weight_decay": 0.03, "lr": 0.01} if fresh else group
                optimizer.add_param_group(made)
            optimizer.param_groups[-1]["lr"] = 0.1 if clock < 4 else 0.01
            optimizer.param_groups[0]["lr"] = 0.1
            optimizer.step()
        assert handle.steps(1) == 4
        handle.remove()
        assert optimizer.param_groups[1]["weight_decay"] == (0.03 if out and fresh else 0.02)
        ends.append(copy.deepcopy(model.state_dict()))
    torch.testing.assert_close(*ends)


RESHAPED = {
    "initial": (td.toward("initial", WD), "shape"),
    "average": (td.forms.toward_average(WD), "shape"),
    "mask": (td.decoupled(WD, mask="which"), "shape"),
    "rows": (td.decoupled(WD, mask=td.spare_rows(1)), ""),
    "plain": (td.decoupled(WD), ""),
    "lazy": (td.decoupled(WD, rows="lazy"), ""),
}


@pytest.mark.parametrize("form", RESHAPED)
def test_a_table_that_grew_after_attach_is_decayed_or_refused_by_name(form):
    """And after `remove` the plan can be attached again, to what is there now."""
    decay, refused = RESHAPED[form]
    model = weights("a")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    plan = td.plan(model, decay, rules=())
    handle = td.attach(optimizer, plan, model=model, bind={"which": {"a": torch.ones(3, 2, dtype=torch.bool)}})
    give(model)
    optimizer.step()
    model["a"].data = torch.ones(5, 2, dtype=torch.float64)
    give(model)
    if refused:
        with pytest.raises(ApplyError, match=f"(?s)a.*{refused}"):
            optimizer.step()
        assert bool((model["a"] == 1).all())
    else:
        optimizer.step()
        assert handle.steps(0) == 2
    handle.remove()
    td.attach(optimizer, plan, model=model, bind={"which": {"a": torch.ones(5, 2, dtype=torch.bool)}})
    optimizer.step()


def test_a_group_that_was_added_is_seen_and_saved_before_its_first_step():
    """Reading and saving take it over, as the next step would."""
    model = weights("a", "b")
    optimizer, handle = attached(model, td.toward("initial", WD), groups=[model["a"]])
    optimizer.add_param_group({"params": [model["b"]], "weight_decay": 0.05})
    assert [group.index for group in handle.lowering.groups] == [0, 1]
    assert set(handle.state_dict()) == {"a", "b"}
    assert len(optimizer.state_dict()["torchdecay"]["groups"]) == 2
    for look in (td.verify, td.audit, td.inspect):
        look(optimizer, model=model)
    handle.remove()
    assert optimizer.param_groups[1]["weight_decay"] == 0.05


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["hook", "update"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_step_that_raised_leaves_the_gradients_that_were_there(where, error, nested):
    """So that what is accumulated or clipped next holds no pull: it was counted twice."""

    class Twice(optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    def boom(*_):
        raise error

    model = weights("a")
    optimizer, handle = attached(model, td.coupled(WD), via="hook", cls=Twice if nested else optim.SGD)
    hook = optimizer.register_step_pre_hook(boom) if where == "hook" else None
    if where == "update":
        optimizer._init_group = boom
    before, given = model["a"].detach().clone(), torch.randn(3, 2, dtype=torch.float64)
    model["a"].grad = given
    kept = given.clone()
    with pytest.raises(error):
        optimizer.step()
    assert model["a"].grad is given and torch.equal(given, kept)
    if hook is None:
        del optimizer._init_group
    else:
        hook.remove()
    assert torch.equal(model["a"], before) and handle.steps(0) == 0
    model["a"].grad.add_(1.0)
    optimizer.step()
    torch.testing.assert_close(model["a"].detach(), before - 0.1 * (kept + 1 + WD * before))
    assert handle.steps(0) == 1


def test_the_guard_goes_with_the_plan_and_stays_out_of_the_way_of_schedulers():
    """A scheduler wraps the step too; whatever the order, nothing is left in the end, and nothing is wrapped twice."""
    model = weights("a")
    optimizer, handle = attached(model, td.coupled(WD))
    assert "step" in vars(optimizer)
    handle.remove()
    assert "step" not in vars(optimizer)
    optimizer, handle = attached(model, td.coupled(WD))
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1)
    handle.remove()
    handle = td.attach(optimizer, td.plan(model, td.coupled(WD), rules=()), model=model)
    give(model)
    optimizer.step()
    scheduler.step()
    assert handle.steps(0) == 1
    copied = copy.deepcopy(optimizer)
    assert "step" not in vars(copied)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("closure", [True, False])
def test_hooks_of_others_find_what_they_find_without_a_plan(before, closure):
    """Before the step the gradients as the user made them, after it too, whenever the hooks were made."""
    ends, seen = [], []
    for native in (True, False):
        model = weights("a")
        optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=WD if native else 0.0)

        def clip(*_, model=model):
            if model["a"].grad is not None:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)

        def look(*_, model=model):
            seen.append((model["a"].grad.clone(), model["a"].detach().clone()))

        def evaluate(model=model):
            give(model)
            return torch.zeros(())

        def register(optimizer=optimizer, clip=clip, look=look):
            optimizer.register_step_pre_hook(clip)
            optimizer.register_step_post_hook(look)

        if before:
            register()
        if not native:
            td.attach(optimizer, td.plan(model, td.coupled(WD), rules=()), model=model, via="hook")
        if not before:
            register()
        give(model)
        for _ in range(3):
            optimizer.step(evaluate) if closure else optimizer.step()
        ends.append(model["a"].detach().clone())
    assert torch.equal(*ends)
    for (gradient, weight), (other, same) in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(gradient, other) and torch.equal(weight, same)


def test_a_monitor_still_stands_around_a_plan_and_the_hooks_of_others():
    """The plan comes after a hook that was made later, and what only looks at the plan comes after that."""
    model = weights("a")
    optimizer, _ = attached(model, td.decoupled(WD))
    with td.Monitor(optimizer, every_steps=1, model=model) as monitor:
        optimizer.register_step_pre_hook(lambda *_: None)
        for _ in range(3):
            give(model)
            optimizer.step()
    assert [record.step for record in monitor.history.records] == [1, 2, 3]
    assert all(record["realized_shrink"][0] == pytest.approx(0.1 * WD) for record in monitor.history.records)


def test_weights_that_were_cast_are_resumed_with_their_references():
    """A reference is cast with its weight, so that its hash is that of the resumed run's."""
    model = weights("a")
    optimizer, handle = attached(model, td.toward("initial", WD))
    give(model)
    optimizer.step()
    model.float()
    saved, references = copy.deepcopy(optimizer.state_dict()), handle.state_dict()
    assert references["a"].dtype == torch.float32
    fresh = weights("a").float()
    optimizer, handle = attached(fresh, td.toward("initial", WD))
    handle.load_state_dict(references)
    optimizer.load_state_dict(saved)
    assert handle.steps(0) == 1


def test_a_cast_to_low_precision_moves_native_decay_into_passes_that_pay():
    """Written into the optimizer's own weight_decay it would be rounded away."""
    model = weights("a")
    optimizer, handle = attached(model, td.decoupled(WD), cls=optim.AdamW)
    assert handle.lowering["a"].route == "native"
    model.bfloat16()
    give(model)
    optimizer.step()
    assert handle.lowering["a"].route == "hook"
    assert optimizer.param_groups[0]["weight_decay"] == 0.0


@pytest.mark.parametrize("momentum", [(0.0, 0.9), (0.9, 0.0)])
def test_the_way_of_a_decay_follows_the_momentum_that_a_scheduler_sets(momentum):
    """A coupled decay is a pass for low-precision weights without momentum, and goes through it otherwise."""
    ways = []
    for then in (False, True):
        model = weights("a").bfloat16()
        optimizer, handle = attached(model, td.coupled(WD), momentum=momentum[0 if then else 1])
        if then:
            optimizer.param_groups[0]["momentum"] = momentum[1]
        give(model)
        optimizer.step()
        ways.append((handle.lowering["a"].route, handle.lowering["a"].why))
        assert handle.steps(0) == 1
    assert ways[0] == ways[1]


@pytest.mark.parametrize("decay", [td.decoupled(WD), td.native(WD), td.independent(0.05)], ids=repr)
@pytest.mark.parametrize("via", ["auto", "hook"])
def test_a_frozen_weight_does_not_decay_though_an_old_gradient_is_left(decay, via):
    """Natively it would, since optimizers look at the gradient alone; what shares its group goes on decaying."""
    model = weights("a", "b")
    optimizer, handle = attached(model, decay, via=via, cls=optim.AdamW)
    give(model, 0.0)
    optimizer.step()
    model["a"].requires_grad_(False)
    before = [param.detach().clone() for param in model.values()]
    optimizer.step()
    assert torch.equal(model["a"], before[0]) and (model["b"].abs() < before[1].abs()).all()
    model["a"].requires_grad_(True)
    optimizer.step()
    assert (model["a"].abs() < before[0].abs()).all()
    assert handle.lowering["a"].route == ("native" if via == "auto" else "hook")


def test_the_ratio_of_adaptive_moves_in_steps_that_count():
    """At learning rate 0, without gradients, or where the step raises, it stays."""
    model = weights("a")
    optimizer, _ = attached(model, td.forms.adaptive(WD))

    def ratio():
        (held,) = optimizer.state_dict()["torchdecay"]["scalars"]["controllers"].values()
        return held["ratio"][""]

    def boom(*_):
        raise Boom

    give(model)
    optimizer.step()
    kept = ratio()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer._init_group = boom
    with pytest.raises(Boom):
        optimizer.step()
    assert ratio() == kept


@pytest.mark.parametrize("later", ["no gradient", "update"])
def test_a_bound_after_a_warm_up_is_measured_at_the_first_step_that_can(later):
    """A tensor without a gradient in the last step of the warm-up, or a plan that came after it, is bound as well."""
    model = weights("a", "b")
    warming = td.forms.constrained(warmup_steps=2)
    optimizer, handle = attached(model, warming if later == "no gradient" else td.decoupled(WD))
    give(model)
    optimizer.step()
    model["a"].grad = None
    optimizer.step()
    if later == "update":
        handle.update(td.plan(model, warming, rules=()))
    for _ in range(2):
        model["a"].grad = -model["a"].detach()
        optimizer.step()
    assert handle.duals["a"] > 0


def test_spectra_are_measured_of_those_without_a_gradient_too():
    """They would keep the plain coefficient until the next measuring, hundreds of steps later."""
    torch.manual_seed(0)
    model = nn.ParameterDict({name: nn.Parameter(torch.randn(6, 6)) for name in "ab"})
    optimizer, _ = attached(model, td.forms.by_spectrum(WD, min_values=2))
    model["a"].grad = torch.zeros(6, 6)
    optimizer.step()
    before = [param.detach().clone() for param in model.values()]
    give(model, 0.0)
    optimizer.step()
    taken = [
        float((1 - param.detach() / old).mean()) / (0.1 * WD) for param, old in zip(model.values(), before, strict=True)
    ]
    assert sorted(taken) == pytest.approx([2 / 3, 3.0], rel=1e-3)


TAKEN_BACK = {
    "decoupled": td.decoupled(WD),
    "per_step": td.per_step(0.2),
    "all of it": td.per_step(1.0),
    "independent": td.independent(0.1),
    "toward": td.toward("initial", WD),
    "masked": td.decoupled(WD, mask=td.spare_rows(0)),
    "cautious": td.cautious(WD),
    "spectral": td.forms.spectral(WD),
    "stable": td.forms.stable(WD),
    "ada_decay": td.forms.ada_decay(WD),
    "lazy": td.decoupled(WD, rows="lazy"),
    "touched": td.decoupled(WD, rows="touched"),
}


@pytest.mark.parametrize("form", TAKEN_BACK)
@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW])
def test_an_update_that_raises_leaves_weights_and_counts_as_they_were(form, cls):
    """Memory that runs out, or Ctrl-C: the step is taken again, and its pull was taken already."""
    ends = []
    for raises in (False, True):
        model = weights("a")
        optimizer, handle = attached(model, TAKEN_BACK[form], cls=cls, via="hook")
        for clock in range(3):
            torch.manual_seed(clock)
            model["a"].grad = torch.randn(3, 2, dtype=torch.float64)
            before = model["a"].detach().clone()
            if raises and clock:
                optimizer.param_groups[0]["lr"] = 0.3

                def boom(*_):
                    raise Boom

                optimizer._init_group = boom
                with pytest.raises(Boom):
                    optimizer.step()
                del optimizer._init_group
                optimizer.param_groups[0]["lr"] = 0.1
                torch.testing.assert_close(model["a"].detach(), before, rtol=1e-14, atol=1e-14)
            optimizer.step()
        assert handle.steps(0) == 3
        handle.flush()
        ends.append(model["a"].detach().clone())
    torch.testing.assert_close(*ends, rtol=1e-13, atol=1e-14)


def test_weights_that_the_update_had_reached_before_it_raised_keep_their_pull():
    """Their step is done, and its pull with it."""

    class Half(optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            self.param_groups[0]["params"][0].sub_(1.0)
            raise Boom

    model = weights("a", "b")
    optimizer, _ = attached(model, td.decoupled(WD), cls=Half)
    give(model)
    before = [param.detach().clone() for param in model.values()]
    with pytest.raises(Boom):
        optimizer.step()
    torch.testing.assert_close(model["a"].detach(), before[0] * (1 - 0.1 * WD) - 1.0)
    torch.testing.assert_close(model["b"].detach(), before[1])


@pytest.mark.parametrize("change", ["none", "others", "no longer"])
@pytest.mark.parametrize("form", ["touched", "lazy", "cautious"])
def test_what_a_step_did_to_its_gradients_before_it_raised_hides_no_error(form, change):
    """And moves no row: what the pull moved is taken back, be other rows in the gradient by now."""

    class Changing(optim.SGD):
        def step(self, closure=None):
            grad = self.param_groups[0]["params"][0].grad
            if change == "none":
                self.zero_grad()
            else:
                grad[0 if change == "others" else 2] = float(change == "others")
            raise KeyboardInterrupt

    decay = td.cautious(WD) if form == "cautious" else td.decoupled(WD, rows=form)
    model = weights("a")
    optimizer, handle = attached(model, decay, cls=Changing, via="hook")
    before = model["a"].detach().clone()
    model["a"].grad = torch.zeros_like(before)
    model["a"].grad[2] = 1.0
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    if form != "cautious":
        torch.testing.assert_close(model["a"].detach(), before, rtol=1e-14, atol=1e-14)
    assert handle.steps(0) == 0


def test_low_precision_weights_owe_no_step_that_raised():
    """Whether the step had paid or only owed: what comes after is as if it had not been."""
    ends = []
    for raises in (False, True):
        torch.manual_seed(0)
        model = nn.ParameterDict({"a": nn.Parameter(torch.randn(300, 200).bfloat16())})
        before = model["a"].detach().float().norm()
        optimizer, _ = attached(model, td.decoupled(0.01))
        for _ in range(100):
            give(model, 0.0)
            if raises:

                def boom(*_):
                    raise Boom

                optimizer._init_group = boom
                with pytest.raises(Boom):
                    optimizer.step()
                del optimizer._init_group
            optimizer.step()
        ends.append(float(model["a"].detach().float().norm() / before))
    assert ends == pytest.approx([(1 - 0.001) ** 100] * 2, abs=0.004)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "decay", [td.decoupled(0.01), td.cautious(0.01), td.l1(1e-5), td.toward("initial", 0.01)], ids=repr
)
def test_what_low_precision_weights_owe_is_handed_over_to_the_next_plan(decay, fresh):
    """Attached and removed at every epoch, all of it would be lost: it never is due within one."""
    torch.manual_seed(0)
    model = nn.ParameterDict({"a": nn.Parameter(torch.randn(30, 20).bfloat16())})
    optimizer, handle = attached(model, decay)
    give(model, 1e-6)
    optimizer.step()
    owed = handle.debts
    assert owed["a"] != 0
    handle.remove()
    if fresh:
        optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
    assert handle.debts == owed
    handle.remove()
    # A shrink is no displacement: what another form owes waits until its own comes again.
    handle = td.attach(optimizer, td.plan(model, td.l1(1e-6), rules=()), model=model)
    optimizer.step()
    handle.update(td.plan(model, decay, rules=()))
    assert abs(handle.debts["a"]) >= abs(owed["a"])


def test_an_average_is_not_where_the_run_began():
    """Updating from a pull toward the average to one toward the beginning does not hand the average on."""
    model = weights("a")
    optimizer, handle = attached(model, td.forms.toward_average(WD, beta=0.5))
    give(model)
    for _ in range(3):
        optimizer.step()
    now = model["a"].detach().clone()
    handle.update(td.plan(model, td.toward("initial", WD), rules=()))
    assert torch.equal(handle.reference("a"), now)
    handle.update(td.plan(model, td.forms.projected("initial", WD), rules=()))
    optimizer.step()
    assert torch.equal(handle.reference("a"), now)


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (td.forms.norm_control(WD, ratio=0.7), td.forms.norm_control(WD, ratio=0.9), {"start": 1.0}),
        (td.forms.constrained(kappa_initial=0.8), td.forms.constrained(kappa_initial=0.4), {"kappa": 0.5, "mu": 1.0}),
        (td.forms.constrained(kappa=0.8), td.forms.constrained(kappa=0.4), {"mu": 1.0}),
        (td.forms.constrained(warmup_steps=1), td.forms.constrained(warmup_steps=3), {"kappa": 1.0, "mu": 1.0}),
        (td.forms.adaptive(WD, beta=0.5), td.forms.adaptive(WD, beta=0.9), {"ratio": 1.0}),
    ],
    ids=lambda value: repr(value) if isinstance(value, td.Decay) else "",
)
def test_what_a_controller_has_seen_is_handed_on_though_its_numbers_change(before, after, kept):
    """A schedule by hand of ratio or bound must not begin again at the weights of that moment."""
    model = weights("a")
    optimizer, handle = attached(model, before)

    def held():
        (found,) = optimizer.state_dict()["torchdecay"]["scalars"]["controllers"].values()
        return {key: float(sum(found[key].values())) for key in found}

    for _ in range(2):
        model["a"].grad = -9 * model["a"].detach()
        optimizer.step()
    old = held()
    handle.update(td.plan(model, after, rules=()))
    new = held()
    assert {key: new[key] for key in kept} == pytest.approx({key: old[key] * ratio for key, ratio in kept.items()})
    assert all(old[key] for key in kept)


@pytest.mark.parametrize("span", [1, 2, 8])
@pytest.mark.parametrize("anew", [False, True])
def test_low_precision_decays_as_much_in_short_spans(span: int, anew: bool) -> None:
    """Attached and removed every few steps, or with a new optimizer each time: (1 − .001)^400 is left, not more.

    The tolerance is five standard errors of stochastic rounding: a payment of 2⁻⁸ misses by up to one unit in the last
    place, 2⁻⁸ of a weight, in each of 102 payments and 4,096 weights: √102 · 2⁻⁸ / √4096 · 5 = .003.
    """
    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False).bfloat16()
    model.weight.grad = torch.zeros_like(model.weight)
    start = model.weight.detach().float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(400 // span):
        if anew:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        handle = td.attach(optimizer, td.plan(model, td.decoupled(0.01)), model=model)
        for _ in range(span):
            optimizer.step()
        handle.remove()
    left = (model.weight.detach().float().norm() / start.norm()).item()
    assert left == pytest.approx(0.999**400, abs=0.006)
