"""Proximal steps after the update, which do not overshoot."""

from __future__ import annotations

from torchdecay.plans.decay import Decay, Scale, Site, pull
from torchdecay.plans.granularity import Per
from torchdecay.plans.presets import preset
from torchdecay.plans.references import Mask
from torchdecay.plans.regularizers import L1, ElasticNet, GroupLasso, Huber, PNorm
from torchdecay.plans.schedules import Schedule


@preset("1e-3")
def l1(wd: float, *, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""L1 as a proximal step after the update: exact zeros, no oscillation around zero.

    $$\theta \leftarrow \operatorname{sign}(z)\max(|z| - \eta_t\lambda s, 0), \qquad z = \theta - u$$

    s follows the optimizer so that the minimum is that of L + λΣ|θ|: 1 for SGD, (1 − dampening)/(1 − momentum) with
    momentum, 1/(√v̂ + ε) elementwise for the Adam family; elsewhere s = 1, and `td.lower` says that the optimum
    differs. A subgradient, as `penalty(l1=λ)` gives it, makes weights oscillate around zero.

    Args:
        wd: λ, at least 0; scikit-learn's Lasso alpha for the loss SSE/(2n).

    Example:
        >>> import torchdecay as td
        >>> td.l1(1e-3)
        l1(0.001)

    Reference: Proximal Algorithms, Parikh and Boyd, Foundations and Trends in Optimization 1(3), 2014.
    """
    return pull(wd, Site.AFTER, Scale.LR, regularizer=L1(), proximal=True, schedule=schedule, mask=mask)


@preset("l1=1e-4,l2=0.1")
def elastic_net(*, l1: float, l2: float, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""L1 and L2 together as one proximal step after the update.

    $$\theta \leftarrow \frac{\operatorname{sign}(z)\max(|z| - \eta_t l_1 s, 0)}{1 + \eta_t l_2 s}, \qquad
    z = \theta - u$$

    s as in `l1`. l2 is a `weight_decay` (penalty l2/2·Σθ²); scikit-learn's ElasticNet(alpha, l1_ratio) has
    l1 = alpha·l1_ratio and l2 = alpha·(1 − l1_ratio) for the loss SSE/(2n).

    Args:
        l1: coefficient of Σ|θ|, at least 0.
        l2: coefficient of ½Σθ², at least 0.
        schedule: multiplier over the steps really taken, of both.

    Raises:
        DecayError: a coefficient that is negative, NaN, infinite or not a number.

    Example:
        >>> import torchdecay as td
        >>> td.elastic_net(l1=1e-3, l2=0.1)
        elastic_net(l1=0.001, l2=0.1)

    Reference: Regularization and variable selection via the elastic net, Zou and Hastie, JRSS B 67(2), 2005.
    """
    return pull(1.0, Site.AFTER, Scale.LR, regularizer=ElasticNet(l1, l2), proximal=True, schedule=schedule, mask=mask)


@preset("0.01")
def proximal(
    wd: float, *, max_lr: float | None = None, schedule: Schedule | None = None, mask: Mask | str | None = None
) -> Decay:
    r"""Independent decay as a proximal step: implicit, so that no coefficient ever flips a sign.

    $$\theta \leftarrow \frac{\theta - u}{1 + \lambda\eta_t/\eta_{\max}}$$

    It differs from `independent` by terms of second order in λ, and in that the update decays too.

    Args:
        wd: λ, at least 0, in units of one step at the peak.

    Example:
        >>> import torchdecay as td
        >>> td.forms.proximal(0.01)
        proximal(0.01)

    Reference: Understanding AdamW through Proximal Methods and Scale-Freeness, arXiv 2202.00089.
    """
    return pull(wd, Site.AFTER, Scale.LR_RATIO, max_lr=max_lr, proximal=True, schedule=schedule, mask=mask)


@preset("0.1,delta=0.5")
def huber(wd: float, *, delta: float = 1.0, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""Decay that is quadratic for small weights and linear for large ones, as a proximal step.

    $$\theta \leftarrow \begin{cases} z/(1 + \tau) & |z| \le (1 + \tau)\delta \\
    z - \tau\delta\operatorname{sign} z & \text{else} \end{cases}, \qquad z = \theta - u,\ \tau = \eta_t\lambda$$

    Weights far from 0 lose ηλδ per step and not a fraction, so that a few large ones may live; with a large δ it is
    `proximal` with the scale of `decoupled`.

    Args:
        delta: δ, above 0, in units of the weights.

    Example:
        >>> import torchdecay as td
        >>> td.forms.huber(0.1, delta=0.5)
        huber(0.1, delta=0.5)

    Reference: AdamHD: Decoupled Huber Decay Regularization for Language Model Pre-Training, arXiv 2511.14721.
    """
    return pull(wd, Site.AFTER, Scale.LR, regularizer=Huber(delta), proximal=True, schedule=schedule, mask=mask)


@preset("1e-3,per=row")
def group_lasso(wd: float, *, per: Per = "row", schedule: Schedule | None = None) -> Decay:
    r"""L1 of the norms of rows, columns or experts, as a proximal step after the update: whole slices become exactly 0.

    $$\theta_s \leftarrow \max\Big(1 - \frac{\eta_t\lambda s}{\lVert z_s\rVert}, 0\Big) z_s, \qquad z = \theta - u$$

    for each slice. s follows SGD and its momentum, as in `l1`; under the Adam family, which has another size for each
    element of a slice, and elsewhere s = 1, and `td.lower` says that the optimum is not that of loss + penalty.

    Args:
        wd: λ, at least 0.
        per: what becomes 0 together: "row", "column", or "expert", what lies along the first dimension.

    Example:
        >>> import torchdecay as td
        >>> td.forms.group_lasso(1e-3)
        group_lasso(0.001)

    Reference: Model Selection and Estimation in Regression with Grouped Variables, Yuan and Lin, Journal of the Royal
    Statistical Society B 68(1), 2006.
    """
    return pull(wd, Site.AFTER, Scale.LR, regularizer=GroupLasso(per), proximal=True, schedule=schedule)


@preset("0.1,p=1")
def p_norm(wd: float, *, p: float, schedule: Schedule | None = None, mask: Mask | str | None = None) -> Decay:
    r"""Decoupled decay by any p-norm: for p below 2 small weights shrink faster than large ones, and go to 0.

    $$\theta \leftarrow \frac{\theta - u}{1 + p\,\eta_t\lambda|\theta|^{p-2}}$$

    with the weights before the update in the power. For p = 2 it divides by 1 + 2ηλ. A weight that is 0 stays 0 for p
    below 2, so that a tensor of zeros is refused at attach; `l1` sets weights to 0 exactly, and lets them come back.

    Args:
        wd: λ, at least 0.
        p: above 0.

    Example:
        >>> import torchdecay as td
        >>> td.forms.p_norm(0.1, p=1)
        p_norm(0.1, p=1)

    Reference: Decoupled Weight Decay for Any p Norm, arXiv 2404.10824.
    """
    return pull(wd, Site.AFTER, Scale.LR, regularizer=PNorm(p), proximal=True, schedule=schedule, mask=mask)
