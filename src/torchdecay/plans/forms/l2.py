"""L2 toward zero, at each place of the step and at each scale."""

from __future__ import annotations

from torchdecay.arguments import check_number
from torchdecay.plans.controllers import Rows, as_gate
from torchdecay.plans.decay import Decay, Scale, Site, pull
from torchdecay.plans.presets import preset
from torchdecay.plans.references import Mask
from torchdecay.plans.schedules import Schedule


@preset("0.1")
def native(wd: float, *, schedule: Schedule | None = None) -> Decay:
    """The optimizer's own `weight_decay`, whatever that means there.

    SGD adds λθ to the gradient, AdamW takes θ ← θ − ηλθ: same name, different thing. Say `coupled` or `decoupled`
    when you mean one of them on any optimizer.

    Example:
        >>> import torchdecay as td
        >>> td.native(0.1)
        native(0.1)
    """
    return pull(wd, Site.NATIVE, schedule=schedule)


@preset("1e-4")
def coupled(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""L2 through the gradient, as SGD's and Adam's own `weight_decay`.

    $$g \leftarrow g + \lambda\theta$$

    For plain SGD it equals a penalty λ/2·Σθ² and, up to rounding, `decoupled`. Under an adaptive optimizer the pull
    goes through the preconditioner: weights with large gradients are pulled least, and with no gradient the first
    step is about the learning rate whatever λ is; use `decoupled` there.

    Example:
        >>> import torchdecay as td
        >>> td.coupled(1e-4)
        coupled(0.0001)

    Reference: Decoupled Weight Decay Regularization, arXiv 1711.05101, tells it from decoupled decay.
    """
    return pull(wd, Site.GRADIENT, schedule=schedule, mask=mask)


@preset("0.1")
def decoupled(
    wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None, rows: Rows = "all"
) -> Decay:
    r"""Decay that leaves the gradient alone, as torch's AdamW does it, on any optimizer.

    $$\theta \leftarrow \theta - \eta_t\lambda\theta, \qquad \text{then } \theta \leftarrow \theta - u$$

    The fraction per step is η_t·λ, group by group with that group's current learning rate. It differs from
    `independent`, whose fraction does not change when the peak learning rate does.

    Args:
        wd: λ, at least 0; η·λ must stay below 1.
        rows: which rows of a table decay at a step: "all"; "touched" ones, which the gradient has, so that idle rows
            stay as they are; or "lazy", all of them, but each pays when it is touched, what it owes, and every row
            at `handle.flush()`. Both make the cost of sparse gradients (`nn.Embedding(sparse=True)`) that of the
            touched rows.

    Example:
        >>> import torchdecay as td
        >>> td.decoupled(0.1).equation
        'θ ← θ − η·λ·θ, then θ ← θ − u'

    Reference: Decoupled Weight Decay Regularization, arXiv 1711.05101.
    """
    return pull(wd, Site.BEFORE, Scale.LR, schedule=schedule, mask=mask, gate=as_gate(rows))


@preset("1e-4,max_lr=1e-3")
def independent(
    wd: float,
    *,
    max_lr: float | None = None,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
    rows: Rows = "all",
) -> Decay:
    r"""Decoupled decay whose strength does not depend on the peak learning rate.

    $$\theta \leftarrow \theta - \frac{\eta_t}{\eta_{\max}}\lambda\theta, \qquad
    \text{then } \theta \leftarrow \theta - u$$

    λ is the fraction removed per step at the peak. `independent(λ·η_max)` equals `decoupled(λ)`. Two things are called
    independent: this one follows the schedule, as in optimi (`decouple_lr`) and Composer; NVIDIA's
    Emerging-Optimizers ignore it, which here is `per_step`.

    Args:
        wd: λ, at least 0; the fraction per step at the peak.
        max_lr: η_max, above 0; None takes each group's own peak: its `max_lr` key, a scheduler's `max_lrs`, or
            `initial_lr`, resolved at the first step and saved.

    Example:
        >>> import torchdecay as td
        >>> td.independent(1e-4, max_lr=1e-3)
        independent(0.0001, max_lr=0.001)

    Reference: Decoupled Weight Decay Regularization, arXiv 1711.05101, Algorithm 2; Small-scale proxies for
    large-scale Transformer training instabilities, arXiv 2309.14322.
    """
    return pull(wd, Site.BEFORE, Scale.LR_RATIO, max_lr=max_lr, schedule=schedule, mask=mask, gate=as_gate(rows))


@preset("1e-4", fraction=lambda decay: decay.coefficient)
def per_step(
    fraction: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None, rows: Rows = "all"
) -> Decay:
    r"""Remove a fixed fraction of each weight at every step, whatever the learning rate.

    $$\theta \leftarrow \theta - \lambda\theta, \qquad \text{then } \theta \leftarrow \theta - u$$

    The plain update rule w ← w − η·dw − λ·w. A step at learning rate 0 leaves the weights alone all the same.

    Args:
        fraction: λ, from 0 to 1.

    Raises:
        DecayError: a fraction outside 0 to 1.

    Example:
        >>> import torchdecay as td
        >>> td.per_step(1e-4)
        per_step(0.0001)
    """
    fraction = check_number(fraction, "per_step fraction", maximum=1.0)
    return pull(fraction, Site.BEFORE, schedule=schedule, mask=mask, gate=as_gate(rows))


@preset("0.1")
def corrected(
    wd: float,
    *,
    max_lr: float | None = None,
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
    rows: Rows = "all",
) -> Decay:
    r"""Decoupled decay that keeps the norm of scale-invariant weights steady while the learning rate falls.

    $$\theta \leftarrow \theta - \frac{\eta_t^2}{\eta_{\max}}\lambda\theta, \qquad
    \text{then } \theta \leftarrow \theta - u$$

    Under `decoupled` the equilibrium norm follows √η_t, so that gradients grow near the end of a schedule. Meant for
    layers that a norm follows, with `decoupled` for the rest:
    `rules=[td.rule(td.scale_invariant(), td.forms.corrected(0.1)), *td.STANDARD]`. At the peak both are equal.

    Example:
        >>> import torchdecay as td
        >>> td.corrected(0.1, max_lr=1e-3)
        corrected(0.1, max_lr=0.001)

    Reference: Why Gradients Rapidly Increase Near the End of Training, arXiv 2506.02285.
    """
    return pull(wd, Site.BEFORE, Scale.LR_SQUARED, max_lr=max_lr, schedule=schedule, mask=mask, gate=as_gate(rows))


@preset("0.1")
def penalized(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""An L2 penalty in the loss, added with `handle.penalty(model)`.

    $$L + \tfrac{\lambda}{2}\lVert\theta\rVert^2$$

    Same gradient as `coupled(λ)` at about ten times its cost; worth it only where the loss itself must contain the
    penalty: clipping, accumulation, LBFGS. `td.penalty(l2=a)` has no ½, so a = λ/2.

    Args:
        wd: λ, at least 0, as in `weight_decay`.

    Example:
        >>> import torchdecay as td
        >>> td.penalized(0.1).equation
        'L + λ·½‖θ‖²'
    """
    return pull(wd, Site.LOSS, schedule=schedule, mask=mask)
