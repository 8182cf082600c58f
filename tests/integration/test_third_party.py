"""Decay on optimizers of other libraries: what their own weight_decay is, and the same by hook."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.apply import passes
from torchdecay.errors import ApplyError
from torchdecay.optimizers import gradients, steps

pytestmark = pytest.mark.peers
WD, LR = 0.3, 0.01
BEFORE, GRADIENT = td.Site.BEFORE, td.Site.GRADIENT


@dataclass(frozen=True)
class Peer:
    """An optimizer of another library, and where its own weight_decay enters; None is somewhere else."""

    library: str
    name: str
    site: td.Site | None
    options: dict[str, Any] = field(default_factory=dict)
    # Whether its own decay and ours by hook are the same bits in float64; else they differ in float32's last digits.
    exact: bool = True

    def __str__(self) -> str:
        return ".".join((self.library, self.name, *self.options))

    def build(self, params: Any, wd: float, **options: Any) -> optim.Optimizer:
        """The optimizer, in training mode; a skip where its library is not installed."""
        try:
            library = importlib.import_module(self.library)
        except ImportError as missing:
            pytest.skip(f"{self.library} could not be imported ({missing}): pip install 'torchdecay[peers]'")
        made: optim.Optimizer = getattr(library, self.name)(params, lr=LR, weight_decay=wd, **self.options | options)
        getattr(made, "train", lambda: None)()
        return made


EAGER = {"compile_step": False}
KNOWN = [
    Peer("lion_pytorch", "Lion", BEFORE),
    Peer("optimi", "AdamW", BEFORE),
    Peer("optimi", "SGD", GRADIENT, {"momentum": 0.9}),
    Peer("optimi", "SGD", BEFORE, {"momentum": 0.9, "decouple_wd": True}),
    Peer("optimi", "Adam", GRADIENT),
    Peer("optimi", "RAdam", GRADIENT),
    Peer("optimi", "Lion", BEFORE),
    Peer("pytorch_optimizer", "Lion", BEFORE),
    Peer("pytorch_optimizer", "AdamP", BEFORE),
    Peer("pytorch_optimizer", "Lamb", BEFORE),
    Peer("pytorch_optimizer", "Tiger", BEFORE),
    Peer("pytorch_optimizer", "ADOPT", GRADIENT),
    Peer("schedulefree", "SGDScheduleFree", GRADIENT),
    Peer("heavyball", "AdamW", BEFORE, EAGER, exact=False),
    Peer("heavyball", "SGD", BEFORE, EAGER, exact=False),
]
# Their decay stands elsewhere: decoupled from the preconditioner, but not from the average, say.
ELSEWHERE = [
    Peer("optimi", "StableAdamW", None),
    Peer("pytorch_optimizer", "SOAP", None),
    Peer("schedulefree", "AdamWScheduleFree", None),
]
LIONS = [
    Peer("lion_pytorch", "Lion", BEFORE),
    Peer("optimi", "Lion", BEFORE),
    Peer("pytorch_optimizer", "Lion", BEFORE),
    Peer("pytorch_optimizer", "Lion", BEFORE, {"maximize": True}),
    Peer("pytorch_optimizer", "Lion", BEFORE, {"cautious": True}),
    Peer("pytorch_optimizer", "Lion", BEFORE, {"use_gc": True}),
    Peer("lion_pytorch.cautious_lion", "Lion", BEFORE, {"cautious_factor": 0.0}),
]
AVERAGING = [
    Peer("schedulefree", "SGDScheduleFree", GRADIENT),
    Peer("schedulefree", "AdamWScheduleFree", None),
    Peer("schedulefree", "RAdamScheduleFree", None),
    Peer("pytorch_optimizer", "ScheduleFreeAdamW", None),
    Peer("heavyball", "SFAdamW", None, EAGER),
]


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heavyball compiles every kernel, which takes longer than all the rest of this file."""
    if importlib.util.find_spec("heavyball"):
        monkeypatch.setattr(importlib.import_module("heavyball.utils"), "compile_mode", None)


def model_of() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 4, bias=False).double()


def train(model: nn.Module, optimizer: optim.Optimizer, steps: range = range(5)) -> torch.Tensor:
    for step in steps:
        x = torch.randn(6, 5, generator=torch.Generator().manual_seed(step)).double()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return model.weight.detach().clone()


def run(peer: Peer, wd: float, decay: td.Decay | None, via: Any = "hook", **options: Any) -> torch.Tensor:
    model = model_of()
    optimizer = peer.build(model.parameters(), wd, **options)
    if decay is not None:
        td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via=via)
    return train(model, optimizer)


@pytest.mark.parametrize("peer", KNOWN, ids=str)
def test_verify_measures_where_their_own_decay_enters(peer: Peer) -> None:
    """Nothing is known of these classes: the site and the strength are found by stepping."""
    optimizer = peer.build(nn.Linear(5, 4, bias=False).parameters(), WD)
    found = td.verify(optimizer)[0]
    assert found.ok
    assert found.site is peer.site
    assert found.measured == pytest.approx(WD * (LR if peer.site is BEFORE else 1), rel=1e-4)


