"""Each regularizer is what its equation says: its gradient is autograd's, its prox is the minimum that defines it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from plans.examples import REGULARIZERS
from torchdecay.errors import DecayError
from torchdecay.plans.regularizers import (
    L1,
    L2,
    Deviation,
    ElasticNet,
    GroupLasso,
    Huber,
    PNorm,
    Regularizer,
    Spectral,
    SquaredNorm,
)

ELEMENTWISE = [one for one in REGULARIZERS if isinstance(one, (L2, L1, ElasticNet, Huber, SquaredNorm))]
WHOLE = [one for one in REGULARIZERS if one not in ELEMENTWISE]
by_name = pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)


def points(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def define(regularizer: Regularizer, x: Tensor) -> Tensor:
    """R(x) once more, element by element from its equation."""
    flat = [float(value) for value in x.flatten()]
    if isinstance(regularizer, L2):
        total = sum(value * value for value in flat) / 2
    elif isinstance(regularizer, SquaredNorm):
        total = sum(value * value for value in flat)
    elif isinstance(regularizer, L1):
        total = sum(abs(value) for value in flat)
    elif isinstance(regularizer, ElasticNet):
        total = sum(regularizer.l1 * abs(value) + regularizer.l2 * value * value / 2 for value in flat)
    elif isinstance(regularizer, Huber):
        d = regularizer.delta
        total = sum(value * value / 2 if abs(value) <= d else d * (abs(value) - d / 2) for value in flat)
    elif isinstance(regularizer, Deviation):
        mean = sum(flat) / len(flat)
        total = (sum((value - mean) ** 2 for value in flat) / len(flat)) ** 0.5
    elif isinstance(regularizer, GroupLasso):
        rows = x.reshape(1, -1) if x.dim() < 2 else x.reshape(-1, x.shape[-1])
        total = sum(sum(value * value for value in row) ** 0.5 for row in rows.tolist())
    else:
        matrix = x.reshape(x.shape[0], -1) if x.dim() > 1 else x.reshape(-1, 1)
        total = float(torch.linalg.eigvalsh(matrix.T @ matrix)[-1]) / 2
    return torch.tensor(total, dtype=torch.float64)


@by_name
@pytest.mark.parametrize("shape", [(6,), (3, 4), (4, 3), (3, 2, 2)], ids=str)
def test_the_value_is_the_equation(regularizer: Regularizer, shape: tuple[int, ...]) -> None:
    """The value agrees with the written definition, summed number by number."""
    x = points(*shape)
    # Another order of summation: a few units in the last place.
    torch.testing.assert_close(regularizer.value(x), define(regularizer, x), rtol=1e-12, atol=0)


@by_name
@pytest.mark.parametrize("shape", [(6,), (3, 4), (4, 3), (3, 2, 2)], ids=str)
def test_the_gradient_is_autograds(regularizer: Regularizer, shape: tuple[int, ...]) -> None:
    """The pull's direction is the derivative of the value, wherever there is one."""
    x = points(*shape).requires_grad_()
    (expected,) = torch.autograd.grad(regularizer.value(x), x)
    # Autograd may take another path to the same number.
    torch.testing.assert_close(regularizer.gradient(x.detach()), expected, rtol=1e-9, atol=1e-12)


