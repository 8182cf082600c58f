"""Values, models and hypothesis strategies that several tests of plans share."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

import torchdecay as td
from torchdecay.encoding import Opaque
from torchdecay.plans import controllers, forms, update_rules
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.presets import PRESETS
from torchdecay.plans.references import Average, Bound, BoundMask, File, Filled, Initial, SpareRows
from torchdecay.plans.regularizers import (
    L1,
    L2,
    CustomRegularizer,
    Deviation,
    ElasticNet,
    GroupLasso,
    Huber,
    PNorm,
    Spectral,
    SquaredNorm,
)
from torchdecay.plans.rows import Row
from torchdecay.plans.schedules import Constant, Cosine, Custom, FollowLr, InverseTime, Linear, Piecewise, Warmup

LAMBDA = lambda step: 1.0  # noqa: E731  (what cannot be written to a file is what is tested)


def double(step: int) -> float:
    return 2.0 * step


REGULARIZERS = [L2(), L1(), ElasticNet(0.3, 0.7), Huber(0.5), SquaredNorm(), Deviation(), Spectral(), GroupLasso()]

SCHEDULES = [
    Constant(),
    Linear(1.0, 0.25, 10),
    Cosine(0.1, 1.0, 8),
    Warmup(4),
    Warmup(4, Warmup(3, Cosine(1.0, 0.0, 5))),
    InverseTime(3.0),
    Piecewise(((0, 0.5), (3, 2.0), (7, 0.0))),
    FollowLr(),
    Warmup(2, FollowLr()),
    Custom(double),
]


def as_hard_as(name: str, wd: float) -> Decay:
    """A form's example with another coefficient, and each group's own peak."""
    decay = PRESETS[name].shown
    if isinstance(decay.regularizer, ElasticNet):
        return decay.replace(regularizer=ElasticNet(wd, wd))
    return decay.replace(coefficient=wd, max_lr=None)


def everywhere(decay: Decay) -> list[Any]:
    """Rules by which a decay is on all that it can be on: a bias of one length is refused."""
    matrices = (decay.per != "tensor" and decay.per is not None) or isinstance(decay.update, update_rules.Sphere)
    return [td.rule(td.ndim(0, 1), None, optional=True)] if matrices else []


DECAYS = [
    *(one.shown for one in PRESETS.values()),
    td.decoupled(0.123456789),
    td.decoupled(0.1, rows="lazy"),
    td.per_step(0.1, rows="touched"),
    td.independent(0.01),
    td.per_step(1.0),
    td.corrected(0.1, max_lr=3.0),
    td.cautious(0.1, zero_update="spare"),
    td.toward("pretrained", 0.1),
    td.toward(1.0, 0.1),
    forms.adaptive(0.02, beta=0.5),
    forms.ada_decay(1e-4, alpha=2.0),
    forms.hyperball(2.0, per="row"),
    forms.radial_brake(outward=0.0, inward=0.25, per="column"),
    forms.norm_control(0.1, per="row"),
    forms.projection("current", per="expert", schedule=td.schedules.linear(1, 0, 9)),
    forms.group_lasso(0.1, per="column"),
    forms.p_norm(0.1, p=0.5),
    forms.constrained(kappa=3.0),
    forms.constrained(kappa_initial=0.5, measure="std"),
    forms.constrained(warmup_steps=10, rho=0.1),
    td.decoupled(0.1, mask=td.spare_rows(0, 3)),
    td.coupled(0.1, mask="keep"),
    td.decoupled(0.1, schedule=td.schedules.cosine(0.1, 1, 100)),
    Decay(coefficient=0.1, site=Site.GRADIENT, regularizer=L1()),
]


def values_of_every_type() -> list[Any]:
    """At least one value of every type that may travel in a plan's JSON."""
    row = Row(
        names=("a.weight", "b.weight"),
        shape=(2, 3),
        role="weight",
        reason="rule 1",
        decay=td.decoupled(0.1),
        options=(("betas", [0.9, 0.99]), ("lr", 0.1)),
    )
    return [
        *REGULARIZERS,
        PNorm(1.5),
        CustomRegularizer(double),
        *SCHEDULES,
        *Site,
        *Scale,
        td.decoupled(0.1),
        controllers.Cautious("spare"),
        controllers.TouchedRows(),
        controllers.LazyRows(),
        controllers.Stable(),
        controllers.GradientNormRatio(0.5),
        controllers.GradientSigmoid(2.0),
        controllers.Multiplier("warmup", warmup_steps=3),
        controllers.NormRatio(0.5),
        controllers.Projection(),
        controllers.BySpectrum(0.5, 2.0, 10, 4),
        update_rules.Hyperball("row", 2.0),
        update_rules.NormProjection(None, "current"),
        update_rules.RadialBrake(None, 0.0, 0.5),
        update_rules.RelativeUpdate("column"),
        Initial(),
        Average(0.9),
        Filled(1.0),
        File("weights.safetensors", "00ff"),
        Bound("pretrained"),
        SpareRows((0, 2)),
        BoundMask("keep"),
        Opaque("<lambda>"),
        row,
        td.Plan(rows=(row,), decay=td.decoupled(0.1), policy="timm", frozen=("c",)),
    ]