@pytest.mark.parametrize("peer", KNOWN, ids=str)
def test_by_hook_is_what_their_own_decay_does(peer: Peer) -> None:
    """And the other site is not: the seeded fault."""
    own = run(peer, WD, None)
    same, other = (td.decoupled, td.coupled) if peer.site is BEFORE else (td.coupled, td.decoupled)
    by_hook = run(peer, 0.0, same(WD))
    # float32's rounding of a factor of 0.997, five times, on weights below 1.
    assert torch.equal(own, by_hook) if peer.exact else (own - by_hook).abs().max() < 1e-6
    if peer.library != "schedulefree":
        assert (run(peer, 0.0, other(WD)) - own).abs().max() > 1e-5


@pytest.mark.parametrize("peer", [*KNOWN, *ELSEWHERE], ids=str)
def test_native_is_their_own_weight_decay(peer: Peer) -> None:
    """What it does need not be known for that: the number is written into the group, and given back."""
    model = model_of()
    optimizer = peer.build(model.parameters(), 0.07)
    handle = td.attach(optimizer, td.plan(model, td.native(WD), rules=()), model=model)
    assert torch.equal(train(model, optimizer), run(peer, WD, None))
    handle.remove()
    assert optimizer.param_groups[0]["weight_decay"] == 0.07


@pytest.mark.parametrize("peer", ELSEWHERE, ids=str)
def test_verify_says_so_where_no_single_pull_explains_their_decay(peer: Peer) -> None:
    """Better no answer than a wrong one."""
    found = td.verify(peer.build(nn.Linear(5, 4, bias=False).parameters(), WD))[0]
    assert found.site is None
    assert "No single pull" in found.why


@pytest.mark.parametrize("peer", ELSEWHERE, ids=str)
def test_native_by_hook_is_refused_where_its_meaning_is_not_known(peer: Peer) -> None:
    """Nothing is guessed, and the message says what to write."""
    model = model_of()
    optimizer = peer.build(model.parameters(), 0.0)
    with pytest.raises(ApplyError, match=r"not known.*\n.*\n.*td.coupled\(wd\) or td.decoupled\(wd\)"):
        td.attach(optimizer, td.plan(model, td.native(WD), rules=()), model=model, via="hook")


@pytest.mark.parametrize("peer", LIONS, ids=str)
def test_cautious_decay_follows_the_sign_of_a_lion(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read before the step where the class is known, it is the sign that the step then has."""
    decay = td.cautious(WD)
    read = run(peer, 0.0, decay)
    monkeypatch.setattr(passes, "reads_update_sign", lambda optimizer, group: False)
    measured = run(peer, 0.0, decay)
    # The pull comes before the update or after it, so the last digit may differ.
    torch.testing.assert_close(read, measured, rtol=1e-13, atol=1e-15)
    assert (run(peer, 0.0, td.decoupled(WD)) - measured).abs().max() > 1e-4


@pytest.mark.parametrize("peer", LIONS, ids=str)
def test_lower_says_how_a_lions_sign_is_found(peer: Peer) -> None:
    """Variants that mask or center the update are measured, not read."""
    model = model_of()
    optimizer = peer.build(model.parameters(), 0.0)
    why = td.lower(td.plan(model, td.cautious(WD), rules=()), optimizer, model=model)["weight"].why
    plain = peer.library != "optimi" and not {"cautious", "use_gc", "cautious_factor"} & set(peer.options)
    assert ("read from state" in why) is plain
    assert ("measured against a copy" in why) is not plain


def test_a_lion_read_with_the_wrong_sign_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded fault of the comparison with what was measured."""
    right = run(LIONS[0], 0.0, td.cautious(WD))
    for module in (gradients, steps):
        monkeypatch.setattr(module, "maximizes", lambda optimizer, group: True)
    assert (run(LIONS[0], 0.0, td.cautious(WD)) - right).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["Lion", "ADOPT"])
def test_coupled_decay_shrinks_where_a_library_maximizes(name: str) -> None:
    """pytorch-optimizer keeps `maximize` on the optimizer: the pull is negated with the gradient, and so the same."""

    def run(maximize: bool) -> torch.Tensor:
        peer = Peer("pytorch_optimizer", name, GRADIENT, {"maximize": maximize})
        model = model_of()
        optimizer = peer.build(model.parameters(), 0.0)
        td.attach(optimizer, td.plan(model, td.coupled(WD), rules=()), model=model, via="hook")
        for _ in range(20):
            model.weight.grad = torch.zeros_like(model.weight)
            optimizer.step()
        return model.weight.detach().clone()

    before, found = model_of().weight.detach(), run(maximize=True)
    assert torch.equal(found, run(maximize=False))
    assert found.norm() < 0.8 * before.norm()