@by_name
def test_a_wrong_gradient_would_be_seen(regularizer: Regularizer) -> None:
    """The comparison above can fail: a gradient half a percent off does not pass it."""
    x = points(3, 4).requires_grad_()
    (expected,) = torch.autograd.grad(regularizer.value(x), x)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(1.005 * regularizer.gradient(x.detach()), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("regularizer", ELEMENTWISE, ids=repr)
@pytest.mark.parametrize("tau", [0.0, 0.1, 1.0, 3.0])
def test_the_prox_is_the_minimum_found_by_search(regularizer: Regularizer, tau: float) -> None:
    """No point of a fine grid has a lower τ·R(p) + ½(p − z)² than the closed form, element by element."""
    z = torch.tensor([-5.0, -1.3, -0.4, 0.0, 0.2, 0.9, 4.0], dtype=torch.float64)
    found = regularizer.prox(z, tau)
    grid = torch.linspace(-6, 6, 24_001, dtype=torch.float64)
    for point, start in zip(found, z, strict=True):
        costs = torch.stack([tau * define_one(regularizer, grid), (grid - start).square() / 2]).sum(0)
        best = grid[costs.argmin()]
        # Half a grid step.
        assert abs(float(point - best)) <= 12 / 24_000 / 2 + 1e-9


def define_one(regularizer: Regularizer, grid: Tensor) -> Tensor:
    """R of each number of a grid, alone."""
    if isinstance(regularizer, L2):
        return grid.square() / 2
    if isinstance(regularizer, SquaredNorm):
        return grid.square()
    if isinstance(regularizer, L1):
        return grid.abs()
    if isinstance(regularizer, ElasticNet):
        return regularizer.l1 * grid.abs() + regularizer.l2 * grid.square() / 2
    assert isinstance(regularizer, Huber)
    inside = grid.abs() <= regularizer.delta
    return torch.where(inside, grid.square() / 2, regularizer.delta * (grid.abs() - regularizer.delta / 2))


@by_name
@pytest.mark.parametrize("tau", [0.05, 0.7, 5.0])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (4, 3)], ids=str)
def test_no_point_near_the_prox_is_better(regularizer: Regularizer, tau: float, shape: tuple[int, ...]) -> None:
    """The objective is convex, so a point that no small step in any of many directions improves is the minimum."""
    z = points(*shape)
    p = regularizer.prox(z, tau)

    def cost(x: Tensor) -> float:
        return float(tau * regularizer.value(x) + (x - z).square().sum() / 2)

    at = cost(p)
    for _, size in itertools.product(range(60), (1e-1, 1e-2, 1e-3)):
        step = points(*shape)
        step *= size / step.norm()
        # Room for the rounding of the sum only: a step of 1e-3 away from a minimum costs at least 5e-7.
        assert cost(p + step) > at - 1e-12
    for direction in (z, -z, p - z, torch.ones_like(z)):
        step = 1e-3 * direction / direction.norm().clamp(min=1e-9)
        assert cost(p + step) > at - 1e-12


@by_name
def test_a_prox_that_goes_too_far_would_be_seen(regularizer: Regularizer) -> None:
    """The search above can fail: with the step of the prox made a tenth longer some direction improves."""
    z, tau = points(3, 4), 0.3
    p = z + 1.1 * (regularizer.prox(z, tau) - z)

    def cost(x: Tensor) -> float:
        return float(tau * regularizer.value(x) + (x - z).square().sum() / 2)

    assert cost(p + 1e-3 * (z - p) / (z - p).norm()) < cost(p) - 1e-12


@by_name
def test_prox_of_nothing_is_the_point_itself(regularizer: Regularizer) -> None:
    """At τ = 0 (learning rate 0, coefficient 0) no weight may move."""
    z = points(3, 4)
    moved = regularizer.prox(z, 0.0)
    if isinstance(regularizer, Spectral):
        # Put together from its singular vectors again, so equal up to rounding only.
        torch.testing.assert_close(moved, z, rtol=0, atol=1e-13)
    elif isinstance(regularizer, Deviation):
        # mean + (z − mean) rounds.
        torch.testing.assert_close(moved, z, rtol=0, atol=1e-14)
    else:
        assert torch.equal(moved, z)


@pytest.mark.parametrize("regularizer", ELEMENTWISE, ids=repr)
def test_an_elementwise_threshold_acts_element_by_element(regularizer: Regularizer) -> None:
    """The Adam family has a threshold of its own for each weight; each must meet its weight."""
    z, tau = points(4, 3), torch.rand(4, 3, dtype=torch.float64)
    together = regularizer.prox(z, tau)
    alone = [regularizer.prox(z[i, j], float(tau[i, j])) for i in range(4) for j in range(3)]
    assert torch.equal(together, torch.stack(alone).reshape(4, 3))


def test_l1_gives_exact_zeros() -> None:
    """What the pull crosses zero with stays there: that is what the proximal step is for."""
    z = torch.tensor([-0.2, 0.1, 0.2, 0.3, -1.0])
    assert torch.equal(L1().prox(z, 0.2), torch.stack([0 * z[0], 0 * z[1], 0 * z[2], z[3] - 0.2, z[4] + 0.2]))


@by_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_is_at_rest(regularizer: Regularizer, dtype: torch.dtype) -> None:
    """No pull and no NaN at zero, where norms and signs have no derivative."""
    zero = torch.zeros(3, 4, dtype=dtype)
    assert torch.equal(regularizer.gradient(zero), zero)
    assert torch.equal(regularizer.prox(zero, 0.5), zero)
    assert regularizer.value(zero) == 0


