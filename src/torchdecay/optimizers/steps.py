"""An optimizer's step as passes of decay need it: the sign of the update that comes, the size of one that is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchdecay.optimizers.cards import card_of, native_of, update_of
from torchdecay.optimizers.elementwise import Columns, Elementwise
from torchdecay.optimizers.gradients import as_seen, grad_of, maximizes
from torchdecay.optimizers.updates import Update
from torchdecay.plans.decay import Site
from torchdecay.plans.regularizers import PNorm, Regularizer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


def reads_update_sign(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether `update_directions` knows this optimizer."""
    return update_of(optimizer, group) is not None


def update_directions(optimizer: Optimizer, group: Mapping[str, Any], params: Sequence[Tensor]) -> list[Columns]:
    """Numbers with the signs of the update u in θ ← θ − u that comes next, zeros included, for parameters of a group.

    Only for what `reads_update_sign` knows.
    The decay must not go through the gradient in this group, since the gradient is read as it is.
    """
    card = card_of(optimizer)
    assert card is not None and card.update is not None
    grads = list(map(grad_of, params))
    if maximizes(optimizer, group) or getattr(optimizer, "grad_scale", None) is not None:
        grads = [as_seen(optimizer, group, grad) for grad in grads]
    return card.update.all_coming_signs(group, [optimizer.state.get(p, {}) for p in params], grads, params)


def tells_update(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether `Update.taken` is the update that this group took, without any decay, by what its state tells."""
    update, native = update_of(optimizer, group), native_of(optimizer, group)
    if update is None or native is None or not update.is_whole:
        return False
    # SGD's buffer holds earlier decay, which can't be told from earlier gradients.
    return not group["momentum"] if update.is_linear else native.site is Site.BEFORE


def is_matched(optimizer: Optimizer, group: Mapping[str, Any], param: Tensor, regularizer: Regularizer) -> bool:
    """Whether `step_size` makes the optimum of L + λR a fixed point of this optimizer with a proximal step.

    A size for each element is that of elements alone: of slices that have one threshold it is none.
    """
    update = _matched(optimizer, param)
    return update is not None and (update.is_linear or regularizer.elementwise) and not isinstance(regularizer, PNorm)


def step_size(
    optimizer: Optimizer, group: Mapping[str, Any], param: Tensor, regularizer: Regularizer
) -> float | Elementwise:
    r"""The s for which the optimizer's settled update is lr·s·g: what a gradient g that stays moves a weight by.

    $$s = 1 \text{ (SGD)}, \quad \frac{1 - \text{dampening}}{1 - \text{momentum}} \text{ (momentum)}, \quad
    \frac{1}{\sqrt{\hat v} + \epsilon} \text{ elementwise (Adam, AdamW)}$$

    NAdam and RAdam as Adam, times what their momentum schedule and their rectification are at this step. Elsewhere
    1, and `is_matched` says no; and 1 where R is smooth, whose proximal step divides. To be called after the step, when
    the state is the step's own.
    """
    update = _matched(optimizer, param)
    if update is None or regularizer.smooth or not is_matched(optimizer, group, param, regularizer):
        return 1.0
    return update.step_size(group, optimizer.state.get(param, {}))


def step_sizes(
    optimizer: Optimizer, group: Mapping[str, Any], params: Sequence[Tensor], regularizer: Regularizer
) -> float | list[Columns]:
    """`step_size` for several parameters of a group of one dtype: one for all, or numbers for each element."""
    update = _matched(optimizer, params[0])
    if update is None or regularizer.smooth or not is_matched(optimizer, group, params[0], regularizer):
        return 1.0
    return update.step_sizes(group, [optimizer.state.get(param, {}) for param in params])


def _matched(optimizer: Optimizer, param: Tensor) -> Update | None:
    card = card_of(optimizer)
    update = None if card is None else card.update
    # Adam scales the two parts of a complex weight apart, so that no step size is that of its modulus.
    matched = update is not None and update.is_whole and (update.is_linear or not param.is_complex())
    return update if matched else None