# ── Models ──


class TiedModel(nn.Module):
    """A head that shares its weight with the embedding, in either order."""

    def __init__(self, *, head_first: bool = False) -> None:
        super().__init__()
        embed, head = nn.Embedding(5, 3), nn.Linear(3, 5)
        head.weight = embed.weight
        for name, module in (("head", head), ("embed", embed))[:: 1 if head_first else -1]:
            self.add_module(name, module)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, 1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)


class Deep(nn.Module):
    """A stack of like blocks between an embedding and a head: hundreds of parameters, few kinds."""

    def __init__(self, depth: int, width: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, 7)


class Odd(nn.Module):
    """One parameter that nothing speaks for a role of."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.zorp = nn.Parameter(torch.randn(3, 2))


class Bottleneck(nn.Module):
    def __init__(self, inside: int, width: int, *, stride: int, widen: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        if widen:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )


class ResNet50(nn.Module):
    """The parameters of a ResNet-50, under the names that torchvision gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inside = 64
        for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(Bottleneck(inside, width, stride=stride, widen=index == 0))
                inside = 4 * width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inside, 1000)


def resnet50() -> ResNet50:
    """On the meta device: names, shapes and classes, but no numbers."""
    with torch.device("meta"):
        return ResNet50()


# ── Strategies ──

numbers = st.floats(0, 1e6, allow_subnormal=False)
fractions = st.floats(0, 1)
positive = st.floats(1e-6, 1e6)
counts = st.integers(1, 10_000)

