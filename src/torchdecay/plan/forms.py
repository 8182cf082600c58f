r"""Every published form of decay as a preset: a function that returns a `Decay`.

Symbols: θ weights, g gradient, u the optimizer's own update (learning rate included), η_t learning rate with peak
η_max, λ coefficient. All take `schedule=` (see `torchdecay.schedules`) and `mask=` (see `torchdecay.spare_rows`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from torchdecay.errors import DecayError
from torchdecay.plan.decay import Decay, Scale, Site
from torchdecay.plan.ranges import check_number
from torchdecay.plan.references import Mask, as_mask, as_reference
from torchdecay.plan.regularizers import L1, L2, ElasticNet
from torchdecay.plan.schedules import Constant, Schedule


def native(wd: float, *, schedule: Schedule | None = None) -> Decay:
    """The optimizer's own `weight_decay`, whatever that means there.

    SGD adds λθ to the gradient, AdamW takes θ ← θ − ηλθ: same name, different thing. Say `coupled` or `decoupled`
    when you mean one of them on any optimizer.

    Args:
        wd: λ, at least 0.
        schedule: multiplier over the steps really taken.

    Raises:
        DecayError: wd is negative, NaN, infinite or not a number.

    Example:
        >>> import torchdecay as td
        >>> td.native(0.1)
        native(0.1)
    """
    return Decay(coefficient=wd, site=Site.NATIVE, schedule=schedule or Constant())


def coupled(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""L2 through the gradient, as SGD's and Adam's own `weight_decay`.

    $$g \leftarrow g + \lambda\theta$$

    For plain SGD it equals a penalty λ/2·Σθ² and, up to rounding, `decoupled`. Under an adaptive optimizer the pull
    goes through the preconditioner: weights with large gradients are pulled least, and with no gradient the first
    step is about the learning rate whatever λ is; use `decoupled` there.

    Args:
        wd: λ, at least 0.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: wd is negative, NaN, infinite or not a number.

    Example:
        >>> import torchdecay as td
        >>> td.coupled(1e-4)
        coupled(0.0001)

    Reference: Decoupled Weight Decay Regularization, arXiv 1711.05101, tells it from decoupled decay.
    """
    return Decay(coefficient=wd, site=Site.GRADIENT, schedule=schedule or Constant(), mask=as_mask(mask))


