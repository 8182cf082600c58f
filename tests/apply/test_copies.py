"""Copies of optimizers and handles, by deepcopy, pickle and torch.save: what was remembered goes on, or it is said."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.apply.handle import handle_of
from warned import no_warning

LINEAR = td.schedules.linear(1.0, 0.2, 10)
DECAYS = {
    "scheduled": td.l1(0.1, schedule=LINEAR),
    "initial": td.toward("initial", 0.3),
    "average": td.forms.toward_average(0.2),
    "controlled": td.forms.constrained(kappa_initial=0.5),
    "peaked": td.independent(0.1, schedule=LINEAR),
    "native": td.decoupled(0.1, schedule=LINEAR),
}


def stepped(model, optimizer, seeds):
    for seed in seeds:
        optimizer.zero_grad()
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        model(x).square().mean().backward()
        optimizer.step()


def running(decay, cls=optim.AdamW, **options):
    """A run that has taken three steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = cls(model.parameters(), lr=0.05, weight_decay=0.02)
    handle = td.attach(optimizer, td.plan(model, decay), model=model, **options)
    stepped(model, optimizer, range(3))
    return model, optimizer, handle


def goes_on(run, other):
    """Whether both do the same from here on."""
    for model, optimizer in (run, other):
        stepped(model, optimizer, (3, 4))
    return all(map(torch.equal, run[0].parameters(), other[0].parameters()))


def pickled(parts):
    return pickle.loads(pickle.dumps(parts))


def saved(parts):
    stream = io.BytesIO()
    torch.save(parts, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": pickled, "torch.save": saved}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", DECAYS)
def test_a_handle_that_is_copied_with_its_optimizer_goes_on_there(name, how):
    """In whatever order they stand; the copy is at work, and the first is as it was."""
    for order in ((0, 1, 2), (2, 1, 0), (2, 0, 1)):
        run = running(DECAYS[name])
        copied = COPIES[how](tuple(run[place] for place in order))
        model, optimizer, handle = (copied[order.index(place)] for place in range(3))
        if order[0] == 2:
            # It may be asked before the first step.
            assert handle.steps(0) == 3
        with no_warning():
            assert goes_on(run[:2], (model, optimizer))
        assert handle_of(optimizer) is handle is not run[2]
        assert handle.steps(0) == run[2].steps(0) == 5
        handle.remove()
        assert optimizer.param_groups[0]["weight_decay"] == 0.02


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", DECAYS)
def test_an_optimizer_that_is_copied_alone_remembers_and_says_that_no_plan_is_at_work(name, how):
    """Its first step warns, once, and a plan that is attached to it goes on from there."""
    run = running(DECAYS[name])
    model, optimizer = COPIES[how](run[:2])
    silent, other = COPIES[how](run[:2])
    assert td.audit(optimizer, model=model).codes == ("WD205",)
    with pytest.warns(td.DetachedWarning, match="goes on after step 3") as warned:
        stepped(silent, other, (3, 4))
    assert len(warned) == 1 and warned[0].filename == __file__
    handle = td.attach(optimizer, run[2].plan, model=model)
    with no_warning():
        assert goes_on(run[:2], (model, optimizer))
    assert handle.steps(0) == 5
    handle.remove()
    assert optimizer.param_groups[0]["weight_decay"] == 0.02


def test_a_handle_alone_is_not_copied():
    """It would hold a copy of an optimizer that nothing steps."""
    _, _, handle = running(td.l1(0.1))
    with pytest.raises(td.ApplyError, match=r"can't be copied alone[\s\S]*Copy both"):
        copy.deepcopy(handle)


