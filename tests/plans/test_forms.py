"""Presets: each is the choice of axes that its equation says, and prints as the call that makes it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn

import torchdecay as td
from plans.examples import DECAYS, decays
from torchdecay import Scale, Site, forms
from torchdecay.errors import DecayError
from torchdecay.plans.decay import as_decay
from torchdecay.plans.presets import PRESETS, form_of
from torchdecay.plans.references import Bound, File, Initial
from torchdecay.plans.regularizers import L1, L2, ElasticNet, Huber
from torchdecay.plans.schedules import Constant

# How each preset is called with one number where that is enough.
CALLS: dict[str, Any] = {
    "elastic_net": lambda wd: td.elastic_net(l1=wd, l2=wd),
    "toward": lambda wd: td.toward("initial", wd),
    "projected": lambda wd: forms.projected("initial", wd),
    "constrained": lambda wd: forms.constrained(kappa=wd),
    "p_norm": lambda wd: forms.p_norm(wd, p=1),
    "hyperball": lambda wd: forms.hyperball(wd),
    "projection": lambda wd: forms.projection(wd),
    "radial_brake": lambda wd: forms.radial_brake(outward=wd),
}
by_preset = pytest.mark.parametrize("name", PRESETS)
by_number = pytest.mark.parametrize("name", [name for name in PRESETS if name != "relative_update"])
"""Those that take a number."""


def call(name: str, wd: Any) -> td.Decay:
    if name == "relative_update":
        return forms.relative_update()
    made: td.Decay = CALLS.get(name, PRESETS[name].make)(wd)
    return made


@pytest.mark.parametrize(
    ("decay", "site", "scale", "regularizer", "proximal"),
    [
        (td.native(0.1), Site.NATIVE, Scale.ONE, L2(), False),
        (td.coupled(0.1), Site.GRADIENT, Scale.ONE, L2(), False),
        (td.decoupled(0.1), Site.BEFORE, Scale.LR, L2(), False),
        (td.independent(0.1), Site.BEFORE, Scale.LR_RATIO, L2(), False),
        (td.per_step(0.1), Site.BEFORE, Scale.ONE, L2(), False),
        (td.corrected(0.1), Site.BEFORE, Scale.LR_SQUARED, L2(), False),
        (td.cautious(0.1), Site.BEFORE, Scale.LR, L2(), False),
        (td.penalized(0.1), Site.LOSS, Scale.ONE, L2(), False),
        (td.l1(0.1), Site.AFTER, Scale.LR, L1(), True),
        (td.elastic_net(l1=0.1, l2=0.2), Site.AFTER, Scale.LR, ElasticNet(0.1, 0.2), True),
        (td.toward("initial", 0.1), Site.BEFORE, Scale.LR, L2(), False),
        (forms.proximal(0.1), Site.AFTER, Scale.LR_RATIO, L2(), True),
        (forms.huber(0.1, delta=2.0), Site.AFTER, Scale.LR, Huber(2.0), True),
    ],
    ids=repr,
)
def test_each_preset_chooses_its_axes(decay: td.Decay, site: Any, scale: Any, regularizer: Any, proximal: bool) -> None:
    """The published form is this row of axes and nothing else."""
    assert (decay.site, decay.scale, decay.regularizer, decay.proximal) == (site, scale, regularizer, proximal)
    assert decay.schedule == Constant()
    assert decay.mask is None


def test_the_sites_are_those_of_the_design() -> None:
    """Which form enters where is fixed for every preset, so that none moves unnoticed."""
    sites: dict[str, set[str]] = {}
    for name in PRESETS:
        sites.setdefault(call(name, 0.1).site.name, set()).add(name)
    assert sites.pop("LOSS") == {"penalized"}
    assert sites.pop("NATIVE") == {"native"}
    assert sites.pop("GRADIENT") == {"coupled", "adaptive", "ada_decay"}
    assert sites.pop("AFTER") == {
        *("l1", "elastic_net", "huber", "proximal", "constrained", "projected", "norm_control"),
        *("hyperball", "projection", "radial_brake", "relative_update", "group_lasso", "p_norm"),
    }
    assert set(sites) == {"BEFORE"}


@by_preset
def test_every_preset_is_read_back_from_its_axes(name: str) -> None:
    """A Decay keeps no name: what it is called is what its axes add up to."""
    assert form_of(call(name, 0.1)) == name


@by_number
@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf"), "0.1", True, None, [0.1]], ids=repr)
def test_every_preset_refuses_a_number_that_is_none(name: str, bad: Any) -> None:
    """The check stands behind every preset and not only the first that somebody tried."""
    with pytest.raises(DecayError):
        call(name, bad)


@by_preset
def test_what_tells_presets_apart_is_keyword_only(name: str) -> None:
    """decoupled(0.1, 0.2) would be unreadable, and adding an argument would break it."""
    kinds = [one.kind for one in PRESETS[name].parameters.values()]
    free = 2 if name in ("toward", "projected") else 1
    assert all(kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds[free:])


@by_preset
def test_every_preset_takes_a_schedule(name: str) -> None:
    """`schedule=` works on all of them, a plain function too."""
    parts = PRESETS[name].parameters
    assert "schedule" in parts
    for schedule in (td.schedules.warmup(5), lambda step: 0.5):
        extra: dict[str, Any] = {"schedule": schedule}
        wd: dict[str, Any] = {
            "elastic_net": {"l1": 0.1, "l2": 0.1},
            "toward": {"reference": "initial", "wd": 0.1},
            "projected": {"reference": "initial", "wd": 0.1},
            "constrained": {"kappa": 0.1},
            "per_step": {"fraction": 0.1},
            "p_norm": {"wd": 0.1, "p": 1},
            "hyperball": {"radius": 0.1},
            "projection": {"radius": 0.1},
            "radial_brake": {},
            "relative_update": {},
        }.get(name, {"wd": 0.1})
        decay = PRESETS[name].make(**wd, **extra)
        assert decay.coefficient_at(3) == decay.coefficient * decay.schedule(3) != decay.coefficient


def test_of_the_examples_one_has_no_name() -> None:
    """What the tests of printing leave out, so that a preset that is not recognized does not slip through."""
    assert [decay for decay in DECAYS if form_of(decay) == "custom"] == DECAYS[-1:]


@pytest.mark.parametrize("decay", DECAYS[:-1], ids=repr)
def test_a_preset_prints_as_the_call_that_makes_it(decay: td.Decay) -> None:
    """What a table shows can be pasted into a script, and gives an equal value."""
    assert again(repr(decay)) == decay


@given(decay=decays)
def test_any_preset_prints_as_the_call_that_makes_it(decay: td.Decay) -> None:
    """Whatever the numbers: no digit is lost in print."""
    unscheduled = decay.replace(schedule=Constant())
    assert again(repr(unscheduled)) == unscheduled


def again(text: str) -> Any:
    return eval(
        text, vars(td.schedules) | {name: one.make for name, one in PRESETS.items()} | {"spare_rows": td.spare_rows}
    )


# ── References and masks ──


def test_toward_knows_its_four_kinds_of_reference(tmp_path: Path) -> None:
    """ "initial", a file with its hash, a mapping of tensors, or a name to bind."""
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.ones(2)}, path)
    tensors = {"weight": torch.ones(2)}
    assert td.toward("initial", 0.1).reference == Initial()
    assert td.toward("pretrained", 0.1).reference == Bound("pretrained")
    for spelled in (path, str(path)):
        reference = td.toward(spelled, 0.1).reference
        assert isinstance(reference, File)
        assert len(reference.sha256) == 64
    assert td.toward(tensors, 0.1).reference == td.toward(tensors, 0.1).reference


def test_average_of_beta_one_is_as_far_as_it_goes() -> None:
    """β is a share."""
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(DecayError):
            forms.toward_average(0.1, beta=bad)


# ── The rarer ones ──


@pytest.mark.parametrize(
    "bounds", [{}, {"kappa": 1.0, "kappa_initial": 1.0}, {"kappa": 1.0, "warmup_steps": 3}], ids=str
)
def test_constrained_takes_exactly_one_bound(bounds: dict[str, Any]) -> None:
    """Two bounds would leave the user guessing which one counts."""
    with pytest.raises(DecayError, match="bounds"):
        forms.constrained(**bounds)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kappa": -1.0},
        {"kappa": float("nan")},
        {"kappa_initial": "1"},
        {"warmup_steps": 0},
        {"warmup_steps": 2.5},
        {"kappa": 1.0, "rho": 0.0},
        {"kappa": 1.0, "rho": -1.0},
        {"kappa": 1.0, "measure": "sqared"},
    ],
    ids=str,
)
def test_constrained_refuses_bounds_out_of_range(wrong: dict[str, Any]) -> None:
    """A bound that means nothing is refused when it is written."""
    with pytest.raises(DecayError):
        forms.constrained(**wrong)


def test_a_misspelled_measure_gets_the_nearest() -> None:
    """The message carries the right spelling."""
    with pytest.raises(DecayError, match='Nearest: "squared"'):
        forms.constrained(kappa=1.0, measure="sqared")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: td.cautious(0.1, zero_update="keep"),  # type: ignore[arg-type]
        lambda: forms.huber(0.1, delta=0),
        lambda: forms.adaptive(0.1, beta=0),
        lambda: forms.adaptive(0.1, beta=1.5),
        lambda: forms.ada_decay(0.1, alpha=-1),
        lambda: forms.norm_control(0.1, ratio=-1),
        lambda: forms.by_spectrum(0.1, low=2, high=1),
        lambda: forms.by_spectrum(0.1, every_steps=0),
        lambda: td.elastic_net(l1=0.1, l2=-0.1),
        lambda: td.per_step(1.5),
    ],
)
def test_second_numbers_are_checked_too(make: Any) -> None:
    """Every number that a preset takes has a range."""
    with pytest.raises(DecayError):
        make()


# ── From what people pass as a decay ──


def test_a_number_is_the_optimizers_own_weight_decay_and_zero_is_none() -> None:
    """`td.plan(model, 0.1)` means what `weight_decay=0.1` means there."""
    assert as_decay(0.1) == td.native(0.1)
    assert as_decay(1) == td.native(1.0)
    assert as_decay(0) is as_decay(0.0) is as_decay(-0.0) is as_decay(None) is None
    assert as_decay(td.l1(0.1)) == td.l1(0.1)


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), True, "0.1", "decoupled:0.1", nn.Linear, []], ids=repr)
def test_anything_else_is_no_decay(bad: Any) -> None:
    """A spelling of the command line, a class or a list is told apart from a value."""
    with pytest.raises(DecayError):
        as_decay(bad)
