"""The arithmetic on lists of tensors, against the definitions of the regularizers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchdecay.apply import kernels
from torchdecay.apply.work import buckets
from torchdecay.plans.regularizers import L1, L2, ElasticNet, Huber

REGULARIZERS = [L2(), L1(), ElasticNet(0.5, 2.0), Huber(0.3)]
LARGE = kernels._CHUNK * 2 + 17
SHAPES = [(), (0,), (3,), (4, 5), (LARGE,), (2, LARGE // 2 + 1)]


def tensors(layout="contiguous", dtype=torch.float64):
    made = []
    for shape in SHAPES:
        one = torch.randn(shape, dtype=dtype)
        made.append(one.t().contiguous().t() if layout == "transposed" and one.dim() == 2 else one)
    return made


def references(kind, params):
    if kind == "none":
        return [None] * len(params)
    return [torch.randn(p.shape, dtype=p.dtype) if i % 2 or kind == "all" else None for i, p in enumerate(params)]


def zero(reference):
    return 0.0 if reference is None else reference


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("kind", ["none", "some", "all"])
@pytest.mark.parametrize("amount", [0.0, 0.25, torch.tensor(0.25, dtype=torch.float64)], ids=repr)
def test_explicit_is_a_gradient_step_of_the_regularizer(regularizer, layout, kind, amount):
    """θ − amount·∇R(θ − ref), in chunks or whole."""
    params = tensors(layout)
    refs = references(kind, params)
    expected = [p - amount * regularizer.gradient(p - zero(ref)) for p, ref in zip(params, refs, strict=True)]
    kernels.explicit_(params, regularizer, [amount] * len(params), refs)
    for found, right in zip(params, expected, strict=True):
        # (1 − a)·θ and θ − a·θ round differently in the last digit.
        torch.testing.assert_close(found, right, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("kind", ["none", "some", "all"])
@pytest.mark.parametrize("elementwise", [False, True])
def test_proximal_is_the_proximal_step_of_the_regularizer(regularizer, layout, kind, elementwise):
    """ref + prox(θ − ref), with one threshold for all or one for each element; chunks round as the whole does."""
    params = tensors(layout)
    refs = references(kind, params)
    taus = (
        [torch.rand(p.shape, dtype=p.dtype) for p in params] if elementwise else [0.1 * i for i in range(len(params))]
    )
    expected = [
        regularizer.prox(p, tau) if ref is None else regularizer.prox(p - ref, tau) + ref
        for p, ref, tau in zip(params, refs, taus, strict=True)
    ]
    kernels.proximal_(params, regularizer, taus, refs)
    # Huber's in-place step multiplies and subtracts with one rounding, its definition with two.
    tolerance = 1e-15 if isinstance(regularizer, Huber) else 0.0
    for found, right in zip(params, expected, strict=True):
        torch.testing.assert_close(found, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
@pytest.mark.parametrize("kind", ["none", "some", "all"])
@pytest.mark.parametrize("amount", [0.25, -0.25, torch.tensor(0.25, dtype=torch.float64)], ids=repr)
def test_coupled_adds_the_gradient_of_the_regularizer_and_leaves_the_inputs(regularizer, kind, amount):
    """g + amount·∇R(θ − ref) as new tensors: the user's gradient keeps its bits."""
    params = tensors()
    refs = references(kind, params)
    grads = [torch.randn(p.shape, dtype=p.dtype) for p in params]
    kept = [grad.clone() for grad in grads]
    found = kernels.coupled(grads, params, regularizer, [amount] * len(params), refs)
    assert all(torch.equal(grad, old) for grad, old in zip(grads, kept, strict=True))
    for one, grad, p, ref in zip(found, grads, params, refs, strict=True):
        right = grad + amount * regularizer.gradient(p - zero(ref))
        torch.testing.assert_close(one, right, rtol=1e-15, atol=1e-15)  # one rounding or two


def test_masked_entries_come_out_bit_for_bit():
    """Even NaN and −0.0 stay what they were."""
    param = torch.tensor([float("nan"), -0.0, 1.0, 2.0])
    mask = torch.tensor([False, False, True, False])
    before = param.clone()
    with kernels.masked([param], [mask]):
        param.mul_(0.5)
    assert torch.equal(param.view(torch.int32), torch.where(mask, before * 0.5, before).view(torch.int32))
    assert param[2] == 0.5


def test_buckets_keep_dtypes_and_tensor_types_apart():
    """A foreach kernel takes tensors of one device, dtype and type only."""

    class Other(torch.Tensor):
        pass

    params = [
        nn.Parameter(torch.ones(1)),
        nn.Parameter(torch.ones(1, dtype=torch.float64)),
        nn.Parameter(torch.ones(2)),
        torch.ones(1).as_subclass(Other),
    ]
    assert buckets(params) == [[0, 2], [1], [3]]
