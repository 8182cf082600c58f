"""Pulls toward a reference in place of zero."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torchdecay.arguments import check_number
from torchdecay.plans.controllers import Projection
from torchdecay.plans.decay import Decay, Scale, Site, pull
from torchdecay.plans.presets import preset
from torchdecay.plans.references import Average, Mask, as_reference
from torchdecay.plans.schedules import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@preset("initial,0.1")
def toward(
    reference: Literal["initial"] | float | str | Path | Mapping[str, Tensor],
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
        reference: "initial" (the weights at attach), a number (1.0, where the gains of norms should stay near 1), the
            path of a safetensors or torch file of tensors, a state dict, or a name that
            `attach(..., bind={name: tensors})` fills in.
        wd: λ, at least 0; η·λ must stay below 1.

    Raises:
        DecayError: a number outside its range, or a reference that is none of these.

    Example:
        >>> import torchdecay as td
        >>> td.toward("initial", 0.1)
        toward("initial", 0.1)

    Reference: Explicit Inductive Bias for Transfer Learning with Convolutional Networks (L2-SP), arXiv 1802.01483.
    """
    return pull(wd, Site.BEFORE, Scale.LR, reference=as_reference(reference), schedule=schedule, mask=mask)


@preset("0.1,beta=0.99")
def toward_average(
    wd: float, *, beta: float = 0.999, schedule: Schedule | None = None, mask: Mask | str | None = None
) -> Decay:
    r"""Decoupled decay toward the weights' own moving average, which follows them.

    $$\theta \leftarrow \theta + \eta_t\lambda(\bar\theta - \theta), \quad \theta \leftarrow \theta - u, \quad
    \bar\theta \leftarrow \beta\bar\theta + (1 - \beta)\theta$$

    The average starts at the weights at attach and costs a copy of them; it is saved by `handle.state_dict()`.

    Args:
        beta: β, from 0 to 1; 1 is `toward("initial", wd)`.

    Example:
        >>> import torchdecay as td
        >>> td.forms.toward_average(0.1)
        toward_average(0.1)

    Reference: Mean teachers are better role models, arXiv 1703.01780, for the average; the pull is L2-SP's
    (arXiv 1802.01483).
    """
    return pull(wd, Site.BEFORE, Scale.LR, reference=Average(beta), schedule=schedule, mask=mask)


@preset("initial,1")
def projected(
    reference: Literal["initial"] | float | str | Path | Mapping[str, Tensor],
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
        wd: λ, from 0 to 1: beyond 1 a tensor would be pulled past where it came from.

    Raises:
        DecayError: a number outside its range, or a reference that is none of these.

    Example:
        >>> import torchdecay as td
        >>> td.forms.projected("initial", 1.0)
        projected("initial", 1)

    Reference: Rethinking Weight Decay for Robust Fine-Tuning of Foundation Models, arXiv 2411.01713.
    """
    wd = check_number(wd, "projected wd", maximum=1.0)
    return pull(wd, Site.AFTER, reference=as_reference(reference), controller=Projection(), schedule=schedule)
