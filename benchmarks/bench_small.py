"""What a plan adds to a step of fused AdamW where calls cost more than arithmetic: 6 and 2,000 small tensors."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

import torchdecay as td
from paired import Check, Options, Spread, interleave, main
from shapes import parameters

LR, WD = 1e-3, 1e-3  # so weak that thousands of steps leave the weights ordinary numbers

LOWERED: dict[str, Callable[[], td.Decay]] = {
    "decoupled": lambda: td.decoupled(WD),
    "independent": lambda: td.independent(WD * LR, max_lr=LR),
    "independent, its peak watched": lambda: td.independent(WD * LR),
    "per_step": lambda: td.per_step(WD * LR),
    "decoupled with a cosine schedule": lambda: td.decoupled(WD, schedule=td.schedules.cosine(1.0, 0.5, 1_000_000)),
}
MOST = {"decoupled": 1.05, "independent": 1.05, "independent, its peak watched": 1.10}

# form, most microseconds with 6 tensors, most milliseconds with 2,000
HOOKS: dict[str, tuple[Callable[[], td.Decay], float, float]] = {
    "decoupled": (lambda: td.decoupled(WD), 25, 15),
    "independent": (lambda: td.independent(WD * LR, max_lr=LR), 40, 15),
    "corrected": (lambda: td.corrected(WD), 40, 15),
    "proximal": (lambda: td.forms.proximal(WD), 40, 15),
    "toward": (lambda: td.toward("initial", WD), 40, 15),
    "l1": (lambda: td.l1(WD), 40, 15),
    "elastic_net": (lambda: td.elastic_net(l1=WD, l2=WD), 40, 15),
    "huber": (lambda: td.forms.huber(WD), 40, 15),
    "cautious": (lambda: td.cautious(WD), 40, 15),
    "coupled": (lambda: td.coupled(WD), 40, 15),
    "projected": (lambda: td.forms.projected("initial", WD), 40, 15),
    "stable": (lambda: td.forms.stable(WD), 40, 15),
    "adaptive": (lambda: td.forms.adaptive(WD), 40, 15),
    "ada_decay": (lambda: td.forms.ada_decay(WD), 40, 40),
    "constrained": (lambda: td.forms.constrained(kappa=1.0), 40, 15),
    "norm_control": (lambda: td.forms.norm_control(WD), 40, 15),
    "spectral": (lambda: td.forms.spectral(WD), 40, 40),
    "projection": (td.forms.projection, 40, 15),
    "radial_brake": (td.forms.radial_brake, 40, 15),
    "hyperball": (td.forms.hyperball, 40, 15),
    "relative_update": (td.forms.relative_update, 40, 15),
}


def made(params: dict[str, Tensor], wd: float = 0.0) -> Optimizer:
    """An optimizer that has taken a step, so that its state is there."""
    optimizer = AdamW(list(params.items()), lr=LR, weight_decay=wd, fused=True)
    optimizer.step()
    return optimizer


def some(count: int, width: int) -> dict[str, Tensor]:
    params = parameters({f"{i}.weight": (width, width) for i in range(count)})
    for p in params.values():
        p.grad = torch.full_like(p, 1e-6)
    return params


def compare(form: Callable[[], td.Decay], params: dict[str, Tensor], calls: int, options: Options, *, hook: bool):
    """Times of steps with the plan and without, in pairs; by hook beside no decay, else beside AdamW's own."""
    plain, attached = made(params, 0.0 if hook else WD), made(params)

    def several(optimizer: Optimizer) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            for _ in range(calls):
                optimizer.step()
            return (time.perf_counter() - start) / calls

        return run

    with td.attach(attached, td.plan(params, form(), rules=td.policies.torch), via="hook" if hook else "auto"):
        return interleave(several(attached), several(plain), options, clock=lambda work: work())


def added(form: str, of: str, pairs: list[tuple[float, float]], limit: float, scale: float, unit: str) -> Check:
    spread = Spread.of([(a - b) * scale for a, b in pairs])
    return Check(
        f"{form} by hook, {of}: {unit} a step beside the optimizer's own",
        spread,
        unit="",
        target=limit,
        cell=(form, f"{of}: {unit} that a hook adds to a step"),
    )


def measure(options: Options) -> Iterator[Check]:
    warnings.simplefilter("ignore")
    few, many = some(6, 32), some(60 if options.quick else 2_000, 8)
    for form, make in LOWERED.items():
        pairs = compare(make, few, 100, options, hook=False)
        yield Check(
            f"{form}, lowered, over AdamW's own weight_decay, 6 tensors",
            Spread.of([a / b for a, b in pairs]),
            target=MOST.get(form),
            cell=(form, "6 tensors: lowered, time over the optimizer's own"),
        )
    for form, (make, microseconds, milliseconds) in HOOKS.items():
        yield added(form, "6 tensors", compare(make, few, 30, options, hook=True), microseconds, 1e6, "µs")
        yield added(form, "2,000 tensors", compare(make, many, 1, options, hook=True), milliseconds, 1e3, "ms")


if __name__ == "__main__":
    main("small", measure, repeats=15)