def test_a_pickle_of_a_handle_alone_has_its_plan_and_counters():
    """It is detached, says so, and a new optimizer goes on from it."""
    model, optimizer, handle = running(td.l1(0.1, schedule=LINEAR), optim.SGD)
    alone = pickled(handle)
    assert alone.plan == handle.plan and "detached" in repr(alone)
    with pytest.raises(td.ApplyError, match=r"is detached[\s\S]*Go on from it"):
        alone.steps(0)
    assert not hasattr(alone, "shape")
    twin = copy.deepcopy(model)
    other = optim.SGD(twin.parameters(), lr=0.05)
    again = td.attach(other, alone, model=twin)
    assert again.steps(0) == 3 and goes_on((model, optimizer), (twin, other))
    assert td.attach(optim.SGD(twin.parameters(), lr=0.05), alone, model=twin, resume="restart").steps(0) == 0


def test_a_module_that_holds_its_handle_is_saved_and_copied_without_the_optimizer():
    """Averages of models are made by deepcopy, checkpoints by torch.save: neither is to drag an optimizer along."""
    model, optimizer, handle = running(td.toward("initial", 0.3))
    model.handle = handle
    for other in (saved(model), copy.deepcopy(model)):
        assert other.handle.plan == handle.plan and "detached" in repr(other.handle)
        assert all(map(torch.equal, other.parameters(), model.parameters()))
    trainer = nn.Module()
    trainer.handle, trainer.model, trainer.optimizer = handle, model, optimizer
    copied = copy.deepcopy(trainer)
    assert goes_on((model, optimizer), (copied.model, copied.optimizer))
    assert handle_of(copied.optimizer) is copied.handle is copied.model.handle


def test_what_no_pickle_can_hold_is_said_at_the_first_step():
    """Of a function without a name a description is left, which nothing can run."""
    run = running(td.l1(0.1, schedule=lambda step: 1 / (1 + step)))
    model, optimizer, handle = pickled(run)
    assert "lambda" in repr(handle.plan["0.weight"].decay)
    with pytest.warns(td.DetachedWarning, match="a description alone"):
        stepped(model, optimizer, (3,))


def test_resume_says_whether_to_go_on_begin_anew_or_refuse():
    """For a copy, and for an optimizer whose checkpoint was loaded before the plan is attached."""
    run = running(td.l1(0.1, schedule=LINEAR))

    def loaded():
        model = copy.deepcopy(run[0])
        optimizer = optim.AdamW(model.parameters(), lr=0.05)
        optimizer.load_state_dict(saved(run[1].state_dict()))
        return model, optimizer

    for made in (loaded, lambda: copy.deepcopy(run[:2])):
        for resume, steps in (("continue", 3), ("restart", 0)):
            model, optimizer = made()
            assert td.attach(optimizer, run[2].plan, model=model, resume=resume).steps(0) == steps
        model, optimizer = made()
        with pytest.raises(td.ApplyError, match="was under a plan before"):
            td.attach(optimizer, run[2].plan, model=model, resume="error")
    model = copy.deepcopy(run[0])
    fresh = optim.AdamW(model.parameters(), lr=0.05)
    with pytest.raises(td.ApplyError, match="resume is 'perhaps'"):
        td.attach(fresh, run[2].plan, model=model, resume="perhaps")
    assert td.attach(fresh, run[2].plan, model=model, resume="error").steps(0) == 0


def test_groups_that_were_under_a_plan_without_its_counters_are_told():
    """As where groups were copied by hand: schedules would silently begin anew."""
    run = running(td.l1(0.1, schedule=LINEAR))
    model = copy.deepcopy(run[0])
    groups = [group | {"params": list(model.parameters())} for group in run[1].param_groups]
    with pytest.warns(td.DetachedWarning, match="did not come along"):
        td.attach(optim.AdamW(groups), run[2].plan, model=model)
    with no_warning():
        td.attach(optim.AdamW(groups), run[2].plan, model=model, resume="restart")


