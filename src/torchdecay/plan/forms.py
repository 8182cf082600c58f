r"""Every published form of decay as a preset: a function that returns a `Decay`.

Symbols: θ weights, g gradient, u the optimizer's own update (learning rate included), η_t learning rate with peak
η_max, λ coefficient. All take `schedule=` (see `torchdecay.schedules`) and `mask=` (see `torchdecay.spare_rows`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from torchdecay.errors import DecayError, nearest
from torchdecay.plan.adaptive import (
    BySpectrum,
    Cautious,
    GradientNormRatio,
    GradientSigmoid,
    Multiplier,
    NormRatio,
    Projection,
    Stable,
)
from torchdecay.plan.decay import Decay, Scale, Site
from torchdecay.plan.ranges import check_number
from torchdecay.plan.references import Average, Mask, as_mask, as_reference
from torchdecay.plan.regularizers import L1, Deviation, ElasticNet, Huber, Regularizer, Spectral, SquaredNorm
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
    return Decay(coefficient=wd, site=Site.BEFORE, scale=Scale.LR, schedule=schedule or Constant(), mask=as_mask(mask))


def independent(
    wd: float,
    *,
    max_lr: float | None = None,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""Decoupled decay whose strength does not depend on the peak learning rate.

    $$\theta \leftarrow \theta - \frac{\eta_t}{\eta_{\max}}\lambda\theta, \qquad
    \text{then } \theta \leftarrow \theta - u$$

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

    $$\theta \leftarrow \frac{\operatorname{sign}(z)\max(|z| - \eta_t l_1 s, 0)}{1 + \eta_t l_2 s}, \qquad
    z = \theta - u$$

    s as in `l1`. l2 is a `weight_decay` (penalty l2/2·Σθ²); scikit-learn's ElasticNet(alpha, l1_ratio) has
    l1 = alpha·l1_ratio and l2 = alpha·(1 − l1_ratio) for the loss SSE/(2n).

    Args:
        l1: coefficient of Σ|θ|, at least 0.
        l2: coefficient of ½Σθ², at least 0.
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

    $$\theta \leftarrow \theta + \eta_t\lambda(\mathrm{ref} - \theta), \qquad
    \text{then } \theta \leftarrow \theta - u$$

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


def corrected(
    wd: float,
    *,
    max_lr: float | None = None,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""Decoupled decay that keeps the norm of scale-invariant weights steady while the learning rate falls.

    $$\theta \leftarrow \theta - \frac{\eta_t^2}{\eta_{\max}}\lambda\theta, \qquad
    \text{then } \theta \leftarrow \theta - u$$

    Under `decoupled` the equilibrium norm follows √η_t, so that gradients grow near the end of a schedule. Meant for
    layers that a norm follows, with `decoupled` for the rest:
    `rules=[td.rule(td.scale_invariant(), td.forms.corrected(0.1)), *td.STANDARD]`. At the peak both are equal.

    Args:
        wd: λ, at least 0.
        max_lr: η_max, above 0; None takes each group's own peak.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.corrected(0.1, max_lr=1e-3)
        corrected(0.1, max_lr=0.001)

    Reference: Why Gradients Rapidly Increase Near the End of Training, arXiv 2506.02285.
    """
    return Decay(
        coefficient=wd,
        site=Site.BEFORE,
        scale=Scale.LR_SQUARED,
        max_lr=max_lr,
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def cautious(
    wd: float,
    *,
    zero_update: Literal["decay", "spare"] = "decay",
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""Decoupled decay only where it agrees with the optimizer's own update.

    $$\theta \leftarrow \theta - \eta_t\lambda\,\mathbb{1}[u \odot \theta \ge 0] \odot \theta, \qquad
    \text{then } \theta \leftarrow \theta - u$$

    u is the real update of this step. Its sign is read from state and gradient for SGD, Adam and its family, and
    Lion-like optimizers; elsewhere from a copy of the weights, which costs their memory; `td.lower` says which.

    Args:
        wd: λ, at least 0.
        zero_update: where u is exactly 0: "decay" (as the paper) or "spare".
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range, or another zero_update.

    Example:
        >>> import torchdecay as td
        >>> td.cautious(0.1).equation
        'θ ← θ − η·λ·1[u⊙θ ≥ 0]⊙θ, then θ ← θ − u'

    Reference: Cautious Weight Decay, arXiv 2510.12402.
    """
    return Decay(
        coefficient=wd,
        site=Site.BEFORE,
        scale=Scale.LR,
        gate=Cautious(zero_update),
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def proximal(
    wd: float,
    *,
    max_lr: float | None = None,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""Independent decay as a proximal step: implicit, so that no coefficient ever flips a sign.

    $$\theta \leftarrow \frac{\theta - u}{1 + \lambda\eta_t/\eta_{\max}}$$

    It differs from `independent` by terms of second order in λ, and in that the update decays too.

    Args:
        wd: λ, at least 0, in units of one step at the peak.
        max_lr: η_max, above 0; None takes each group's own peak.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.proximal(0.01)
        proximal(0.01)

    Reference: Understanding AdamW through Proximal Methods and Scale-Freeness, arXiv 2202.00089.
    """
    return Decay(
        coefficient=wd,
        site=Site.AFTER,
        scale=Scale.LR_RATIO,
        max_lr=max_lr,
        proximal=True,
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def huber(wd: float, *, delta: float = 1.0, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""Decay that is quadratic for small weights and linear for large ones, as a proximal step.

    $$\theta \leftarrow \begin{cases} z/(1 + \tau) & |z| \le (1 + \tau)\delta \\
    z - \tau\delta\operatorname{sign} z & \text{else} \end{cases}, \qquad z = \theta - u,\ \tau = \eta_t\lambda$$

    Weights far from 0 lose ηλδ per step and not a fraction, so that a few large ones may live; with a large δ it is
    `proximal` with the scale of `decoupled`.

    Args:
        wd: λ, at least 0.
        delta: δ, above 0, in units of the weights.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.huber(0.1, delta=0.5)
        huber(0.1, delta=0.5)

    Reference: AdamHD: Decoupled Huber Decay Regularization for Language Model Pre-Training, arXiv 2511.14721.
    """
    return Decay(
        coefficient=wd,
        site=Site.AFTER,
        scale=Scale.LR,
        regularizer=Huber(delta),
        proximal=True,
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def toward_average(
    wd: float, *, beta: float = 0.999, schedule: Schedule | None = None, mask: Mask | str | None = None
) -> Decay:
    r"""Decoupled decay toward the weights' own moving average, which follows them.

    $$\theta \leftarrow \theta + \eta_t\lambda(\bar\theta - \theta), \quad \theta \leftarrow \theta - u, \quad
    \bar\theta \leftarrow \beta\bar\theta + (1 - \beta)\theta$$

    The average starts at the weights at attach and costs a copy of them; it is saved by `handle.state_dict()`.

    Args:
        wd: λ, at least 0.
        beta: β, from 0 to 1; 1 is `toward("initial", wd)`.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.toward_average(0.1)
        toward_average(0.1, beta=0.999)

    Reference: Mean teachers are better role models, arXiv 1703.01780, for the average; the pull is L2-SP's
    (arXiv 1802.01483).
    """
    return Decay(
        coefficient=wd,
        site=Site.BEFORE,
        scale=Scale.LR,
        reference=Average(beta),
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def projected(
    reference: Literal["initial"] | str | Path | Mapping[str, Tensor],
    wd: float,
    *,
    schedule: Schedule | None = None,
) -> Decay:
    r"""Selective projection: pull a tensor back toward its reference only when the step leads away from it.

    $$\text{if } -\langle g, p - \mathrm{ref}\rangle < 0:\quad q \leftarrow q - \lambda\,
    \operatorname{clip}\Big(\frac{\lVert q - \mathrm{ref}\rVert - \lVert p - \mathrm{ref}\rVert}
    {\lVert q - \mathrm{ref}\rVert}, 0, 1\Big)(q - \mathrm{ref})$$

    p is the weight before the update, q after it. At λ = 1 the tensor ends no farther from the reference than it was.
    `toward` pulls always, and by a fraction of the whole distance.

    Args:
        reference: as in `toward`.
        wd: λ, at least 0.
        schedule: multiplier over the steps really taken.

    Raises:
        DecayError: a number outside its range, or a reference that is none of these.

    Example:
        >>> import torchdecay as td
        >>> td.forms.projected("initial", 1.0)
        projected("initial", 1)

    Reference: Rethinking Weight Decay for Robust Fine-Tuning of Foundation Models, arXiv 2411.01713.
    """
    return Decay(
        coefficient=wd,
        site=Site.AFTER,
        reference=as_reference(reference),
        controller=Projection(),
        schedule=schedule or Constant(),
    )


def stable(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""Decoupled decay in proportion to the size that updates really have.

    $$\theta \leftarrow \theta - \frac{\eta_t\lambda}{\sqrt{\bar v}}\theta \text{ (Adam family)}, \qquad
    \theta \leftarrow \theta - \eta_t\lambda\frac{1 - \text{dampening}}{1 - \text{momentum}}\theta \text{ (SGD)}$$

    v̄ is the mean of this step's bias-corrected second moment over all elements of all groups. Other optimizers have
    no such number and are refused.

    Args:
        wd: λ, at least 0; smaller than for `decoupled` by about √v̄.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.stable(1e-4)
        stable(0.0001)

    Reference: On the Overlooked Pitfalls of Weight Decay and How to Mitigate Them, arXiv 2011.11152 (AdamS, SGDS).
    """
    return Decay(
        coefficient=wd,
        site=Site.BEFORE,
        scale=Scale.LR,
        controller=Stable(),
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def adaptive(
    wd: float, *, beta: float = 0.9, schedule: Schedule | None = None, mask: Mask | str | None = None
) -> Decay:
    r"""Coupled decay whose coefficient follows the ratio of gradient norm to weight norm.

    $$\bar\lambda \leftarrow (1 - \beta)\bar\lambda + \beta\lambda\frac{\lVert g\rVert}{\lVert\theta\rVert}, \qquad
    g \leftarrow g + \bar\lambda\theta, \qquad \bar\lambda_0 = 0$$

    The norms are over all parameters that decay so, together.

    Args:
        wd: λ, at least 0: the decay term's norm over the gradient's, once settled.
        beta: weight of the newest ratio, above 0 and at most 1.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.adaptive(0.02)
        adaptive(0.02)

    Reference: Improving Robustness with Adaptive Weight Decay, arXiv 2210.00094.
    """
    return Decay(
        coefficient=wd,
        site=Site.GRADIENT,
        controller=GradientNormRatio(beta),
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def ada_decay(
    wd: float, *, alpha: float = 4.0, schedule: Schedule | None = None, mask: Mask | str | None = None
) -> Decay:
    r"""Coupled decay that pulls hardest where the gradient is largest within its tensor.

    $$g \leftarrow g + \lambda\frac{2}{1 + e^{-\alpha\tilde g}} \odot \theta, \qquad
    \tilde g = \frac{|g| - \operatorname{mean}|g|}{\operatorname{std}|g|}$$

    α = 0 is `coupled`.

    Args:
        wd: λ, at least 0.
        alpha: α, at least 0.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.ada_decay(1e-4)
        ada_decay(0.0001)

    Reference: Adaptive Weight Decay for Deep Neural Networks, arXiv 1907.08931.
    """
    return Decay(
        coefficient=wd,
        site=Site.GRADIENT,
        controller=GradientSigmoid(alpha),
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def constrained(
    *,
    kappa: float | None = None,
    kappa_initial: float | None = None,
    warmup_steps: int | None = None,
    measure: Literal["squared", "l1", "huber", "std"] = "squared",
    rho: float | None = None,
    schedule: Schedule | None = None,
) -> Decay:
    r"""Keep a measure R of each tensor under a bound κ: decay only as hard as that takes, tensor by tensor.

    $$\mu \leftarrow \max(0, \mu + \rho(R(\theta) - \kappa)), \qquad \theta \leftarrow \theta - \mu\nabla R(\theta)$$

    after each update. Where the explicit step would overshoot (κ far below R), the proximal step of μR is taken, so
    that the weights stay finite for any κ.

    Args:
        kappa: κ itself; or
        kappa_initial: κ as a multiple of R at attach; or
        warmup_steps: κ is R(θ) after so many steps, without decay until then. Give exactly one of the three.
        measure: R: "squared" (‖θ‖²), "l1", "huber" (δ = 1), or "std".
        rho: ρ, how fast μ reacts, above 0; None is 1 over the tensor's number of elements ("std": 1).
        schedule: multiplier of ρ over the steps really taken.

    Raises:
        DecayError: not exactly one bound, or a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.constrained(kappa_initial=1.0)
        constrained(kappa_initial=1)

    Reference: Improving Deep Learning Optimization through Constrained Parameter Regularization, arXiv 2311.09058.
    """
    bounds = {"kappa": kappa, "kappa_initial": kappa_initial, "warmup_steps": warmup_steps}
    given = {name: value for name, value in bounds.items() if value is not None}
    if len(given) != 1:
        raise DecayError(
            f"constrained got {len(given)} bounds: {', '.join(given) or 'none'}.",
            fix="Give exactly one of kappa=, kappa_initial=, warmup_steps=.",
        )
    if measure not in _MEASURES:
        raise DecayError(
            f"unknown measure {measure!r}.", fix=nearest(str(measure), _MEASURES) or f"Known: {', '.join(_MEASURES)}."
        )
    if kappa is not None:
        bound = Multiplier("fixed", kappa)
    elif kappa_initial is not None:
        bound = Multiplier("initial", kappa_initial)
    else:
        bound = Multiplier("warmup", warmup_steps=warmup_steps or 0)
    return Decay(
        coefficient=1.0 if rho is None else check_number(rho, "constrained rho", open_minimum=True),
        site=Site.AFTER,
        regularizer=_MEASURES[measure],
        controller=bound if rho is None else dataclasses.replace(bound, per_element=False),
        schedule=schedule or Constant(),
    )


_MEASURES: dict[str, Regularizer] = {"squared": SquaredNorm(), "l1": L1(), "huber": Huber(), "std": Deviation()}


def norm_control(
    wd: float, *, ratio: float = 1.0, schedule: Schedule | None = None, mask: Mask | str | None = None
) -> Decay:
    r"""Hold each tensor's norm near a target, by shrinking what is longer and lengthening what is shorter.

    $$\theta \leftarrow \theta - \eta_t\lambda\Big(1 - r\frac{\lVert\theta_0\rVert}{\lVert\theta\rVert}\Big)\theta$$

    after the update; θ₀ is the tensor at attach. r = 0 is decoupled decay after the update.

    Args:
        wd: λ, at least 0; η·λ must stay below 1.
        ratio: r, the target norm over the norm at attach, at least 0.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.norm_control(0.1)
        norm_control(0.1)

    Reference: Weight Norm Control, arXiv 2311.11446.
    """
    return Decay(
        coefficient=wd,
        site=Site.AFTER,
        scale=Scale.LR,
        controller=NormRatio(ratio),
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


def spectral(wd: float, *, schedule: Schedule | None = None) -> Decay:
    r"""Decoupled decay of each matrix's largest singular value only.

    $$\theta \leftarrow \theta - \eta_t\lambda\sigma_1 u_1 v_1^\top, \qquad \text{then } \theta \leftarrow \theta - u$$

    A kernel counts as a matrix of (first dimension, rest); a vector as one column, which is `decoupled`. One
    singular value decomposition per tensor and step: for small models.

    Args:
        wd: λ, at least 0.
        schedule: multiplier over the steps really taken.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.spectral(0.1)
        spectral(0.1)

    Reference: Spectral Norm Regularization for Improving the Generalizability of Deep Learning, arXiv 1705.10941;
    arXiv 2507.13338.
    """
    return Decay(
        coefficient=wd, site=Site.BEFORE, scale=Scale.LR, regularizer=Spectral(), schedule=schedule or Constant()
    )


def by_spectrum(
    wd: float,
    *,
    low: float = 2 / 3,
    high: float = 3.0,
    every_steps: int = 500,
    min_values: int = 50,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""Decoupled decay that is weaker for matrices with a heavier-tailed spectrum.

    $$\alpha = 1 + \frac{m}{\sum_{j \ge i}\ln\lambda_j - m\ln\lambda_i}, \qquad \lambda = \sigma^2 \text{ ascending},\
    i = \lfloor n/2\rfloor,\ m = n - i$$

    The coefficient runs linearly from low·λ at the smallest α among the matrices to high·λ at the largest.

    Args:
        wd: λ, at least 0.
        low: multiplier for the heaviest tail, at least 0.
        high: multiplier for the lightest tail, at least `low`.
        every_steps: how often spectra are measured.
        min_values: matrices with fewer singular values keep λ.
        schedule: multiplier over the steps really taken.
        mask: entries that take part.

    Raises:
        DecayError: a number outside its range.

    Example:
        >>> import torchdecay as td
        >>> td.forms.by_spectrum(0.1)
        by_spectrum(0.1)

    Reference: AlphaDecay: Module-wise Weight Decay for Heavy-Tailed Balancing in LLMs, arXiv 2506.14562.
    """
    return Decay(
        coefficient=wd,
        site=Site.BEFORE,
        scale=Scale.LR,
        controller=BySpectrum(low, high, every_steps, min_values),
        schedule=schedule or Constant(),
        mask=as_mask(mask),
    )


PRESETS: dict[str, Callable[..., Decay]] = {
    preset.__name__: preset
    for preset in (
        native,
        coupled,
        decoupled,
        independent,
        per_step,
        corrected,
        cautious,
        l1,
        elastic_net,
        toward,
        penalized,
        proximal,
        huber,
        toward_average,
        projected,
        stable,
        adaptive,
        ada_decay,
        constrained,
        norm_control,
        spectral,
        by_spectrum,
    )
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