schedules = st.recursive(
    st.one_of(
        st.just(Constant()),
        st.builds(Linear, numbers, numbers, counts),
        st.builds(Cosine, numbers, numbers, counts),
        st.builds(InverseTime, positive),
        st.just(FollowLr()),
        st.dictionaries(st.integers(0, 10_000), numbers, min_size=1, max_size=4).map(td.schedules.piecewise),
        st.just(Custom(math.atan)),
    ),
    lambda inner: st.builds(Warmup, counts, inner),
    max_leaves=3,
)
masks = st.one_of(
    st.none(),
    st.lists(st.integers(0, 9), min_size=1, max_size=3).map(lambda rows: td.spare_rows(*rows)),
    st.just("keep"),
)
references = st.sampled_from(["initial", "pretrained", 1.0, -0.5])
radii = st.sampled_from(["initial", "current"]) | positive
slices = st.sampled_from([None, "tensor", "row", "column", "expert"])
common = {"schedule": schedules, "mask": masks}
decays = st.one_of(
    st.builds(td.native, numbers, schedule=schedules),
    st.builds(td.coupled, numbers, **common),
    st.builds(td.decoupled, numbers, **common),
    st.builds(td.independent, numbers, max_lr=st.none() | positive, **common),
    st.builds(td.per_step, fractions, **common),
    st.builds(td.corrected, numbers, max_lr=st.none() | positive, **common),
    st.builds(td.cautious, numbers, zero_update=st.sampled_from(["decay", "spare"]), **common),
    st.builds(td.penalized, numbers, **common),
    st.builds(td.l1, numbers, **common),
    st.builds(td.elastic_net, l1=numbers, l2=numbers, **common),
    st.builds(td.toward, references, numbers, **common),
    st.builds(forms.proximal, numbers, **common),
    st.builds(forms.huber, numbers, delta=positive, **common),
    st.builds(forms.group_lasso, numbers, per=st.sampled_from(["row", "column", "expert"]), schedule=schedules),
    st.builds(forms.p_norm, numbers, p=positive, **common),
    st.builds(forms.hyperball, radii, per=slices, schedule=schedules),
    st.builds(forms.projection, radii, per=slices, schedule=schedules),
    st.builds(forms.radial_brake, outward=fractions, inward=fractions, per=slices, schedule=schedules),
    st.builds(forms.relative_update, per=slices, schedule=schedules),
    st.builds(forms.by_spectrum, numbers, every_steps=counts, **common),
)

layers = st.sampled_from(
    [
        lambda: nn.Linear(3, 2),
        lambda: nn.Linear(3, 2, bias=False),
        lambda: nn.Conv1d(2, 3, 2),
        lambda: nn.LayerNorm(3),
        lambda: nn.BatchNorm1d(3),
        lambda: nn.Embedding(4, 3),
        lambda: nn.Bilinear(2, 2, 2),
        lambda: nn.PReLU(),
        lambda: nn.LSTM(2, 2),
        lambda: nn.MultiheadAttention(2, 1),
        lambda: nn.ParameterList([torch.zeros(2, 2), torch.zeros(3)]),
        Odd,
        TiedModel,
    ]
)


@st.composite
def models(draw: st.DrawFn) -> nn.Module:
    """A model of a few layers, some nested, some frozen, some shared; at least one parameter is trainable."""
    made: list[nn.Module] = []
    with torch.device("meta"):
        for layer in draw(st.lists(layers, min_size=1, max_size=5)):
            made.append(draw(st.sampled_from([lambda m: m, nn.Sequential]))(layer()))
    if draw(st.booleans()):
        made.append(draw(st.sampled_from(made)))
    model = nn.Sequential(*made)
    parameters = list(model.parameters())
    frozen = draw(st.sets(st.integers(0, len(parameters) - 1), max_size=len(parameters) - 1))
    for index in frozen:
        parameters[index].requires_grad_(False)
    return model


globs = st.sampled_from(["*", "*.weight", "*.bias", "0.*", "?.weight", "[12].*", "*_l0", "nothing.here", "*e*"])
leaves = st.one_of(
    globs,
    st.sets(st.sampled_from(["weight", "bias", "norm", "embedding", "recurrent", "unknown"]), min_size=1).map(
        lambda roles: td.role(*sorted(roles))
    ),
    st.sets(st.integers(0, 4), min_size=1).map(lambda counts: td.ndim(*sorted(counts))),
    st.sampled_from([nn.Linear, nn.LayerNorm, nn.Module, nn.Embedding]),
    st.just(td.exempt()),
).map(lambda value: td.rule(value).selector)
selectors = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=4,
)
choices = st.one_of(
    st.none(), st.just(td.DEFAULT), st.floats(0, 3).map(td.times), st.sampled_from(DECAYS), st.floats(0, 1)
)
options = st.fixed_dictionaries({}, optional={"lr": st.sampled_from([0.1, 0.01]), "momentum": st.just(0.9)})
rules = st.lists(
    st.builds(
        lambda selector, decay, extra: td.rule(selector, decay, optional=True, **extra), selectors, choices, options
    ),
    max_size=5,
)
