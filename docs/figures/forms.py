"""Draw what each form does to a weight of two parameters: `python docs/figures/forms.py [FORM ...]`.

Each case trains a weight (w1, w2) on one small quadratic loss with the package itself, and notes the path; and takes
one step from each point of a grid, with and without the form, and notes the difference: the pull. Both go into
`docs/assets/forms/FORM.json`, and from there into two pictures, for light and for dark pages.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torchdecay as td
from torchdecay.reports.drawing.palette import DARK, LIGHT

FOLDER = Path(__file__).parents[1] / "assets" / "forms"
CENTER = torch.tensor([1.9, 0.6], dtype=torch.float64)
CURVATURE = torch.tensor([[0.55, 0.1], [0.1, 1.1]], dtype=torch.float64)
STARTS = ((-2.2, 1.6), (2.6, -2.0), (-0.9, -2.2))
SPAN = 2.8
CONTOURS = (0.4, 0.9, 1.5, 2.2, 3.0, 3.9)
GRID = [round(-2.4 + 0.6 * i, 1) for i in range(9)]
COPIES = 200

Point = tuple[float, float]


def sgd(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Plain SGD."""
    return torch.optim.SGD(parameters, **{"lr": 0.1} | options)


def adam(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adam with a memory that fits short runs."""
    return torch.optim.Adam(parameters, **{"lr": 0.05, "betas": (0.9, 0.99)} | options)


def adamw(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """The same, with the decay of AdamW."""
    return torch.optim.AdamW(parameters, **{"lr": 0.05, "betas": (0.9, 0.99), "weight_decay": 0.0} | options)


@dataclass(frozen=True)
class Run:
    """One line in the picture: its name, its decay or none, and its optimizer where that is not the case's."""

    label: str
    decay: td.Decay | None
    optimizer: Callable[..., torch.optim.Optimizer] | None = None


@dataclass(frozen=True)
class Case:
    """What one picture shows.

    Attributes:
        run: the form itself.
        other: its neighbor.
        says: one sentence under the picture: what to see in it.
        optimizer: of all runs that have none of their own.
        options: of the optimizer.
        noise: standard deviation of the gradient's noise in both directions; the path is then the mean of many copies.
        steps: how many, and every which of them is noted.
        falling: whether the learning rate falls to 0 along a cosine.
        clip: largest norm of the gradient.
        anchor: the reference, where the form has one that is not the start.
        attach_at: where the weight stands at attach, for the field.
        shape: "vector"; "row", of a matrix of one; "diagonal" of a 2 x 2 matrix; "matrices", two of which have the two
            parameters as sizes.
        circle: a radius to draw.
        starts: of the paths.
        field_steps: how many steps the pull is measured over.
        flat_field: whether the pull is measured where there is noise alone.
        field_optimizer: of the pull, where another one shows it in one step.
    """

    run: Run
    other: Run
    says: str
    optimizer: Callable[..., torch.optim.Optimizer] = sgd
    options: tuple[tuple[str, float], ...] = ()
    noise: Point | None = None
    steps: int = 60
    every: int = 3
    falling: bool = False
    clip: float | None = None
    anchor: Point | None = None
    attach_at: Point | None = None
    shape: str = "vector"
    circle: float | None = None
    starts: tuple[Point, ...] = STARTS
    field_steps: int = 1
    flat_field: bool = False
    field_optimizer: Callable[..., torch.optim.Optimizer] | None = None

    @property
    def runs(self) -> tuple[Run, Run, Run]:
        """The three lines of the picture."""
        return Run("no decay", None), self.run, self.other


class Weight(nn.Module):
    """Two parameters in the shape that a form wants, with the loss of one quadratic over them."""

    def __init__(self, case: Case, at: Point, *, flat: bool = False) -> None:
        super().__init__()
        self.case, self.flat = case, flat
        self.noise = torch.Generator().manual_seed(0)
        if case.shape == "matrices":
            self.units = [unit(1.5), unit(0.25)]
            self.w1 = nn.Parameter(at[0] * self.units[0])
            self.w2 = nn.Parameter(at[1] * self.units[1])
        else:
            self.w = nn.Parameter(self.shaped(at))

    def shaped(self, at: Point) -> Tensor:
        """A point in the shape that the case has."""
        point = torch.tensor(at, dtype=torch.float64)
        if self.case.shape == "diagonal":
            return torch.diag(point)
        if self.case.shape == "row":
            return point[None]
        return point.repeat(COPIES, 1) if self.case.noise else point

    def points(self) -> Tensor:
        """(w1, w2) of each copy."""
        if self.case.shape == "matrices":
            return torch.stack([(self.w1 * self.units[0]).sum(), (self.w2 * self.units[1]).sum()])[None]
        if self.case.shape == "diagonal":
            return torch.diagonal(self.w)[None]
        return self.w.reshape(-1, 2)

    def place(self) -> list[float]:
        """(w1, w2), the mean over the copies."""
        with torch.no_grad():
            return [float(value) for value in self.points().mean(0)]

    def move(self, at: Point) -> None:
        """Put the weight elsewhere."""
        with torch.no_grad():
            if self.case.shape == "matrices":
                self.w1.copy_(at[0] * self.units[0])
                self.w2.copy_(at[1] * self.units[1])
            else:
                self.w.copy_(self.shaped(at))

    def loss(self) -> Tensor:
        """½(w − center)ᵀ·curvature·(w − center), with noise in its slope where the case has some."""
        points = self.points()
        away = points - CENTER
        value = 0.5 * (away @ CURVATURE * away).sum() * (0.0 if self.flat else 1.0)
        if self.case.noise:
            drawn = torch.randn(points.shape, generator=self.noise, dtype=torch.float64)
            value = value + (drawn * torch.tensor(self.case.noise, dtype=torch.float64) * points).sum()
        return value


def unit(tail: float) -> Tensor:
    """A 64 x 64 matrix of norm 1 whose singular values fall as i^(−tail)."""
    drawn = torch.randn(64, 64, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    left, _, right = torch.linalg.svd(drawn)
    values = torch.arange(1, 65, dtype=torch.float64) ** -tail
    return left @ torch.diag(values / values.norm()) @ right


def train(
    case: Case, run: Run, start: Point, *, steps: int, at: Point | None = None, lr: float | None = None
) -> Iterator[list[float]]:
    """Yield the place before the first step and after each; with `at`, from there after an attach at the start."""
    weight = Weight(case, start, flat=case.flat_field and at is not None)
    options: dict[str, Any] = {} if at is not None and case.field_optimizer else dict(case.options)
    if lr is not None:
        options["lr"] = lr
    optimizer = (run.optimizer or case.optimizer)(weight.parameters(), **options)
    handle = None
    if run.decay is not None:
        anchor = case.anchor or start
        bind = {"anchor": {name: weight.shaped(anchor) for name, _ in weight.named_parameters()}}
        plan = td.plan(weight, run.decay, rules=())
        named = "anchor" in repr(run.decay)
        handle = td.attach(optimizer, plan, model=weight, bind=bind if named else None)
    if at is not None:
        weight.move(at)
    yield weight.place()
    peak = optimizer.param_groups[0]["lr"]
    for step in range(steps):
        if case.falling:
            optimizer.param_groups[0]["lr"] = peak * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        loss = weight.loss()
        if handle is not None and run.decay is not None and run.decay.site is td.Site.LOSS:
            loss = loss + handle.penalty(weight)
        loss.backward()
        if case.clip:
            nn.utils.clip_grad_norm_(weight.parameters(), case.clip)
        optimizer.step()
        yield weight.place()


def path(case: Case, run: Run, start: Point) -> list[list[float]]:
    """The places (w1, w2) along a training, every so many steps."""
    places = train(case, run, start, steps=case.steps)
    return [rounded(place) for step, place in enumerate(places) if step % case.every == 0]


def pull(case: Case, run: Run, at: Point) -> list[float]:
    """What the form adds to a step taken at a point: displacement with it, less displacement without."""
    lr = 1e-4 if case.field_steps > 1 else None
    ends = []
    optimizer = case.field_optimizer or run.optimizer
    for decay in (run.decay, None):
        start = case.attach_at or at
        ends.append(list(train(case, Run("", decay, optimizer), start, steps=case.field_steps, at=at, lr=lr))[-1])
    return [float(f"{a - b:.4g}") for a, b in zip(*ends, strict=True)]


def rounded(place: list[float]) -> list[float]:
    """Four digits, and no negative zero."""
    return [round(value, 4) + 0.0 for value in place]


def numbers(name: str) -> dict[str, Any]:
    """Everything that the picture of a form is drawn from."""
    case = CASES[name]
    grid = [(x, y) for x in GRID for y in GRID]
    return {
        "form": name,
        "paths": {run.label: [path(case, run, start) for start in case.starts] for run in case.runs},
        "pull": [[x, y, *pull(case, case.run, (x, y))] for x, y in grid],
    }


COSINE = {"falling": True, "steps": 120, "every": 4}
NOISY = {"noise": (2.0, 0.5), "steps": 240, "every": 8, "field_steps": 40, "flat_field": True}
ANCHOR = (-1.2, 1.2)
RING = ((-1.5, 1.5), (0.9, -1.92), (-1.92, -0.9))

CASES: dict[str, Case] = {
    "native": Case(
        Run("native(0.3) on AdamW", td.native(0.3), adamw),
        Run("native(0.3) on Adam", td.native(0.3), adam),
        "One number, two optimizers, two endings. The gradient's noise is ten times larger along w1.",
        optimizer=adamw,
        **NOISY,
    ),
    "coupled": Case(
        Run("coupled(0.3)", td.coupled(0.3)),
        Run("decoupled(0.3)", td.decoupled(0.3)),
        "Under Adam, with ten times more noise along w1: coupled decay hardly pulls w1, for Adam divides by the noise.",
        optimizer=adam,
        **NOISY,
    ),
    "decoupled": Case(
        Run("decoupled(0.3)", td.decoupled(0.3)),
        Run("decoupled(1)", td.decoupled(1.0)),
        "Every weight is pulled toward zero in proportion to its size; a larger λ ends nearer to zero.",
    ),
    "independent": Case(
        Run("independent(0.02)", td.independent(0.02)),
        Run("decoupled(0.2)", td.decoupled(0.2)),
        "Equal at a peak learning rate of 0.1. Here it is 0.025: independent still takes 2 % a step, decoupled 0.5 %.",
        options=(("lr", 0.025),),
        steps=180,
        every=6,
    ),
    "per_step": Case(
        Run("per_step(0.02)", td.per_step(0.02)),
        Run("decoupled(0.2)", td.decoupled(0.2)),
        "The learning rate falls to 0 along a cosine. The per-step pull stays, and carries the weight away in the end.",
        **COSINE,
    ),
    "corrected": Case(
        Run("corrected(1)", td.corrected(1.0)),
        Run("decoupled(1)", td.decoupled(1.0)),
        "The learning rate falls to 0 along a cosine. The pull falls twice as fast, and the loss wins in the end.",
        **COSINE,
    ),
    "penalized": Case(
        Run("penalized(0.5)", td.penalized(0.5)),
        Run("coupled(0.5)", td.coupled(0.5)),
        "Gradients are clipped to norm 0.5. The penalty is clipped with them; coupled decay comes after, at full size.",
        clip=0.5,
        steps=120,
        every=5,
    ),
    "l1": Case(
        Run("l1(0.9)", td.l1(0.9)),
        Run("decoupled(0.9)", td.decoupled(0.9)),
        "A pull of the same size at every distance: w2 reaches zero exactly, and stays.",
    ),
    "elastic_net": Case(
        Run("elastic_net(l1=0.5, l2=0.5)", td.elastic_net(l1=0.5, l2=0.5)),
        Run("l1(0.5)", td.l1(0.5)),
        "A constant pull and a proportional one together: zeros as with L1, and large weights shrink more.",
    ),
    "huber": Case(
        Run("huber(1, delta=0.3)", td.forms.huber(1.0, delta=0.3)),
        Run("decoupled(1)", td.decoupled(1.0)),
        "Beyond δ = 0.3 the pull grows no more, so that the large weight keeps most of its size.",
    ),
    "group_lasso": Case(
        Run("group_lasso(0.9)", td.forms.group_lasso(0.9)),
        Run("l1(0.9)", td.l1(0.9)),
        "w1 and w2 are one row: its pull has one length everywhere and leads to zero, where the row ends as a whole or "
        "not at all. l1 sets w2 alone to zero.",
        shape="row",
    ),
    "p_norm": Case(
        Run("p_norm(0.5, p=1)", td.forms.p_norm(0.5, p=1)),
        Run("decoupled(0.5)", td.decoupled(0.5)),
        "The pull of p = 1 is as strong on a small weight as on a large one, but divides: it takes none past zero.",
        attach_at=(1.5, 1.5),
    ),
    "proximal": Case(
        Run("proximal(0.9)", td.forms.proximal(0.9)),
        Run("independent(0.9)", td.independent(0.9)),
        "So large a λ that independent takes 90 % in one step. Dividing by 1.9 comes down in several, to the same end.",
        steps=24,
        every=1,
    ),
    "toward": Case(
        Run("toward(reference, 0.5)", td.toward("anchor", 0.5)),
        Run("decoupled(0.5)", td.decoupled(0.5)),
        "The same pull with another goal: the reference (diamond) in place of zero.",
        anchor=ANCHOR,
    ),
    "toward_average": Case(
        Run("toward_average(3, beta=0.95)", td.forms.toward_average(3.0, beta=0.95)),
        Run('toward("initial", 3)', td.toward("initial", 3.0)),
        "The average follows: it holds the weight back while it moves, and lets it arrive. The arrows are for an "
        "average that stands at the diamond.",
        anchor=ANCHOR,
        attach_at=ANCHOR,
        steps=120,
        every=5,
    ),
    "projected": Case(
        Run("projected(reference, 1)", td.forms.projected("anchor", 1.0)),
        Run("toward(reference, 0.5)", td.toward("anchor", 0.5)),
        "Paths: SGD with momentum 0.9. What overshoots, away from the reference (diamond), is taken back; the minimum "
        "is reached. Arrows: the first step of Adam.",
        options=(("momentum", 0.9), ("lr", 0.01)),
        field_optimizer=adam,
        anchor=ANCHOR,
        steps=100,
        every=3,
    ),
    "cautious": Case(
        Run("cautious(1)", td.cautious(1.0)),
        Run("decoupled(1)", td.decoupled(1.0)),
        "Where the loss wants a coordinate to grow, it is left alone: the minimum of the loss is reached all the same.",
    ),
    "stable": Case(
        Run("stable(0.3)", td.forms.stable(0.3)),
        Run("decoupled(0.3)", td.decoupled(0.3)),
        "Under Adam with noisy gradients: far out, where gradients are large, the pull is weak; near the minimum it is "
        "strong.",
        optimizer=adam,
        noise=(0.6, 0.6),
        steps=120,
        every=5,
    ),
    "adaptive": Case(
        Run("adaptive(0.5)", td.forms.adaptive(0.5)),
        Run("coupled(0.5)", td.coupled(0.5)),
        "The pull is as long as the gradient allows: none at the minimum of the loss.",
    ),
    "ada_decay": Case(
        Run("ada_decay(0.5)", td.forms.ada_decay(0.5)),
        Run("coupled(0.5)", td.coupled(0.5)),
        "The coordinate with the larger gradient is pulled about twice as hard, the other hardly at all.",
    ),
    "constrained": Case(
        Run("constrained(kappa=1, rho=0.01)", td.forms.constrained(kappa=1.0, rho=0.01)),
        Run("decoupled(0.5)", td.decoupled(0.5)),
        "No pull inside the bound ‖w‖² ≤ 1 (circle); outside, the pull grows until the weight is back on it.",
        circle=1.0,
        steps=120,
        every=4,
    ),
    "norm_control": Case(
        Run("norm_control(1)", td.forms.norm_control(1.0)),
        Run("decoupled(1)", td.decoupled(1.0)),
        "All start on the circle. The pull goes to the circle from both sides, and is zero on it.",
        attach_at=(1.5, 1.5),
        circle=1.5 * 2**0.5,
        starts=RING,
    ),
    "hyperball": Case(
        Run("hyperball()", td.forms.hyperball()),
        Run("projection()", td.forms.projection()),
        "All start on the circle and stay on it. Every step of hyperball is η of the radius long, however small the "
        "gradient; here η falls to 0 along a cosine. Arrows: from where they begin to the circle.",
        attach_at=(1.5, 1.5),
        circle=1.5 * 2**0.5,
        starts=RING,
        shape="diagonal",
        falling=True,
        steps=120,
        every=3,
    ),
    "projection": Case(
        Run("projection()", td.forms.projection()),
        Run("norm_control(1)", td.forms.norm_control(1.0)),
        "All start on the circle. Projection is on it after every step, norm_control leans toward it.",
        attach_at=(1.5, 1.5),
        circle=1.5 * 2**0.5,
        starts=RING,
        shape="diagonal",
    ),
    "radial_brake": Case(
        Run("radial_brake(outward=0.1)", td.forms.radial_brake(outward=0.1)),
        Run('projection("current")', td.forms.projection("current")),
        "Starts near zero. A tenth of what each step adds to the norm is kept: the weight turns at once and grows "
        "slowly. Projection keeps none of it.",
        starts=((-0.8, 0.5), (0.4, -0.9), (-0.5, -0.8)),
        shape="diagonal",
    ),
    "relative_update": Case(
        Run("relative_update()", td.forms.relative_update()),
        Run("hyperball()", td.forms.hyperball()),
        "Every step is η of the weight's norm long, which is free: the minimum is reached, where hyperball stays at "
        "the norm of its start. η falls to 0 along a cosine.",
        attach_at=(1.5, 1.5),
        shape="diagonal",
        falling=True,
        steps=120,
        every=3,
    ),
    "spectral": Case(
        Run("spectral(1)", td.forms.spectral(1.0)),
        Run("decoupled(1)", td.decoupled(1.0)),
        "w1 and w2 are the diagonal of a matrix: only the larger one is pulled, until both are equal.",
        shape="diagonal",
    ),
    "by_spectrum": Case(
        Run("by_spectrum(0.5)", td.forms.by_spectrum(0.5)),
        Run("decoupled(0.5)", td.decoupled(0.5)),
        "w1 and w2 are the sizes of two matrices. The spectrum of the first has a heavy tail, so w1 is pulled less.",
        shape="matrices",
    ),
}


# ── Drawing, as SVG by hand: a tenth of the size of a plotting library's ──

WIDE, TALL = 760, 446
PANEL, TOP = 336, 40
LEFTS = (30, 410)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
CELL = 0.52


def at(x: float, y: float) -> str:
    """A point of the plane in the units of a panel."""
    return f"{(x + SPAN) * PANEL / (2 * SPAN):.1f} {(SPAN - y) * PANEL / (2 * SPAN):.1f}"


def line(points: Sequence[Sequence[float]]) -> str:
    """A path through points of the plane."""
    return "M" + "L".join(at(x, y) for x, y in points)


def dots(points: Sequence[Sequence[float]]) -> str:
    """Round caps make a dot of a line without length."""
    return "".join(f"M{at(x, y)}h0" for x, y in points)


def ring(radius: float) -> list[list[float]]:
    """Points of a circle around zero."""
    turns = torch.linspace(0, 2 * math.pi, 49, dtype=torch.float64)
    return (radius * torch.stack([turns.cos(), turns.sin()])).T.tolist()


def plane(case: Case, colors: Mapping[str, str]) -> Iterator[str]:
    """The plane of (w1, w2): contours of the loss, its minimum, zero, and what the form goes by."""
    yield f'<path d="M0 0H{PANEL}V{PANEL}H0Z" stroke="{colors["grid"]}"/>'
    # Each contour is the circle of its radius, stretched along the curvature's own directions.
    values, vectors = torch.linalg.eigh(CURVATURE)
    stretch = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    rings = [torch.tensor(ring(radius), dtype=torch.float64) @ stretch + CENTER for radius in CONTOURS]
    yield f'<path d="{"".join(line(one.tolist()) for one in rings)}" stroke="{colors["axis"]}" opacity=".5"/>'
    yield f'<path d="{line([(-SPAN, 0), (SPAN, 0)])}{line([(0, -SPAN), (0, SPAN)])}" stroke="{colors["axis"]}"/>'
    x, y = CENTER.tolist()
    cross = line([(x - 0.09, y), (x + 0.09, y)]) + line([(x, y - 0.09), (x, y + 0.09)])
    yield f'<path d="{cross}" stroke="{colors["ink"]}" stroke-width="2"/>'
    if case.circle:
        yield f'<path d="{line(ring(case.circle))}" stroke="{colors["s3"]}" stroke-width="2" stroke-dasharray="4 3"/>'
    if case.anchor:
        x, y = case.anchor
        diamond = line([(x - 0.1, y), (x, y + 0.1), (x + 0.1, y), (x, y - 0.1)])
        yield f'<path d="{diamond}Z" fill="{colors["s3"]}"/>'


def arrows(pull: list[list[float]], color: str) -> Iterator[str]:
    """An arrow at each point of the grid, as long as the pull there; the longest spans nearly one cell."""
    longest = max(math.hypot(dx, dy) for _, _, dx, dy in pull) or 1.0
    shafts, heads, none = "", "", []
    for x, y, dx, dy in pull:
        length = math.hypot(dx, dy) / longest
        if length < 0.02:
            none.append((x, y))
            continue
        tip = (x + CELL * dx / longest, y + CELL * dy / longest)
        long = min(0.15, 0.5 * CELL * length)
        ux, uy = dx / (longest * length), dy / (longest * length)
        neck = (tip[0] - long * ux, tip[1] - long * uy)
        wide = 0.42 * long
        shafts += line([(x, y), neck])
        heads += line([tip, (neck[0] - wide * uy, neck[1] + wide * ux), (neck[0] + wide * uy, neck[1] - wide * ux)])
        heads += "Z"
    yield f'<path d="{shafts}" stroke="{color}" stroke-width="1.5"/><path d="{heads}" fill="{color}"/>'
    yield f'<path d="{dots(none)}" stroke="{color}" stroke-width="2.4" stroke-linecap="round"/>'


def tracks(case: Case, data: dict[str, Any], looks: list[tuple[str, str, str]]) -> Iterator[str]:
    """The paths: without the form, with its neighbor, with the form on top."""
    order = (0, 2, 1)
    found = list(data["paths"].values())
    for index in order:
        _, color, dashes = looks[index]
        for track in found[index]:
            yield f'<path d="{line(track)}" stroke="{color}" stroke-width="1.9" stroke-dasharray="{dashes}"/>'
        places = [place for track in found[index] for place in track[1:-1]]
        yield f'<path d="{dots(places)}" stroke="{color}" stroke-width="3.6" stroke-linecap="round"/>'
    # Ends above all lines: a path may run over the end of another.
    for index in order:
        ends = dots([track[-1] for track in found[index]])
        yield f'<path d="{ends}" stroke="{looks[index][1]}" stroke-width="9" stroke-linecap="round"/>'


def draw(data: dict[str, Any], case: Case, colors: Mapping[str, str], name: str) -> str:
    """The whole picture: the pull on the left, the paths on the right, and what is what below."""
    none, form, other = case.runs
    looks = [(none.label, colors["s0"], ""), (form.label, colors["s1"], ""), (other.label, colors["s2"], "5 3")]
    starts = "".join(
        f'<circle cx="{at(*start).split()[0]}" cy="{at(*start).split()[1]}" r="4" fill="{colors["card"]}" '
        f'stroke="{colors["ink"]}" stroke-width="1.5"/>'
        for start in case.starts
    )
    panels = (
        ("The pull: what the form adds to one step", list(arrows(data["pull"], colors["s1"]))),
        ("The paths of a training, from three starts", [*tracks(case, data, looks), starts]),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {TALL}" role="img" fill="none" '
        f'stroke-linejoin="round" font-family="{FONT}" font-size="12.5">',
        f"<title>What {name} does to a weight of two parameters</title>",
        f"<desc>{escape(alt(data, case))}</desc>",
        f'<path d="M0 0H{WIDE}V{TALL}H0Z" fill="{colors["card"]}"/>',
    ]
    for left, (title, content) in zip(LEFTS, panels, strict=True):
        look = f'fill="{colors["ink"]}" font-weight="600" font-size="13.5"'
        parts.append(f'<text x="{left}" y="26" {look}>{title}</text>')
        inside = f'<svg x="{left}" y="{TOP}" width="{PANEL}" height="{PANEL}">'
        parts += [inside, *plane(case, colors), *content, "</svg>", *ticks(left, colors)]
    x, y = float(LEFTS[0]), TALL - 20
    for label, color, dashes in looks:
        parts.append(f'<path d="M{x:.0f} {y}h30" stroke="{color}" stroke-width="1.9" stroke-dasharray="{dashes}"/>')
        parts.append(f'<circle cx="{x + 15:.0f}" cy="{y}" r="3.4" fill="{color}"/>')
        parts.append(f'<text x="{x + 37:.0f}" y="{y + 4}" fill="{colors["ink"]}">{escape(label)}</text>')
        x += 66 + 6.9 * len(label)
    return "\n".join([*parts, "</svg>"]).replace(' stroke-dasharray=""', "") + "\n"


def ticks(left: int, colors: Mapping[str, str]) -> Iterator[str]:
    """Numbers along the lower and the left side, and the names of the axes at their ends."""
    muted = f'fill="{colors["muted"]}" font-size="11.5"'
    for value in (-2, -1, 0, 1, 2):
        x, y = (float(part) for part in at(value, value).split())
        shown = str(value).replace("-", "−")
        yield f'<text x="{left + x:.1f}" y="{TOP + PANEL + 15}" text-anchor="middle" {muted}>{shown}</text>'
        yield f'<text x="{left - 6}" y="{TOP + y + 4:.1f}" text-anchor="end" {muted}>{shown}</text>'
    yield f'<text x="{left + PANEL}" y="{TOP + PANEL + 15}" text-anchor="end" {muted}>w1</text>'
    yield f'<text x="{left - 6}" y="{TOP + 10}" text-anchor="end" {muted}>w2</text>'


def alt(data: dict[str, Any], case: Case) -> str:
    """The picture in words, with the numbers where the paths end."""
    ends = "; ".join(
        f"{label} ends at " + ", ".join(f"({x:.2f}, {y:.2f})" for x, y in (track[-1] for track in found))
        for label, found in data["paths"].items()
    )
    return f"Left, arrows: what {case.run.label} adds to one step. Right, paths of (w1, w2) from three starts: {ends}."


def main(names: Sequence[str]) -> None:
    """Compute and draw the forms named, or all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names or CASES:
        data = numbers(name)
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        for ending, colors in (("", LIGHT), ("-dark", DARK)):
            (FOLDER / f"{name}{ending}.svg").write_text(draw(data, CASES[name], colors, name), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