class Past(optim.AdamW):
    """Loads in a way of its own, as 8-bit optimizers do: no hook hears of it."""

    def load_state_dict(self, state_dict):
        state, places = copy.deepcopy(state_dict), [param for group in self.param_groups for param in group["params"]]
        groups = zip(state["param_groups"], self.param_groups, strict=True)
        self.param_groups = [theirs | {"params": mine["params"]} for theirs, mine in groups]
        self.state.update({places[number]: kept for number, kept in state["state"].items()})


@pytest.mark.parametrize("name", DECAYS)
def test_a_load_past_the_hooks_is_noticed(name):
    """By the groups, which are others, and bear what the checkpoint knows of them."""
    run = running(DECAYS[name], Past)
    model = copy.deepcopy(run[0])
    optimizer = Past(model.parameters(), lr=0.3)
    handle = td.attach(optimizer, run[2].plan, model=model, bind={"initial": run[2].state_dict()})
    optimizer.load_state_dict(run[1].state_dict())
    with no_warning():
        assert handle.steps(0) == 3
        assert goes_on(run[:2], (model, optimizer))
    plain = optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.7)
    optimizer.load_state_dict(plain.state_dict())
    with no_warning():
        stepped(model, optimizer, (5,))
    assert handle.steps(0) == 6 and optimizer.param_groups[0]["weight_decay"] != 0.7


@pytest.mark.parametrize("name", ["initial", "average"])
def test_references_travel_in_the_checkpoint_where_that_is_asked_for(name):
    """Equal ones once, in the dtype asked for; else the error says what to save, and where."""
    decay = DECAYS[name]
    for keep in (True, torch.bfloat16, False):
        run = running(decay, save_references=keep)
        model = copy.deepcopy(run[0])
        optimizer = optim.AdamW(model.parameters(), lr=0.05)
        state = saved(run[1].state_dict())
        td.attach(optimizer, run[2].plan, model=model, save_references=keep)
        if keep is False:
            with pytest.raises(td.LoadError, match=r"handle\.state_dict\(\)[\s\S]*save_references=True"):
                optimizer.load_state_dict(state)
            continue
        optimizer.load_state_dict(state)
        assert goes_on(run[:2], (model, optimizer)) == (keep is True)
        assert {one.dtype for one in state["torchdecay"]["initial"]["held"].values()} == {
            torch.float32 if keep is True else keep
        }
    zeros = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    for layer in zeros:
        nn.init.zeros_(layer.weight)
    optimizer = optim.SGD(zeros.parameters(), lr=0.1)
    td.attach(optimizer, td.plan(zeros, decay), model=zeros, save_references=True)
    assert len(optimizer.state_dict()["torchdecay"]["initial"]["held"]) == 1
    with pytest.raises(td.ApplyError, match="save_references is 'yes'"):
        td.attach(optim.SGD(zeros.parameters()), td.plan(zeros, decay), model=zeros, save_references="yes")


def test_references_are_bound_where_the_optimizer_is_loaded_first():
    """Many frameworks load it before anything of a user's; "initial" is never taken anew."""
    run = running(DECAYS["initial"], save_references=True)
    state = run[1].state_dict()
    for given in (run[2].state_dict(), state):
        model = copy.deepcopy(run[0])
        optimizer = optim.AdamW(model.parameters(), lr=0.05)
        lacking = {key: value for key, value in state.items() if key != "torchdecay"}
        optimizer.load_state_dict(lacking)
        with pytest.raises(td.LoadError, match=r'bind=\{"initial"'):
            td.attach(optimizer, run[2].plan, model=model)
        handle = td.attach(optimizer, run[2].plan, model=model, bind={"initial": given})
        assert handle.steps(0) == 3 and torch.equal(handle.reference("0.weight"), run[2].reference("0.weight"))
    with pytest.raises(td.LoadError, match=r'"0\.weight"'):
        fresh = optim.AdamW(run[0].parameters(), lr=0.05)
        td.attach(fresh, run[2].plan, model=run[0], bind={"initial": {"0.weight": torch.zeros(3)}})
