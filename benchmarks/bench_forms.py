"""What each form of decay costs: lowered over the optimizer's own decay, by hook over one pass over the weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

import torchdecay as td
from memory import peak_bytes
from paired import Check, Options, Spread, main, ratio
from shapes import gpt2, parameters

LR, WD = 1e-3, 1e-3  # so weak that thousands of steps leave the weights ordinary numbers

LOWERED: dict[str, Callable[[], td.Decay]] = {
    "native": lambda: td.native(WD),
    "decoupled": lambda: td.decoupled(WD),
    "independent": lambda: td.independent(WD * LR, max_lr=LR),
    "per_step": lambda: td.per_step(WD * LR),
    "corrected": lambda: td.corrected(WD, max_lr=LR),
    "decoupled with a cosine schedule": lambda: td.decoupled(WD, schedule=td.schedules.cosine(1.0, 0.5, 10_000)),
}

# form, the optimizer that it runs on, limit eager, limit compiled
HOOKS: dict[str, tuple[Callable[[], td.Decay], type[Optimizer], float | None, float | None]] = {
    "decoupled": (lambda: td.decoupled(WD), AdamW, 1.5, 2.0),
    "independent": (lambda: td.independent(WD * LR, max_lr=LR), AdamW, 1.5, 2.0),
    "per_step": (lambda: td.per_step(WD * LR), AdamW, 1.5, 2.0),
    "corrected": (lambda: td.corrected(WD, max_lr=LR), AdamW, None, 2.0),
    "proximal": (lambda: td.forms.proximal(WD), AdamW, None, 2.0),
    "toward": (lambda: td.toward("initial", WD), AdamW, 1.8, 2.0),
    "l1": (lambda: td.l1(WD), SGD, 2.5, 2.0),
    # Its threshold is a root and a quotient for each weight: arithmetic, not memory, decides.
    "l1 with AdamW's thresholds": (lambda: td.l1(WD), AdamW, None, None),
    "elastic_net": (lambda: td.elastic_net(l1=WD, l2=WD), SGD, None, 2.0),
    "huber": (lambda: td.forms.huber(WD), SGD, 2.5, 2.0),
    "cautious": (lambda: td.cautious(WD), SGD, 6.0, 2.0),
    # Reads the gradient and the momentum beside the weight, which alone makes it 2.
    "cautious with AdamW's momentum": (lambda: td.cautious(WD), AdamW, 6.0, None),
    "projected": (lambda: td.forms.projected("initial", WD), AdamW, None, None),
    "stable": (lambda: td.forms.stable(WD), AdamW, None, None),
    "norm_control": (lambda: td.forms.norm_control(WD), AdamW, None, None),
    "constrained": (lambda: td.forms.constrained(kappa=1.0), AdamW, None, None),
    "coupled": (lambda: td.coupled(WD), AdamW, None, None),
    "projection": (td.forms.projection, AdamW, 2.0, None),
    "radial_brake": (td.forms.radial_brake, AdamW, None, None),
    # A copy, three sums and a combination.
    "hyperball": (td.forms.hyperball, AdamW, 7.0, 5.0),
    "relative_update": (td.forms.relative_update, AdamW, 7.0, 5.0),
}

UNCOMPILED = ("projected", "stable", "norm_control", "constrained", "coupled", "projection", "radial_brake")
"""Forms whose pass is made of norms or of foreach kernels, so that there is nothing to compile."""


def made(cls: type[Optimizer], params: dict[str, Tensor], wd: float = 0.0) -> Optimizer:
    """An optimizer that has taken a step, so that its state is there."""
    for p in params.values():
        p.grad = torch.full_like(p, 1e-6)
    optimizer = cls(list(params.items()), lr=LR, weight_decay=wd, fused=True)  # type: ignore[call-arg]
    optimizer.step()
    return optimizer


def hooks_of(optimizer: Optimizer, nudged: Sequence[Tensor] = ()) -> Callable[[], None]:
    """All that an attached plan does around the optimizer's own update, which is a nudge of some single elements."""
    before = list(optimizer._optimizer_step_pre_hooks.values())
    after = list(optimizer._optimizer_step_post_hooks.values())

    def run() -> None:
        for hook in before:
            hook(optimizer, (), {})
        for one in nudged:
            one.add_(1e-3)
        for hook in after:
            hook(optimizer, (), {})

    return run


def lowered(form: str, model: str, params: dict[str, Tensor], options: Options) -> Check:
    """A fused AdamW step with the form lowered, over the same step with its own weight_decay."""
    attached, plain = made(AdamW, params), made(AdamW, params, WD)
    with td.attach(attached, td.plan(params, LOWERED[form](), rules=td.policies.torch)) as handle:
        assert all(row.route == "native" for row in handle.lowering.rows), form
        return ratio(
            f"{form}, lowered, over AdamW's own weight_decay, {model}",
            ("lowered", attached.step),
            ("own", plain.step),
            options,
            target=1.03,
            cell=(form, f"{model}: lowered, time over the optimizer's own"),
        )


def by_hook(form: str, model: str, params: dict[str, Tensor], options: Options, *, compiled: bool) -> list[Check]:
    """The form's hooks over one `_foreach_mul_` over the same weights, and the memory that they take for a moment."""
    decay, cls, eager_limit, compiled_limit = HOOKS[form]
    optimizer = made(cls, params)
    weights = [p.detach() for p in params.values()]
    before = {name: p.detach().clone() for name, p in params.items()}
    how = "compiled" if compiled else "eager"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sets_norms = decay().update is not None
        rules = [td.rule(td.ndim(0, 1), None)] if sets_norms else td.policies.torch
        with td.attach(optimizer, td.plan(params, decay(), rules=rules), via="hook", compile=compiled):
            # Of an update that is zero a rule makes nothing, and what is where it began is at no distance from there.
            nudged = sets_norms or form == "projected"
            run = hooks_of(optimizer, [one.view(-1)[:1] for one in weights] if nudged else ())
            run()
            peak = peak_bytes(run)
            check = ratio(
                f"{form}, {how}, over one _foreach_mul_, {model}",
                ("hook", run),
                ("_foreach_mul_", lambda: torch._foreach_mul_(weights, 1 - LR * WD)),
                options,
                target=compiled_limit if compiled else eager_limit,
                cell=(form, f"{model}: {how} hook, time over one pass"),
            )
    with torch.no_grad():
        for name, p in params.items():
            p.copy_(before[name])
    size = 4 * sum(p.numel() for p in params.values())
    share = Check(
        f"{form}, {how}, peak memory over that of the weights, {model}",
        Spread(*[peak / size] * 3),
        cell=(form, f"{model}: {how} hook, memory over the weights'"),
    )
    return [check, share]


def measure(options: Options) -> Iterator[Check]:
    if options.quick:
        models: dict[str, Any] = {"124 M": gpt2(width=192, depth=4)}
    else:
        models = {"124 M": gpt2(), "25 M": gpt2(width=384, depth=8, vocabulary=27_000)}
    for name, shapes in models.items():
        params = parameters(shapes)
        for form in LOWERED:
            yield lowered(form, name, params, options)
        for form in HOOKS:
            yield from by_hook(form, name, params, options, compiled=False)
            if form not in UNCOMPILED:
                yield from by_hook(form, name, params, options, compiled=True)


if __name__ == "__main__":
    main("forms", measure, repeats=15)