@by_name
def test_shape_and_dtype_are_kept(regularizer: Regularizer) -> None:
    """A pull has its weight's shape and dtype, whatever they are."""
    for shape in ((), (1,), (5,), (2, 3), (3, 2, 2)):
        x = torch.randn(shape)
        for out in (regularizer.gradient(x), regularizer.prox(x, 0.5)):
            assert (out.shape, out.dtype) == (x.shape, x.dtype)
        assert regularizer.value(x).shape == ()


@by_name
def test_the_input_is_left_alone(regularizer: Regularizer) -> None:
    """A prox works on a copy: z is the user's weight."""
    z = points(3, 4)
    kept = z.clone()
    regularizer.prox(z, 0.7)
    regularizer.gradient(z)
    assert torch.equal(z, kept)


def test_deviation_leaves_the_mean_where_it_is() -> None:
    """Only the spread is pulled; a tensor of equal numbers is at rest."""
    z = points(20) + 3
    torch.testing.assert_close(Deviation().prox(z, 0.5).mean(), z.mean())
    assert torch.equal(Deviation().gradient(torch.full((4,), 2.0)), torch.zeros(4))


@pytest.mark.parametrize("size", [1e-30, 1e30, 3e38])
def test_deviation_of_float32_at_the_ends_of_its_range_is_finite(size: float) -> None:
    """Squares and sums that overflow or vanish are taken in units of the largest element."""
    z = torch.tensor([-1.0, 0.5, 0.25]) * size
    deviation = z.double().std(correction=0).float()
    torch.testing.assert_close(Deviation().value(z), deviation, atol=0, rtol=1e-5)
    torch.testing.assert_close(Deviation().gradient(z).double(), Deviation().gradient(z.double()))
    ends = [Deviation().prox(one, size) / size for one in (z, z.double())]
    torch.testing.assert_close(ends[0].double(), ends[1], atol=1e-6, rtol=1e-5)
    assert Deviation().value(torch.full((6,), -size)) == 0


def test_deviation_reaches_its_mean_and_stops() -> None:
    """A pull larger than the spread ends at the mean, not on the other side."""
    z = points(6)
    torch.testing.assert_close(Deviation().prox(z, 1e6), z.mean().expand(6))


def test_spectral_lowers_only_the_largest_singular_values() -> None:
    """The prox cuts the spectrum from above; what is below the cut stays."""
    u, _, vh = torch.linalg.svd(points(4, 4))
    z = u @ torch.diag(torch.tensor([5.0, 4.0, 1.0, 0.5], dtype=torch.float64)) @ vh
    values = torch.linalg.svdvals(Spectral().prox(z, 2.0))
    # (5 + 4)/(2 + 2) = 2.25: both large ones meet there.
    torch.testing.assert_close(values, torch.tensor([2.25, 2.25, 1.0, 0.5], dtype=torch.float64))


def test_huber_is_l2_near_zero_and_linear_far_out() -> None:
    """δ is where the pull stops growing."""
    x = torch.tensor([-3.0, -0.5, 0.25, 0.5, 2.0])
    assert torch.equal(Huber(0.5).gradient(x), torch.tensor([-0.5, -0.5, 0.25, 0.5, 0.5]))


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (ElasticNet, (-1, 0)),
        (ElasticNet, (0, float("nan"))),
        (ElasticNet, ("1", 0)),
        (ElasticNet, (True, 0)),
        (Huber, (0,)),
        (Huber, (-1,)),
        (Huber, (float("inf"),)),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(make: Any, wrong: tuple[Any, ...]) -> None:
    """A regularizer that means nothing can't be made."""
    with pytest.raises(DecayError):
        make(*wrong)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_a_p_norm_steps_by_the_gradient_of_where_it_was(p: float) -> None:
    """z = step + τ·∇R, ∇R being that of the old weights scaled to the new; and R is the sum of powers."""
    x, z = points(3, 4), points(3, 4)
    regularizer = PNorm(p)
    torch.testing.assert_close(
        regularizer.value(x), torch.tensor(sum(abs(v) ** p for v in x.flatten().tolist())).double()
    )
    made = regularizer.step(z, x, 0.3)
    torch.testing.assert_close(made + 0.3 * regularizer.gradient(x) * made / x, z)
    assert regularizer.step(z, torch.zeros_like(z), 0.3).eq(0).all() == (p < 2)
