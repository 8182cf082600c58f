"""Forms that look at the step before they pull: at the update, the gradients, the spectrum."""

from __future__ import annotations

import dataclasses
from typing import Literal

from torchdecay.arguments import check_number, check_word
from torchdecay.errors import DecayError
from torchdecay.plans.controllers import BySpectrum, Cautious, GradientNormRatio, GradientSigmoid, Multiplier, Stable
from torchdecay.plans.decay import Decay, Scale, Site, pull
from torchdecay.plans.presets import preset
from torchdecay.plans.references import Mask
from torchdecay.plans.regularizers import L1, Deviation, Huber, Regularizer, Spectral, SquaredNorm
from torchdecay.plans.schedules import Schedule


@preset("0.1")
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
        zero_update: where u is exactly 0: "decay" (as the paper) or "spare".

    Raises:
        DecayError: a number outside its range, or another zero_update.

    Example:
        >>> import torchdecay as td
        >>> td.cautious(0.1).equation
        'θ ← θ − η·λ·1[u⊙θ ≥ 0]⊙θ, then θ ← θ − u'

    Reference: Cautious Weight Decay, arXiv 2510.12402.
    """
    return pull(wd, Site.BEFORE, Scale.LR, gate=Cautious(zero_update), schedule=schedule, mask=mask)


@preset("1e-4")
def stable(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""Decoupled decay in proportion to the size that updates really have.

    $$\theta \leftarrow \theta - \frac{\eta_t\lambda}{\sqrt{\bar v}}\theta \text{ (Adam family)}, \qquad
    \theta \leftarrow \theta - \eta_t\lambda\frac{1 - \text{dampening}}{1 - \text{momentum}}\theta \text{ (SGD)}$$

    v̄ is the mean of this step's bias-corrected second moment over all elements of all groups. Where gradients are so
    small that the fraction a = ηλ/√v̄ reaches 1, the implicit step a/(1 + a) is taken, so that no weight explodes; at
    v̄ = 0 none. Other optimizers have no such number and are refused.

    Args:
        wd: λ, at least 0; smaller than for `decoupled` by about √v̄.

    Example:
        >>> import torchdecay as td
        >>> td.forms.stable(1e-4)
        stable(0.0001)

    Reference: On the Overlooked Pitfalls of Weight Decay and How to Mitigate Them, arXiv 2011.11152 (AdamS, SGDS).
    """
    return pull(wd, Site.BEFORE, Scale.LR, controller=Stable(), schedule=schedule, mask=mask)


@preset("0.02")
def adaptive(
    wd: float, *, beta: float = 0.9, schedule: Schedule | None = None, mask: Mask | str | None = None
) -> Decay:
    r"""Coupled decay whose coefficient follows the ratio of gradient norm to weight norm.

    $$\bar\lambda \leftarrow (1 - \beta)\bar\lambda + \beta\lambda\frac{\lVert g\rVert}{\lVert\theta\rVert}, \qquad
    g \leftarrow g + \bar\lambda\theta, \qquad \bar\lambda_0 = 0$$

    The norms are over all parameters that decay so, together; a step at ‖θ‖ = 0 does not enter the average.

    Args:
        wd: λ, at least 0: the decay term's norm over the gradient's, once settled.
        beta: weight of the newest ratio, above 0 and at most 1.

    Example:
        >>> import torchdecay as td
        >>> td.forms.adaptive(0.02)
        adaptive(0.02)

    Reference: Improving Robustness with Adaptive Weight Decay, arXiv 2210.00094.
    """
    return pull(wd, Site.GRADIENT, controller=GradientNormRatio(beta), schedule=schedule, mask=mask)


@preset("1e-4")
def ada_decay(
    wd: float, *, alpha: float = 4.0, schedule: Schedule | None = None, mask: Mask | str | None = None
) -> Decay:
    r"""Coupled decay that pulls hardest where the gradient is largest within its tensor.

    $$g \leftarrow g + \lambda\frac{2}{1 + e^{-\alpha\tilde g}} \odot \theta, \qquad
    \tilde g = \frac{|g| - \operatorname{mean}|g|}{\operatorname{std}|g|}$$

    α = 0 is `coupled`.

    Args:
        alpha: α, at least 0.

    Example:
        >>> import torchdecay as td
        >>> td.forms.ada_decay(1e-4)
        ada_decay(0.0001)

    Reference: Adaptive Weight Decay for Deep Neural Networks, arXiv 1907.08931.
    """
    return pull(wd, Site.GRADIENT, controller=GradientSigmoid(alpha), schedule=schedule, mask=mask)


_MEASURES: dict[str, Regularizer] = {"squared": SquaredNorm(), "l1": L1(), "huber": Huber(), "std": Deviation()}


@preset(
    "kappa_initial=1",
    kappa=lambda decay: decay.controller.bound if decay.controller.kind == "fixed" else None,
    kappa_initial=lambda decay: decay.controller.bound if decay.controller.kind == "initial" else None,
    warmup_steps=lambda decay: decay.controller.warmup_steps if decay.controller.kind == "warmup" else None,
    measure=lambda decay: next((name for name, one in _MEASURES.items() if one == decay.regularizer), "squared"),
    rho=lambda decay: None if decay.controller.per_element else decay.coefficient,
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
    check_word(measure, "measure", _MEASURES)
    if kappa is not None:
        bound = Multiplier("fixed", kappa)
    elif kappa_initial is not None:
        bound = Multiplier("initial", kappa_initial)
    else:
        bound = Multiplier("warmup", warmup_steps=warmup_steps or 0)
    return pull(
        1.0 if rho is None else check_number(rho, "constrained rho", open_minimum=True),
        Site.AFTER,
        regularizer=_MEASURES[measure],
        controller=bound if rho is None else dataclasses.replace(bound, per_element=False),
        schedule=schedule,
    )


@preset("0.1")
def spectral(wd: float, *, schedule: Schedule | None = None) -> Decay:
    r"""Decoupled decay of each matrix's largest singular value only.

    $$\theta \leftarrow \theta - \eta_t\lambda\sigma_1 u_1 v_1^\top, \qquad \text{then } \theta \leftarrow \theta - u$$

    A kernel counts as a matrix of (first dimension, rest); a vector as one column, which is `decoupled`. One
    singular value decomposition per tensor and step: for small models.

    Example:
        >>> import torchdecay as td
        >>> td.forms.spectral(0.1)
        spectral(0.1)

    Reference: Spectral Norm Regularization for Improving the Generalizability of Deep Learning, arXiv 1705.10941;
    arXiv 2507.13338.
    """
    return pull(wd, Site.BEFORE, Scale.LR, regularizer=Spectral(), schedule=schedule)


@preset("0.1,every_steps=100")
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
        low: multiplier for the heaviest tail, at least 0.
        high: multiplier for the lightest tail, at least `low`; η·λ·high must stay below 1.
        every_steps: how often spectra are measured.
        min_values: matrices with fewer singular values keep λ.

    Example:
        >>> import torchdecay as td
        >>> td.forms.by_spectrum(0.1)
        by_spectrum(0.1)

    Reference: AlphaDecay: Module-wise Weight Decay for Heavy-Tailed Balancing in LLMs, arXiv 2506.14562.
    """
    controller = BySpectrum(low, high, every_steps, min_values)
    return pull(wd, Site.BEFORE, Scale.LR, controller=controller, schedule=schedule, mask=mask)
