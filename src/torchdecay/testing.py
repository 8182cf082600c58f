"""Laws that an optimizer, or a form of decay, keeps: for the tests of those who write one.

    import pytest
    from torchdecay import testing

    @pytest.mark.parametrize("law", testing.OPTIMIZER_LAWS, ids=lambda law: law.__name__)
    def test_my_optimizer_can_be_decayed(law):
        law(lambda params: MyOptimizer(params, lr=1e-2))

Each law is a function that returns nothing where it holds, and raises AssertionError with both sides where it does not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from torchdecay.apply.attach import attach
from torchdecay.apply.handle import Handle
from torchdecay.errors import ApplyError
from torchdecay.plans.decay import Decay
from torchdecay.plans.forms import coupled, decoupled
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan as make_plan

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Makes the optimizer that is tested, without decay of its own and with a learning rate above 0, from parameters."""

Shapes = Sequence[tuple[int, ...]]

SHAPES: Shapes = ((4, 3), (5,), (2, 2, 3), (3, 3))
"""The weights of a law, where nothing else is said: matrices, a vector, and one of three dimensions."""

_STEPS = 6
_COEFFICIENT = 0.25


def check_optimizer(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """Hold an optimizer to all of `OPTIMIZER_LAWS`.

    Args:
        make: makes the optimizer from parameters, without decay of its own and with a learning rate above 0.
        shapes: of the weights, for an optimizer that takes matrices only, say.

    Raises:
        AssertionError: the first law that does not hold, and where.

    Example:
        >>> import torch
        >>> check_optimizer(lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0))
    """
    for law in OPTIMIZER_LAWS:
        law(make, shapes)


def check_decay(decay: Decay) -> None:
    """Hold a form of decay to all of `DECAY_LAWS`.

    Args:
        decay: the form with its coefficient, which is above 0; one that acts in the step, not in the loss. Weights that
            `td.attach` refuses for it, as vectors or zeros, are left out.

    Raises:
        AssertionError: the first law that does not hold, and where.
        ApplyError: attach refuses matrices for it.

    Example:
        >>> import torchdecay as td
        >>> check_decay(td.cautious(0.1))
    """
    for law in DECAY_LAWS:
        law(decay)


# ── Laws of an optimizer ──


def decoupled_decay_is_a_multiplication_before_the_step(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """Attached, w ← (1 − ηλ)·w and then the update: the weights of steps with that line by hand, to the bit."""

    def by_hand(group: dict[str, Any], param: torch.Tensor) -> None:
        param.mul_(1 - group["lr"] * _COEFFICIENT)

    _same_by_hand(make, shapes, decoupled(_COEFFICIENT), by_hand)


def decay_of_a_single_step_arrives(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """Decay that acts in one step of several moves every weight: a step that puts weights back would lose it."""
    weights = _weights(shapes)
    optimizer = make(weights)
    handle = _attach(optimizer, None, weights)
    for step in _gradients(weights):
        decay = decoupled(_COEFFICIENT) if step == _STEPS // 2 else None
        handle.update(make_plan(_Holder(weights), decay, rules=()))
        optimizer.step()
    for place, (weight, bare) in enumerate(zip(weights, _trained(make, shapes), strict=True)):
        said = f"Decay in one step left weight {place} as it is without:\n{bare}"
        assert not torch.equal(weight.detach(), bare), said


def coupled_decay_is_an_addition_to_the_gradient(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """Attached, g ← g + λ·w and then the update: the weights of steps with that line by hand, to the bit."""

    def by_hand(group: dict[str, Any], param: torch.Tensor) -> None:
        assert param.grad is not None
        param.grad.add_(param, alpha=_COEFFICIENT)

    _same_by_hand(make, shapes, coupled(_COEFFICIENT), by_hand)


def a_plan_without_decay_changes_nothing(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """Attached where everything is spared, the weights are those of the bare optimizer, to the bit."""
    _same(_trained(make, shapes, None), _trained(make, shapes), "attached, and bare")


def decay_at_learning_rate_zero_takes_nothing(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """With the learning rate set to 0, decoupled decay leaves what the bare optimizer leaves, to the bit."""

    def still(optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.0

    attached = _trained(make, shapes, decoupled(_COEFFICIENT), before=still)
    _same(attached, _trained(make, shapes, before=still), "attached, and bare")


def a_parameter_without_gradient_is_left_alone(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """What the loss does not reach neither steps nor decays."""
    weights = _weights(shapes)
    idle = nn.Parameter(torch.ones(shapes[0], dtype=torch.float64))
    optimizer = make([*weights, idle])
    _attach(optimizer, decoupled(_COEFFICIENT), [*weights, idle])
    for _ in _gradients(weights):
        optimizer.step()
    _same([idle.detach()], [torch.ones_like(idle)], "after the steps, and before")


def training_goes_on_from_its_checkpoint(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """Saved in the middle, loaded into a new optimizer with the plan attached: the weights of one run, to the bit."""
    for decay in (decoupled(_COEFFICIENT), coupled(_COEFFICIENT)):
        _same(_resumed(make, shapes, decay), _trained(make, shapes, decay), f"{decay!r}: resumed, and in one go")


def a_handle_leaves_the_optimizer_as_it_was(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """After `remove()` the optimizer steps as the bare one does, to the bit, from the same weights and state."""
    weights = _weights(shapes)
    optimizer = make(weights)
    handle = _attach(optimizer, decoupled(_COEFFICIENT), weights)
    others = _weights(shapes)
    bare = make(others)
    handle.remove()
    for left, right in zip(_gradients(weights), _gradients(others), strict=True):
        assert left == right
        optimizer.step()
        bare.step()
    _same([w.detach() for w in weights], [w.detach() for w in others], "after remove(), and bare")


def a_closure_is_a_step(make: MakeOptimizer, shapes: Shapes = SHAPES) -> None:
    """`step(closure)` gives the weights of `step()` after the same gradients, to the bit, decay included."""

    def train(*, by_closure: bool) -> list[torch.Tensor]:
        weights = _weights(shapes)
        optimizer = make(weights)
        _attach(optimizer, coupled(_COEFFICIENT), weights)
        for step in range(_STEPS):
            with torch.enable_grad():
                if by_closure:
                    optimizer.step(partial(_loss_at, weights, step))
                else:
                    _loss_at(weights, step)
                    optimizer.step()
        return [weight.detach() for weight in weights]

    _same(train(by_closure=True), train(by_closure=False), "by closure, and by step()")


OPTIMIZER_LAWS: tuple[Callable[..., None], ...] = (
    a_plan_without_decay_changes_nothing,
    decoupled_decay_is_a_multiplication_before_the_step,
    decay_of_a_single_step_arrives,
    coupled_decay_is_an_addition_to_the_gradient,
    decay_at_learning_rate_zero_takes_nothing,
    a_parameter_without_gradient_is_left_alone,
    training_goes_on_from_its_checkpoint,
    a_handle_leaves_the_optimizer_as_it_was,
    a_closure_is_a_step,
)
"""What `check_optimizer` holds an optimizer to; to be parametrized over, each with the optimizer's maker."""


# ── Laws of a form ──


def a_form_is_read_back_from_its_json(decay: Decay) -> None:
    """A plan of it is the plan that is read back from its JSON."""
    plan = make_plan(_Holder(_weights(SHAPES)), decay, rules=())
    assert Plan.from_json(plan.to_json()) == plan, f"{decay!r} is not read back from its JSON"


def a_form_moves_weights_and_leaves_them_finite(decay: Decay) -> None:
    """With SGD and Adam the weights differ from those without decay, and are finite: also a weight that is all 0."""
    for make in _BASES:
        for scale in (1.0, 0.0):
            if shapes := _taken(decay, scale):
                weights = _trained(make, shapes, decay, scale=scale)
                assert all(map(_finite, weights)), f"{decay!r}: not finite from weights times {scale:g}"
        shapes = _taken(decay)
        bare = _trained(make, shapes)
        assert not all(map(torch.equal, _trained(make, shapes, decay), bare)), f"{decay!r} moves no weight"


def a_form_goes_on_from_its_checkpoint(decay: Decay) -> None:
    """Saved in the middle and loaded, with its references: the weights of one run, to the bit."""
    for make in _BASES:
        shapes = _taken(decay)
        _same(_resumed(make, shapes, decay), _trained(make, shapes, decay), f"{decay!r}: resumed, and in one go")


def a_form_does_not_mind_the_order_of_parameters(decay: Decay) -> None:
    """Parameters given the other way round end at the same weights: to 1e-12, since sums over all may round."""
    for make in _BASES:
        shapes = _taken(decay)
        straight, turned = _trained(make, shapes, decay), _trained(make, shapes, decay, reverse=True)
        for one, other in zip(straight, turned, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def a_form_spares_what_is_frozen(decay: Decay) -> None:
    """A parameter that requires no gradient keeps its values."""
    weights = _weights(_taken(decay))
    weights[0].requires_grad_(False)
    before = weights[0].detach().clone()
    optimizer = _BASES[0](weights)
    _attach(optimizer, decay, weights)
    for _ in _gradients(weights[1:]):
        optimizer.step()
    _same([weights[0].detach()], [before], f"{decay!r}: after the steps, and before")


DECAY_LAWS: tuple[Callable[[Decay], None], ...] = (
    a_form_is_read_back_from_its_json,
    a_form_moves_weights_and_leaves_them_finite,
    a_form_goes_on_from_its_checkpoint,
    a_form_does_not_mind_the_order_of_parameters,
    a_form_spares_what_is_frozen,
)
"""What `check_decay` holds a form to; to be parametrized over, each with the form."""


# ── The training that they share ──

_BASES: tuple[MakeOptimizer, ...] = (
    lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9),
    lambda params: torch.optim.Adam(params, lr=0.05),
)


def _weights(shapes: Shapes, scale: float = 1.0) -> list[nn.Parameter]:
    """A few small weights, always the same."""
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(scale * torch.randn(one, generator=generator, dtype=torch.float64)) for one in shapes]


def _set_gradients(weights: list[nn.Parameter], step: int) -> None:
    for weight in weights:
        generator = torch.Generator().manual_seed(1000 * step + sum(weight.shape))
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


def _gradients(weights: list[nn.Parameter]) -> Iterator[int]:
    """Set the gradients of each step, which depend on the step and the weight's shape only."""
    for step in range(_STEPS):
        _set_gradients(weights, step)
        yield step


def _loss_at(weights: list[nn.Parameter], step: int) -> Any:
    """Compute gradients afresh."""
    for weight in weights:
        weight.grad = None
    loss = torch.stack([(weight.cos() * (step + 1)).sum() for weight in weights]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


class _Holder(nn.Module):
    """A model that is its weights."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)


def _attach(optimizer: torch.optim.Optimizer, decay: Decay | None, weights: list[nn.Parameter]) -> Handle:
    """Attach a plan in which every weight has the decay, or none has."""
    model = _Holder(weights)
    return attach(optimizer, make_plan(model, decay, rules=()), model=model, via="hook", save_references=True)


def _taken(decay: Decay, scale: float = 1.0) -> Shapes:
    """Of the shapes those that attach takes: slices refuse vectors, and norms that are set refuse zeros."""
    taken = []
    for shape in SHAPES:
        weights = _weights([shape], scale)
        try:
            _attach(_BASES[0](weights), decay, weights)
        except ApplyError:
            if scale and shape == SHAPES[0]:
                raise
        else:
            taken.append(shape)
    return taken


def _trained(
    make: MakeOptimizer,
    shapes: Shapes,
    decay: Any = ...,
    *,
    before: Callable[[torch.optim.Optimizer], None] | None = None,
    scale: float = 1.0,
    reverse: bool = False,
) -> list[torch.Tensor]:
    """The weights after a few steps: with a plan of `decay`, or bare; `before` is called before each step."""
    weights = _weights(shapes, scale)
    optimizer = make(weights[::-1] if reverse else weights)
    if decay is not ...:
        _attach(optimizer, decay, weights)
    for _ in _gradients(weights):
        if before is not None:
            before(optimizer)
        optimizer.step()
    return [weight.detach() for weight in weights]


def _resumed(make: MakeOptimizer, shapes: Shapes, decay: Decay) -> list[torch.Tensor]:
    """The weights after the same steps, where a new optimizer takes over in the middle, from a checkpoint."""
    weights = _weights(shapes)
    optimizer = make(weights)
    _attach(optimizer, decay, weights)
    for step in range(_STEPS):
        if step == _STEPS // 2:
            # As a file would have it: nothing of it is shared.
            saved = copy.deepcopy(optimizer.state_dict())
            weights = [nn.Parameter(weight.detach().clone()) for weight in weights]
            optimizer = make(weights)
            _attach(optimizer, decay, weights)
            optimizer.load_state_dict(saved)
        _set_gradients(weights, step)
        optimizer.step()
    return [weight.detach() for weight in weights]


def _same_by_hand(make: MakeOptimizer, shapes: Shapes, decay: Decay, line: Callable[..., None]) -> None:
    """A decay that is attached, against a line before each step, for each group and weight."""

    def before(optimizer: torch.optim.Optimizer) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for param in group["params"]:
                    line(group, param)

    _same(_trained(make, shapes, decay), _trained(make, shapes, before=before), "attached, and by hand")


def _same(left: list[torch.Tensor], right: list[torch.Tensor], what: str) -> None:
    for place, (one, other) in enumerate(zip(left, right, strict=True)):
        if not torch.equal(one, other):
            far = (one - other).abs().max().item()
            raise AssertionError(f"{what}: weight {place} differs, by {far:.3g} at most.\n{one}\n{other}")


def _finite(tensor: torch.Tensor) -> bool:
    return bool(tensor.isfinite().all())
