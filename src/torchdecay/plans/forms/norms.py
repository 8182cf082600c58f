"""Forms that set the norm of each tensor, or of each of its slices."""

from __future__ import annotations

from typing import Literal

from torchdecay.plans.controllers import NormRatio
from torchdecay.plans.decay import Decay, Scale, Site, pull
from torchdecay.plans.granularity import Per
from torchdecay.plans.presets import preset
from torchdecay.plans.references import Mask
from torchdecay.plans.schedules import Schedule
from torchdecay.plans.update_rules import Hyperball, NormProjection, RadialBrake, RelativeUpdate, UpdateRule


@preset("0.1,ratio=0.5")
def norm_control(
    wd: float,
    *,
    ratio: float = 1.0,
    per: Per | None = "tensor",
    schedule: Schedule | None = None,
    mask: Mask | str | None = None,
) -> Decay:
    r"""Hold each tensor's norm near a target, by shrinking what is longer and lengthening what is shorter.

    $$\theta \leftarrow \theta - \eta_t\lambda\Big(1 - r\frac{\lVert\theta_0\rVert}{\lVert\theta\rVert}\Big)\theta$$

    after the update; θ₀ is the tensor at attach. r = 0 is decoupled decay after the update.

    Args:
        wd: λ, at least 0; η·λ must stay below 1.
        ratio: r, the target norm over the norm at attach, at least 0.
        per: the slices that have a norm each: "tensor", "row", "column", or "expert", what lies along the first
            dimension; None is "expert" for a tensor of three dimensions, a stack of matrices, and "tensor" for others.

    Example:
        >>> import torchdecay as td
        >>> td.forms.norm_control(0.1)
        norm_control(0.1)

    Reference: Weight Norm Control, arXiv 2311.11446.
    """
    return pull(wd, Site.AFTER, Scale.LR, controller=NormRatio(ratio, per), schedule=schedule, mask=mask)


@preset("initial")
def hyperball(
    radius: Literal["initial", "current"] | float = "initial",
    *,
    per: Per | None = None,
    schedule: Schedule | None = None,
) -> Decay:
    r"""Hold the norm of each weight, and set that of each step: η of the radius far, and on the sphere all the time.

    $$W \leftarrow R \cdot N(W - \eta_t R \cdot N(u)), \qquad N(x) = \frac{x}{\lVert x\rVert}$$

    u is the optimizer's own direction, learning rate left out: (W − W_after)/η, measured around its step with decay 0.
    A zero norm gives no update: where u is 0, W stays. It takes a copy of the weights. `projection` leaves the length
    of the step to the optimizer; `relative_update` sets that, and leaves the norm.

    Args:
        radius: R: "initial" (the norm at attach, as its authors), "current" (that before each step, which drifts by
            rounding alone), or a number above 0.
        schedule: share of the rule in what W becomes, from 0, the optimizer's own step, to 1.

    Raises:
        DecayError: a radius that is no such number or word, or a granularity that is none.

    Example:
        >>> import torchdecay as td
        >>> td.forms.hyperball()
        hyperball('initial')

    Reference: Fantastic Pretraining Optimizers and Where to Find Them II: Hyperball Optimization, arXiv 2606.16899.
    """
    return _rule(Hyperball(per, radius), schedule)


@preset("initial")
def projection(
    radius: Literal["initial", "current"] | float = "initial",
    *,
    per: Per | None = None,
    schedule: Schedule | None = None,
) -> Decay:
    r"""Hold the norm of each weight: the step as the optimizer takes it, then back onto the sphere.

    $$W \leftarrow R \cdot N(W - \eta_t u), \qquad N(x) = \frac{x}{\lVert x\rVert}$$

    Decoupled decay cλ before the step would do no more than make the step longer, by 1/(1 − cλ). `hyperball` sets the
    length of the step too; `norm_control` only leans toward the norm; `projected` is another thing, a pull back toward
    a reference.

    Args:
        schedule: share of the rule in what W becomes, from 0, the optimizer's own step, to 1.

    Raises:
        DecayError: a radius that is no such number or word, or a granularity that is none.

    Example:
        >>> import torchdecay as td
        >>> td.forms.projection(2.0, per="row")
        projection(2, per='row')

    Reference: without the norm of the update, the rule of Hyperball Optimization, arXiv 2606.16899.
    """
    return _rule(NormProjection(per, radius), schedule)


@preset("outward=0.5,inward=1")
def radial_brake(
    *, outward: float = 0.5, inward: float = 1.0, per: Per | None = None, schedule: Schedule | None = None
) -> Decay:
    r"""Let only a part of what the step changes in a weight's norm through; its direction is the step's.

    $$\lVert W'\rVert = \lVert W\rVert + s\,(\lVert W - \eta_t u\rVert - \lVert W\rVert)$$

    s is `outward` where the step makes the weight longer, and `inward` where it makes it shorter. With both 1 nothing
    is changed; with both 0 it is `projection("current")`.

    Args:
        outward: part of what the norm grows that is kept, from 0 to 1.
        inward: part of what it shrinks that is kept, from 0 to 1.
        schedule: share of the rule in what W becomes, from 0, the optimizer's own step, to 1.

    Raises:
        DecayError: a number outside its range, or a granularity that is none.

    Example:
        >>> import torchdecay as td
        >>> td.forms.radial_brake(outward=0.25)
        radial_brake(outward=0.25)

    Reference: NVIDIA's Emerging-Optimizers, RadialBrakeHook; no paper is known here.
    """
    return _rule(RadialBrake(per, outward, inward), schedule)


@preset("per=tensor")
def relative_update(*, per: Per | None = None, schedule: Schedule | None = None) -> Decay:
    r"""Set the length of each step to η times the weight's norm, which stays free.

    $$W \leftarrow W - \eta_t \frac{\lVert W\rVert}{\lVert u\rVert} u$$

    u is the optimizer's own direction, as in `hyperball`, and η the group's learning rate. A zero norm gives no update.
    It takes a copy of the weights. `hyperball` sets the norm of the weight too.

    Args:
        schedule: share of the rule in what W becomes, from 0, the optimizer's own step, to 1.

    Raises:
        DecayError: a granularity that is none.

    Example:
        >>> import torchdecay as td
        >>> td.forms.relative_update(per="row")
        relative_update(per='row')

    Reference: NVIDIA's Emerging-Optimizers, RelativeUpdateHook; no paper is known here.
    """
    return _rule(RelativeUpdate(per), schedule)


def _rule(update: UpdateRule, schedule: Schedule | None) -> Decay:
    return pull(1.0, Site.AFTER, update=update, schedule=schedule)