@pytest.mark.parametrize("form", ["decoupled", "independent", "per_step", "cautious", "l1"])
@pytest.mark.parametrize("peer", AVERAGING, ids=str)
def test_a_pull_on_parameters_that_hide_the_weights_is_refused(peer: Peer, form: str) -> None:
    """Schedule-free optimizers train weights that no hook sees: the message says why, and what would do."""
    model = model_of()
    optimizer = peer.build(model.parameters(), 0.0)
    before = dict(optimizer.param_groups[0])
    with pytest.raises(ApplyError, match=r"(?s)can't run on .*hidden weights.*td.native\(wd\), or td.coupled\(wd\)"):
        td.attach(optimizer, td.plan(model, getattr(td, form)(0.01), rules=()), model=model)
    assert {key: optimizer.param_groups[0][key] for key in before} == before


def test_schedule_free_goes_on_with_decay_after_an_evaluation() -> None:
    """`eval` and `train` move the parameters there and back: the decay of the steps around it is the same."""
    peer = Peer("schedulefree", "SGDScheduleFree", GRADIENT)

    def interrupted(wd: float, decay: td.Decay | None) -> list[torch.Tensor]:
        model = model_of()
        optimizer: Any = peer.build(model.parameters(), wd)
        if decay is not None:
            td.attach(optimizer, td.plan(model, decay, rules=()), model=model, via="hook")
        train(model, optimizer, range(3))
        optimizer.eval()
        averaged = model.weight.detach().clone()
        optimizer.train()
        return [averaged, train(model, optimizer, range(3, 6))]

    own, by_hook = interrupted(WD, None), interrupted(0.0, td.coupled(WD))
    assert all(torch.equal(a, b) for a, b in zip(own, by_hook, strict=True))
    assert not torch.equal(interrupted(0.0, None)[1], own[1])


def test_a_step_that_schedule_free_refuses_changes_nothing() -> None:
    """A step in eval mode raises inside the optimizer: weights, gradient and counters stay what they were."""
    peer = Peer("schedulefree", "SGDScheduleFree", GRADIENT)
    model = model_of()
    optimizer: Any = peer.build(model.parameters(), 0.0)
    td.attach(optimizer, td.plan(model, td.coupled(WD), rules=()), model=model)
    train(model, optimizer)
    optimizer.eval()
    model.weight.grad = torch.ones_like(model.weight)
    before = model.weight.detach().clone(), optimizer.state_dict()["torchdecay"]
    with pytest.raises(Exception, match="train mode"):
        optimizer.step()
    assert torch.equal(model.weight, before[0])
    assert optimizer.state_dict()["torchdecay"] == before[1]
    optimizer.train()
    optimizer.step()
    assert torch.equal(model.weight.grad, torch.ones_like(model.weight))


RESUMED = [
    *(one for one in KNOWN if one.library != "heavyball"),
    *AVERAGING[1:4],
    Peer("pytorch_optimizer", "Shampoo", None),
]


@pytest.mark.parametrize("peer", RESUMED, ids=str)
def test_a_run_on_another_librarys_optimizer_resumes_bit_for_bit(peer: Peer) -> None:
    """Counters travel in a state dict that the library writes itself."""
    ramp = td.schedules.linear(1.0, 0.1, 6)
    decay = (td.decoupled if peer.site is BEFORE else td.coupled)(WD, schedule=ramp)

    def job() -> tuple[nn.Linear, optim.Optimizer]:
        model = model_of()
        optimizer = peer.build(model.parameters(), 0.0)
        td.attach(optimizer, td.plan(model, decay, rules=()), model=model)
        return model, optimizer

    model, optimizer = job()
    expected = train(model, optimizer, range(6))
    model, optimizer = job()
    train(model, optimizer, range(3))
    fresh, again = job()
    fresh.load_state_dict(model.state_dict())
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(train(fresh, again, range(3, 6)), expected)


@pytest.mark.parametrize("library", ["pytorch_optimizer", "timm.optim.adahessian"])
def test_gradients_that_are_differentiated_again_are_left_their_graph(library: str) -> None:
    """AdaHessian asks for them in its step: coupled decay is then a penalty in the loss, and others come after it."""

    def run(decay: td.Decay | None, penalty: float = 0.0) -> torch.Tensor:
        name = "AdaHessian" if library == "pytorch_optimizer" else "Adahessian"
        model = model_of()
        optimizer = Peer(library, name, None).build(model.parameters(), 0.0)
        if decay is not None:
            why = td.attach(optimizer, td.plan(model, decay, rules=()), model=model).lowering["weight"].why
            assert (f"since {name} differentiates gradients again" in why) is (decay == td.decoupled(WD))
        for step in range(3):
            torch.manual_seed(step)
            optimizer.zero_grad()
            loss = model(torch.ones(6, 5).double()).square().mean() + penalty / 2 * model.weight.square().sum()
            loss.backward(create_graph=True)
            optimizer.step()
        return model.weight.detach().clone()

    plain = run(None)
    assert torch.equal(run(td.coupled(WD)), run(None, penalty=WD))
    assert not torch.equal(run(td.coupled(WD)), plain) and run(td.decoupled(WD)).norm() < plain.norm()
    with pytest.raises(ApplyError, match="differentiates gradients again in its step"):
        run(td.cautious(WD))