def decoupled(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""Decay that leaves the gradient alone, as torch's AdamW does it, on any optimizer.

    $$\theta \leftarrow \theta - \eta_t\lambda\theta, \qquad \text{then } \theta \leftarrow \theta - u$$

    The fraction per step is η_t·λ, group by group with that group's current learning rate. It differs from
    `independent`, whose fraction does not change when the peak learning rate does.

    Args:
        wd: λ, at least 0; η·λ must stay below 1.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: wd is negative, NaN, infinite or not a number.

    Example:
        >>> import torchdecay as td
        >>> td.decoupled(0.1).equation
        'θ ← θ − η·λ·θ, then θ ← θ − u'

    Reference: Decoupled Weight Decay Regularization, arXiv 1711.05101.
    """
    return Decay(
        coefficient=wd, site=Site.BEFORE, scale=Scale.LR, schedule=schedule or Constant(), mask=as_mask(mask)
    )


def independent(
    wd: float,
    *,
    max_lr: float | None = None,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""Decoupled decay whose strength does not depend on the peak learning rate.

    $$\theta \leftarrow \theta - \frac{\eta_t}{\eta_{\max}}\lambda\theta, \qquad \text{then } \theta \leftarrow \theta - u$$

    λ is the fraction removed per step at the peak. `independent(λ·η_max)` equals `decoupled(λ)`.

    Args:
        wd: λ, at least 0; the fraction per step at the peak.
        max_lr: η_max, above 0; None takes each group's own peak: its `max_lr` key, a scheduler's `max_lrs`, or
            `initial_lr`, resolved at the first step and saved.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.independent(1e-4, max_lr=1e-3)
        independent(0.0001, max_lr=0.001)

    Reference: Decoupled Weight Decay Regularization, arXiv 1711.05101, Algorithm 2; Small-scale proxies for
    large-scale Transformer training instabilities, arXiv 2309.14322.
    """
    return Decay(
        coefficient=wd,
        site=Site.BEFORE,
        scale=Scale.LR_RATIO,
        max_lr=max_lr,
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def per_step(fraction: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""Remove a fixed fraction of each weight at every step, whatever the learning rate.

    $$\theta \leftarrow \theta - \lambda\theta, \qquad \text{then } \theta \leftarrow \theta - u$$

    The plain update rule w ← w − η·dw − λ·w. A step at learning rate 0 leaves the weights alone all the same.

    Args:
        fraction: λ, from 0 to 1.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a fraction outside 0 to 1.

    Example:
        >>> import torchdecay as td
        >>> td.per_step(1e-4)
        per_step(0.0001)
    """
    return Decay(
        coefficient=check_number(fraction, "per_step fraction", maximum=1.0),
        site=Site.BEFORE,
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def penalized(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""An L2 penalty in the loss, added with `handle.penalty(model)`.

    $$L + \tfrac{\lambda}{2}\lVert\theta\rVert^2$$

    Same gradient as `coupled(λ)` at about ten times its cost; worth it only where the loss itself must contain the
    penalty: clipping, accumulation, LBFGS. `td.penalty(l2=a)` has no ½, so a = λ/2.

    Args:
        wd: λ, at least 0, as in `weight_decay`.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: wd is negative, NaN, infinite or not a number.

    Example:
        >>> import torchdecay as td
        >>> td.penalized(0.1).equation
        'L + λ·½‖θ‖²'
    """
    return Decay(coefficient=wd, site=Site.LOSS, schedule=schedule or Constant(), mask=as_mask(mask))


def l1(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""L1 as a proximal step after the update: exact zeros, no oscillation around zero.

    $$\theta \leftarrow \operatorname{sign}(z)\max(|z| - \eta_t\lambda s, 0), \qquad z = \theta - u$$

    s follows the optimizer so that the minimum is that of L + λΣ|θ|: 1 for SGD, (1 − dampening)/(1 − momentum) with
    momentum, 1/(√v̂ + ε) elementwise for the Adam family; elsewhere s = 1, and `td.lower` says that the optimum
    differs. A subgradient, as `penalty(l1=λ)` gives it, never makes a weight exactly zero.

    Args:
        wd: λ, at least 0; scikit-learn's Lasso alpha for the loss SSE/(2n).
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: wd is negative, NaN, infinite or not a number.

    Example:
        >>> import torchdecay as td
        >>> td.l1(1e-3)
        l1(0.001)

    Reference: Proximal Algorithms, Parikh and Boyd, Foundations and Trends in Optimization 1(3), 2014.
    """
    return Decay(
        coefficient=wd,
        site=Site.AFTER,
        scale=Scale.LR,
        regularizer=L1(),
        proximal=True,
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def elastic_net(
    *,
    l1: float,
    l2: float,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""L1 and L2 together as one proximal step after the update.

    $$\theta \leftarrow \frac{\operatorname{sign}(z)\max(|z| - \eta_t l_1 s, 0)}{1 + \eta_t l_2 s}, \qquad z = \theta - u$$

    s as in `l1`. l2 is a `weight_decay` (penalty l2/2·Σθ²); scikit-learn's ElasticNet(alpha, l1_ratio) has
    l1 = alpha·l1_ratio and l2 = alpha·(1 − l1_ratio) for the loss SSE/(2n).

    Args:
        l1, l2: coefficients, at least 0.
        schedule: multiplier over the steps really taken, of both.
        mask: entries that take part.

    Raises:
        DecayError: a coefficient that is negative, NaN, infinite or not a number.

    Example:
        >>> import torchdecay as td
        >>> td.elastic_net(l1=1e-3, l2=0.1)
        elastic_net(l1=0.001, l2=0.1)

    Reference: Regularization and variable selection via the elastic net, Zou and Hastie, JRSS B 67(2), 2005.
    """
    return Decay(
        coefficient=1.0,
        site=Site.AFTER,
        scale=Scale.LR,
        regularizer=ElasticNet(l1, l2),
        proximal=True,
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def toward(
    reference: Literal["initial"] | str | Path | Mapping[str, Tensor],
    wd: float,
    *,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""Decoupled decay toward a reference in place of zero: pretrained weights, or the start.

    $$\theta \leftarrow \theta + \eta_t\lambda(\mathrm{ref} - \theta), \qquad \text{then } \theta \leftarrow \theta - u$$

    Parameters that the reference lacks (a new head) are pulled toward 0, and the lowering says so.

    Args:
        reference: "initial" (the weights at attach), the path of a safetensors or torch file of tensors, a state
            dict, or a name that `attach(..., bind={name: tensors})` fills in.
        wd: λ, at least 0; η·λ must stay below 1.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range, or a reference that is none of these.

    Example:
        >>> import torchdecay as td
        >>> td.toward("initial", 0.1)
        toward("initial", 0.1)

    Reference: Explicit Inductive Bias for Transfer Learning with Convolutional Networks (L2-SP), arXiv 1802.01483.
    """
    return Decay(
        coefficient=wd,
        site=Site.BEFORE,
        scale=Scale.LR,
        reference=as_reference(reference),
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


_SIGNATURES: dict[tuple[Any, ...], str] = {
    (Site.NATIVE, Scale.ONE, L2, False, False): "native",
    (Site.GRADIENT, Scale.ONE, L2, False, False): "coupled",
    (Site.BEFORE, Scale.LR, L2, False, False): "decoupled",
    (Site.BEFORE, Scale.LR_RATIO, L2, False, False): "independent",
    (Site.BEFORE, Scale.ONE, L2, False, False): "per_step",
    (Site.LOSS, Scale.ONE, L2, False, False): "penalized",
    (Site.AFTER, Scale.LR, L1, False, True): "l1",
    (Site.AFTER, Scale.LR, ElasticNet, False, True): "elastic_net",
    (Site.BEFORE, Scale.LR, L2, True, False): "toward",
}


def form_of(decay: Decay) -> str:
    """The name of the preset that these axes add up to, or "custom"."""
    if decay.gate is not None or decay.controller is not None:
        return "custom"
    signature = (
        decay.site,
        decay.scale,
        type(decay.regularizer),
        decay.reference is not None,
        decay.proximal,
    )
    return _SIGNATURES.get(signature, "custom")


def spell(decay: Decay) -> str:
    """The call that makes this Decay, as people write it."""
    form = form_of(decay)
    if form == "custom":
        parts = [f"coefficient={decay.coefficient:g}", f"site={decay.site.name}", f"scale={decay.scale.name}"]
        parts += [
            f"{name}={getattr(decay, name)!r}"
            for name in ("regularizer", "reference", "gate", "controller")
            if getattr(decay, name) is not None
        ]
        parts += ["proximal=True"] if decay.proximal else []
    elif form == "elastic_net":
        net = decay.regularizer
        assert isinstance(net, ElasticNet)
        parts = [f"l1={decay.coefficient * net.l1:g}", f"l2={decay.coefficient * net.l2:g}"]
    elif form == "toward":
        parts = [repr(decay.reference), f"{decay.coefficient:g}"]
    else:
        parts = [f"{decay.coefficient:g}"]
    parts += [] if decay.max_lr is None else [f"max_lr={decay.max_lr:g}"]
    parts += [] if decay.schedule == Constant() else [f"schedule={decay.schedule!r}"]
    parts += [] if decay.mask is None else [f"mask={decay.mask!r}"]
    return f"{'Decay' if form == 'custom' else form}({', '.join(parts)})"


PRESETS = {
    "native": native,
    "coupled": coupled,
    "decoupled": decoupled,
    "independent": independent,
    "per_step": per_step,
    "penalized": penalized,
    "l1": l1,
    "elastic_net": elastic_net,
    "toward": toward,
}


def as_decay(value: Any) -> Decay | None:
    """A Decay as it is; a number as `native(number)`; None and 0 as None.

    Raises:
        DecayError: for anything else.
    """
    if value is None or isinstance(value, Decay):
        return value
    if isinstance(value, str):
        raise DecayError(
            f"the decay is the string {value!r}.",
            "In Python a decay is a value or a number; spellings are for the command line.",
            "Write td.decoupled(0.1), a number, or None.",
        )
    number = check_number(value, "weight_decay")
    return native(number) if number else None
