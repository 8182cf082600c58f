"""`penalty`: value, gradient and second derivative of l1·Σ|w| + l2·Σw², for whatever tensors people have."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

import torchdecay as td
from torchdecay.apply import penalty as module
from torchdecay.apply.penalty import sum_penalty

COEFFICIENTS = [{"l2": 0.25}, {"l1": 0.5}, {"l1": 0.5, "l2": 0.25}]


def by_hand(tensors, *, l1=0.0, l2=0.0):
    """The slow reference, traced by autograd."""
    return sum(l1 * w.abs().sum() + l2 * w.abs().square().sum() for w in tensors)


def leaves(*shapes, dtype=torch.float32):
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def small_model():
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 2))


# Value and gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_m1_1_and_m1_2_gradient_is_exactly_two_l2_w_plus_l1_sign_w(dtype):
    """Powers of two as coefficients: one rounding at most, so every bit of the closed form is pinned."""
    for coefficients in COEFFICIENTS:
        tensors = leaves((3, 4), (2000,), (2, 3, 4, 5), (), dtype=dtype)
        with torch.no_grad():
            tensors[0][0, 0] = 0.0
        td.penalty(tensors, **coefficients).backward()
        l1, l2 = coefficients.get("l1", 0.0), coefficients.get("l2", 0.0)
        for w in tensors:
            assert torch.equal(w.grad, l1 * w.sign() + 2 * l2 * w)
        assert tensors[0].grad[0, 0] == 0.0


def test_m1_1_and_m1_2_value_is_the_penalty_by_hand():
    """The number that is added to the loss has the coefficients, and no ½."""
    for coefficients in COEFFICIENTS:
        tensors = leaves((3, 4), (5000,), (2, 3, 4, 5), (), (0, 3), dtype=torch.float64)
        # Both sum in float64, in another order.
        torch.testing.assert_close(
            td.penalty(tensors, **coefficients), by_hand(tensors, **coefficients), rtol=1e-13, atol=0
        )
    assert td.penalty([torch.tensor([3.0, -4.0])], l1=1.0, l2=0.5).item() == 7.0 + 12.5


def test_a_loss_with_a_penalty_trains_like_coupled_decay_of_twice_the_coefficient():
    """M1.1 and M1.4: for SGD, loss + λ·Σw² and weight_decay = 2λ give the same weights."""
    lam, model = 0.001, small_model().double()
    twin = copy.deepcopy(model)
    with_penalty = torch.optim.SGD(model.parameters(), lr=0.1)
    native = torch.optim.SGD(twin.parameters(), lr=0.1, weight_decay=2 * lam)
    x, y = torch.randn(16, 5).double(), torch.randn(16, 2).double()
    for _ in range(20):
        for net, optimizer in ((model, with_penalty), (twin, native)):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            if net is model:
                loss = loss + td.penalty(net, l2=lam)
            loss.backward()
            optimizer.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        # The gradient and the decay term are added in another order: a few last bits after 20 steps.
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_large_tensor_is_summed_to_float32_precision():
    """One float32 accumulator over 20 M terms is off by 1e-2; a penalty in a printed loss must not be.

    Equal weights are the worst case: every rounding goes the same way, 255 times in a block of 256.
    """
    w = torch.full((20_000_000,), 0.1)
    one, count = w[0].double().item(), w.numel()
    assert abs(td.penalty([w], l1=1.0).item() / (one * count) - 1) < 255 * 2**-24
    assert abs(td.penalty([w], l2=1.0).item() / (one**2 * count) - 1) < 255 * 2**-24


@pytest.mark.parametrize("shape", [(255,), (256,), (257,), (3, 256), (7, 300), (0,), ()])
def test_blocks_leave_out_and_repeat_nothing(shape):
    """Tensors just below, at and above the block size: each element counts once."""
    w = torch.ones(shape)
    assert td.penalty([w], l1=1.0).item() == w.numel()
    assert td.penalty([w], l2=2.0).item() == 2.0 * w.numel()


# Autograd


@pytest.mark.parametrize("coefficients", COEFFICIENTS, ids=str)
def test_first_and_second_derivatives_match_finite_differences(coefficients):
    """Real and complex tensors, through torch's own numerical checks."""
    tensors = leaves((3, 4), (5,), dtype=torch.float64) + leaves((2, 3), dtype=torch.complex128)
    assert gradcheck(lambda *w: td.penalty(w, **coefficients), tensors)
    assert gradgradcheck(lambda *w: td.penalty(w, **coefficients), tensors)


def test_the_second_derivative_is_two_l2():
    """Gradient penalties, sharpness and hypergradients differentiate the gradient once more."""
    (w,) = leaves((6,), dtype=torch.float64)
    v = torch.randn(6, dtype=torch.float64)
    (first,) = torch.autograd.grad(td.penalty([w], l1=0.5, l2=0.25), w, create_graph=True)
    assert first.requires_grad
    (second,) = torch.autograd.grad(first, w, v)
    assert torch.equal(second, 0.5 * v)


def test_derivatives_pass_through_what_made_the_weights():
    """A penalty on tensors that were computed reaches the tensors that they were computed from, twice."""
    (raw,) = leaves((4,), dtype=torch.float64)
    assert gradcheck(lambda r: td.penalty([r.sin()], l1=0.1, l2=0.3), (raw,))
    assert gradgradcheck(lambda r: td.penalty([r.sin()], l1=0.1, l2=0.3), (raw,))


def test_torch_func_transforms_see_through_it():
    """grad, vmap over stacked models and jacrev of jacrev give what they give for the sum by hand."""
    stacked = torch.randn(3, 5, dtype=torch.float64)
    of_one = torch.func.grad(lambda w: td.penalty([w], l1=0.5, l2=0.25))
    assert torch.equal(torch.func.vmap(of_one)(stacked), 0.5 * stacked.sign() + 0.5 * stacked)
    values = torch.func.vmap(lambda w: td.penalty([w], l2=1.0))(stacked)
    torch.testing.assert_close(values, stacked.square().sum(1), rtol=1e-14, atol=0)
    hessian = torch.func.jacrev(torch.func.jacrev(lambda w: td.penalty([w], l2=0.25)))(stacked[0])
    assert torch.equal(hessian, 0.5 * torch.eye(5, dtype=torch.float64))


def test_autograd_grad_leaves_every_grad_attribute_alone():
    """No writing into .grad behind autograd's back: DDP, FSDP and accumulation rely on it."""
    model = small_model()
    td.penalty(model, l1=0.1, l2=0.1)
    assert all(p.grad is None for p in model.parameters())
    params = list(model.parameters())
    gradients = torch.autograd.grad(td.penalty(model, l2=0.25), params)
    assert all(p.grad is None for p in params)
    assert all(torch.equal(g, 0.5 * p) for g, p in zip(gradients, params, strict=True))


def test_hooks_on_parameters_see_the_gradient():
    """What DDP and FSDP register on the accumulation of a gradient fires for a penalty too."""
    seen = []
    (w,) = leaves((3,))
    w.register_hook(lambda g: seen.append(g.clone()))
    w.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    td.penalty([w], l2=0.25).backward()
    assert [torch.equal(g, 0.5 * w) for g in seen] == [True, True]


def test_gradients_accumulate_and_scale_with_the_loss():
    """Two backward calls add up, and a factor on the loss reaches the penalty's gradient."""
    (w,) = leaves((9,))
    (4.0 * td.penalty([w], l2=0.25)).backward()
    td.penalty([w], l2=0.25).backward()
    assert torch.equal(w.grad, 2.5 * w)


def test_changing_a_weight_before_backward_is_an_error():
    """Torch's own check of saved tensors holds: no silent gradient of other weights."""
    (w,) = leaves((3,))
    value = td.penalty([w], l2=1.0)
    with torch.no_grad():
        w.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_a_coefficient_of_zero_leaves_gradients_as_they_are():
    """Identity at λ = 0, bit for bit: infinite weights make no NaN, and a missing gradient stays missing."""
    (w,) = leaves((3,))
    with torch.no_grad():
        w[0] = math.inf
    value = td.penalty([w], l1=0.0, l2=0.0)
    value.backward()
    assert value.item() == 0.0
    assert w.grad is None


def test_no_grad_gives_the_value_alone():
    """A validation loss costs no graph."""
    model = small_model()
    with torch.no_grad():
        assert not td.penalty(model, l2=1.0).requires_grad


def test_compiled_without_a_graph_break():
    """A compiled training step may contain the penalty."""
    model = small_model()
    value = torch.compile(lambda: td.penalty(model, l1=0.5, l2=0.25), fullgraph=True, backend="aot_eager")()
    value.backward()
    torch.testing.assert_close(value, by_hand(model.parameters(), l1=0.5, l2=0.25))
    assert all(torch.equal(p.grad, 0.5 * p.sign() + 0.5 * p) for p in model.parameters())


# Which tensors


def test_a_tied_weight_counts_once():
    """One tensor under two names is one weight, from a module and from named pairs."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    once = td.penalty([model[0].weight], l2=1.0)
    assert torch.equal(td.penalty(model, l2=1.0), once)
    assert torch.equal(td.penalty(model.named_parameters(remove_duplicate=False), l2=1.0), once)


def test_every_way_to_give_tensors_is_the_same():
    """Module, parameters, named parameters, mapping: one sum; a single tensor is one tensor, not its rows."""
    model = small_model()
    expected = td.penalty(model, l1=0.1, l2=0.2)
    for given in (
        model.parameters(),
        list(model.parameters()),
        model.named_parameters(),
        model.state_dict(keep_vars=True),
    ):
        assert torch.equal(td.penalty(given, l1=0.1, l2=0.2), expected)
    (w,) = leaves((3, 4))
    assert torch.equal(td.penalty(w, l2=1.0), td.penalty([w], l2=1.0))


def test_frozen_parameters_of_a_module_do_not_count():
    """What nothing trains is no part of the objective."""
    model = small_model()
    model[0].requires_grad_(False)
    assert torch.equal(td.penalty(model, l2=1.0), td.penalty([*model[1].parameters(), *model[2].parameters()], l2=1.0))


def test_frozen_tensors_given_explicitly_add_to_the_value_alone():
    """Who lists a tensor means it; it gets no gradient."""
    frozen, trained = torch.full((3,), 2.0), torch.ones(2, requires_grad=True)
    value = td.penalty([frozen, trained], l2=1.0)
    value.backward()
    assert value.item() == 14.0
    assert frozen.grad is None
    assert torch.equal(trained.grad, 2 * trained)


def test_an_empty_iterable_costs_nothing():
    """A generic training loop may have nothing to penalize."""
    assert torch.equal(td.penalty([], l2=1.0), torch.zeros(()))


# Dtypes, layouts


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    """In bfloat16 a sum of 100,000 ones stops at 256, in float16 it overflows."""
    w = torch.ones(100_000, dtype=dtype, requires_grad=True)
    value = td.penalty([w], l1=1.0, l2=1.0)
    assert value.dtype == torch.float32
    assert value.item() == 200_000.0
    value.backward()
    assert w.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("keeps", [("cpu",), ()], ids=["cpu kernel", "upcast"])
def test_half_precision_gradients_are_rounded_once(dtype, keeps, monkeypatch):
    """The factor keeps its float32 bits: a penalty of 1e-8 under float16 is not rounded to nothing."""
    monkeypatch.setattr(module, "_KEEPS_PRECISION_OF_FACTOR", keeps)
    w = torch.randn(1000).to(dtype).requires_grad_()
    td.penalty([w], l2=0.6e-8).backward()
    # 2 * l2 in float32, as the loss has it.
    assert torch.equal(w.grad, (w.float() * torch.tensor(1.2e-8)).to(dtype))
    assert w.grad.count_nonzero() > 0 or dtype == torch.bfloat16


def test_mixed_dtypes_give_each_tensor_its_own():
    """One list may hold half, single, double and complex weights; a float64 tensor makes the value float64."""
    tensors = [
        torch.randn(4).to(t).requires_grad_() for t in (torch.bfloat16, torch.float32, torch.float64, torch.complex64)
    ]
    value = td.penalty(tensors, l1=0.5, l2=0.25)
    value.backward()
    assert value.dtype == torch.float64
    exact = by_hand([w.detach().to(torch.complex128) for w in tensors], l1=0.5, l2=0.25)
    torch.testing.assert_close(value, exact, rtol=1e-6, atol=0)  # three of the four are summed in float32
    for w in tensors:
        assert w.grad.dtype == w.dtype
        torch.testing.assert_close(w.grad, 0.5 * w.sgn() + 0.5 * w)


def test_autocast_changes_nothing():
    """Under autocast the penalty stays in float32, as a loss does."""
    model = small_model()
    outside = td.penalty(model, l1=0.1, l2=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = td.penalty(model, l1=0.1, l2=0.1)
        inside.backward()
    assert torch.equal(inside, outside)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_memory_layout_is_kept():
    """Channels-last and transposed weights get gradients of their own layout, and the same numbers."""
    base = torch.randn(8, 6, 3, 3)
    for w in (base.to(memory_format=torch.channels_last), base.permute(2, 0, 3, 1), base[:, ::2]):
        w = w.detach().requires_grad_()
        value = td.penalty([w], l1=0.5, l2=0.25)
        value.backward()
        torch.testing.assert_close(value, by_hand([w], l1=0.5, l2=0.25))
        assert torch.equal(w.grad, 0.5 * w.sign() + 0.5 * w)
    last = base.to(memory_format=torch.channels_last).requires_grad_()
    td.penalty([last], l2=1.0).backward()
    assert last.grad.is_contiguous(memory_format=torch.channels_last)


def test_sparse_tensors_count_their_stored_values():
    """Also where an index occurs twice: the values add up before they are squared."""
    w = torch.sparse_coo_tensor([[0, 0, 2]], [1.0, 2.0, -4.0], (5,), check_invariants=True).requires_grad_()
    value = td.penalty([w], l1=1.0, l2=1.0)
    value.backward()
    assert value.item() == 3 + 4 + 9 + 16
    assert torch.equal(w.grad.to_dense(), torch.tensor([7.0, 0.0, -9.0, 0.0, 0.0]))


def test_weights_beside_some_that_are_not_there_yet_are_refused():
    """A sum of both has no value, and torch would fail in the middle of it."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(td.PlanError, match="2 of the 4 tensors are on the meta device"):
        td.penalty(model, l2=0.1)


def test_parameters_on_the_meta_device_get_a_meta_value():
    """Shapes alone are enough to trace a step."""
    model = nn.Linear(4, 4, device="meta")
    td.penalty(model, l2=1.0).backward()
    assert model.weight.grad.shape == (4, 4)


# Per-tensor coefficients, references, masks


def test_each_tensor_may_have_its_own_coefficients_reference_and_mask():
    """The rows of a plan at the site LOSS share one node and keep their own terms."""
    a, b, c = leaves((4,), (3, 2), (5,), dtype=torch.float64)
    reference = torch.randn(4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True], [False], [True]])
    value = sum_penalty(
        [a, b, c], l1=[0.5, 0.0, 0.0], l2=[0.25, 1.0, 0.0], references=[reference, None, None], masks=[None, mask, None]
    )
    expected = by_hand([a - reference], l1=0.5, l2=0.25) + by_hand([b[[0, 2]]], l2=1.0)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)
    value.backward()
    assert torch.equal(a.grad, 0.5 * (a - reference).sign() + 0.5 * (a - reference))
    assert torch.equal(b.grad, 2 * b * mask)
    assert c.grad is None
    assert reference.grad is None


def test_what_is_masked_out_may_be_anything():
    """An infinite padding row makes neither the value nor its own gradient NaN."""
    w = torch.tensor([[math.inf, math.nan], [1.0, -2.0]], requires_grad=True)
    value = sum_penalty([w], l1=1.0, l2=1.0, masks=[torch.tensor([[False], [True]])])
    value.backward()
    assert value.item() == 8.0
    assert torch.equal(w.grad, torch.tensor([[0.0, 0.0], [3.0, -5.0]]))


def test_double_backward_holds_with_reference_and_mask():
    """Second derivatives of the masked, shifted sum match finite differences."""
    (w,) = leaves((4, 2), dtype=torch.float64)
    reference, mask = torch.randn(4, 2, dtype=torch.float64), torch.tensor([[True], [False], [True], [True]])

    def value(w):
        return sum_penalty([w], l1=0.2, l2=0.3, references=[reference], masks=[mask])

    assert gradcheck(value, (w,))
    assert gradgradcheck(value, (w,))


# Cost


def peak_bytes(work):
    """The most that `work` held at one time, by the allocator's own record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    live = peak = 0
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    assert events
    return peak


def test_no_more_memory_than_the_gradient():
    """Value and backward hold one copy of the parameters, the gradient itself, and 2 % for block norms."""
    tensors = leaves(*[(256, 512)] * 6)
    size = sum(w.numel() * w.element_size() for w in tensors)
    for coefficients in COEFFICIENTS:
        for w in tensors:
            w.grad = None
        assert peak_bytes(lambda c=coefficients: td.penalty(tensors, **c)) < 0.02 * size
        assert peak_bytes(lambda c=coefficients: td.penalty(tensors, **c).backward()) < 1.02 * size


def test_the_whole_sum_is_one_node():
    """One node for 40 tensors: what is traced does not grow with the model."""
    tensors = leaves(*[(3,)] * 40)
    node = td.penalty(tensors, l1=0.1, l2=0.1).grad_fn
    parents = [parent for parent, _ in node.next_functions if parent is not None]
    assert {type(parent).__name__ for parent in parents} == {"AccumulateGrad"}
    assert len(parents) == 40


# Bad input


@pytest.mark.parametrize("name", ["l1", "l2"])
@pytest.mark.parametrize("value", [-1e-4, math.nan, math.inf, "0.1", True, None, torch.tensor(0.1)])
def test_a_coefficient_that_means_nothing_is_named(name, value):
    """The message says which argument, what it is, and what to write."""
    with pytest.raises(td.DecayError, match=f"penalty's {name} is ") as raised:
        td.penalty(small_model(), **{name: value})
    assert raised.value.fix


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (3, td.DecayError, "penalty got 3, of type int"),
        ("weights", td.DecayError, "penalty got 'weights', of type str"),
        ([torch.ones(2), "w"], td.DecayError, "penalty got item 1, 'w', of type str"),
        ({"w": 1.0}, td.DecayError, 'penalty got "w", of type float'),
        ([("steps", torch.ones(2, dtype=torch.int64))], td.DecayError, 'penalty got "steps", a tensor of torch.int64'),
        (lambda: [torch.eye(2).to_sparse_csr()], td.DecayError, "item 0, whose layout is torch.sparse_csr"),
        (nn.ReLU(), td.PlanError, "the ReLU has no trainable parameter"),
        (nn.LazyLinear(3), td.PlanError, 'the parameter "weight" is not initialized yet'),
        (td.plan(nn.Linear(2, 2), 0.1), td.PlanError, "penalty got a plan"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_what_holds_no_weights_is_named(given, error, says):
    """Each message says what was given and what to give instead."""
    with pytest.raises(error, match=says) as raised:
        td.penalty(given() if callable(given) and not isinstance(given, nn.Module) else given, l2=0.1)
    assert raised.value.fix


def test_a_frozen_model_is_an_error_that_says_how_to_count_it():
    """A penalty that is silently 0 would hide the freezing."""
    with pytest.raises(td.PlanError, match="no trainable parameter") as raised:
        td.penalty(small_model().requires_grad_(False), l2=0.1)
    assert "model.parameters()" in raised.value.fix


# Seeded faults


def _gradient_with(change):
    real = module._gradient

    def faulty(factors, l1, l2, w, reference, mask):
        return change(real, factors, l1, l2, w, reference, mask)

    return {"_gradient": faulty}


def _writes_grad(real, factors, l1, l2, w, reference, mask):
    gradient = real(factors, l1, l2, w, reference, mask)
    w.grad = gradient
    return gradient


class _OneNodePerTensor:
    @staticmethod
    def apply(l1, l2, *inputs):
        n = len(l1)
        rows = zip(l1, l2, inputs[:n], strict=True)
        return sum(module_penalty.apply((c1,), (c2,), w, None, None) for c1, c2, w in rows)


module_penalty = module._Penalty
FAULTS = {
    "half the gradient": (
        lambda: test_m1_1_and_m1_2_gradient_is_exactly_two_l2_w_plus_l1_sign_w(torch.float32),
        _gradient_with(lambda real, *row: real(*row) / 2),
    ),
    "sign of zero is one": (
        lambda: test_m1_1_and_m1_2_gradient_is_exactly_two_l2_w_plus_l1_sign_w(torch.float64),
        _gradient_with(lambda real, f, l1, l2, w, *row: real(f, l1, l2, w + 1e-30, *row)),
    ),
    "half the value": (
        test_m1_1_and_m1_2_value_is_the_penalty_by_hand,
        {"over_ranks": lambda here, whole: here / 2},
    ),
    "twice the pull": (
        test_a_loss_with_a_penalty_trains_like_coupled_decay_of_twice_the_coefficient,
        _gradient_with(lambda real, *row: 2 * real(*row)),
    ),
    "one accumulator": (test_a_large_tensor_is_summed_to_float32_precision, {"_BLOCK": 1 << 40}),
    "a gradient that is cut off": (
        test_the_second_derivative_is_two_l2,
        _gradient_with(lambda real, *row: real(*row).detach()),
    ),
    "writing into .grad": (test_autograd_grad_leaves_every_grad_attribute_alone, _gradient_with(_writes_grad)),
    "zero times infinity": (
        test_a_coefficient_of_zero_leaves_gradients_as_they_are,
        _gradient_with(lambda real, f, l1, l2, w, *row: l2 * w),
    ),
    "duplicates counted": (
        test_a_tied_weight_counts_once,
        {"_tensors_of": lambda source: [w for _, w in module._labeled(source)]},
    ),
    "frozen parameters counted": (
        test_frozen_parameters_of_a_module_do_not_count,
        {"_tensors_of": lambda source: list(source.parameters() if isinstance(source, nn.Module) else source)},
    ),
    "summed in bfloat16": (
        lambda: test_half_precision_is_summed_in_float32(torch.bfloat16),
        {"_LOW_PRECISION": (), "_block_norms": lambda w, order, dtype: [w.cumsum(0)[-1:]]},
    ),
    "two more copies": (
        test_no_more_memory_than_the_gradient,
        _gradient_with(lambda real, f, l1, l2, w, *row: f[l1, w.device] * w.sgn() + f[2 * l2, w.device] * w),
    ),
    "one node per tensor": (test_the_whole_sum_is_one_node, {"_Penalty": _OneNodePerTensor}),
    "the mask is forgotten in the gradient": (
        test_what_is_masked_out_may_be_anything,
        _gradient_with(lambda real, f, l1, l2, w, reference, mask: real(f, l1, l2, w, reference, None)),
    ),
    "the tail is left out": (
        lambda: test_blocks_leave_out_and_repeat_nothing((257,)),
        {"_block_norms": lambda w, order, dtype: [torch.linalg.vector_norm(w[:256], order).reshape(1)]},
    ),
    "a factor in half precision": (
        lambda: _rounded_once_under_fault(),
        _gradient_with(lambda real, f, l1, l2, w, *row: w * f[2 * l2, w.device].to(w.dtype)),
    ),
}


def _rounded_once_under_fault():
    with pytest.MonkeyPatch.context() as patch:
        test_half_precision_gradients_are_rounded_once(torch.float16, ("cpu",), patch)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_check_fails_on_its_seeded_fault(fault, monkeypatch):
    """A check that passes whatever the code does protects nothing."""
    check, changes = FAULTS[fault]
    check()
    for name, value in changes.items():
        monkeypatch.setattr(module, name, value)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_penalty_inside_a_checkpoint_has_its_gradient(use_reentrant):
    """Checkpointing computes what the node saved again, once."""
    weights = [torch.randn(3, 2, requires_grad=True), torch.randn(4, requires_grad=True)]

    def penalized(*tensors):
        return td.penalty(tensors, l1=0.3, l2=0.2)

    plain = torch.autograd.grad(penalized(*weights), weights)
    checkpoint(penalized, *weights, use_reentrant=use_reentrant).backward()
    assert all(torch.equal(weight.grad, gradient) for weight, gradient in zip(weights, plain, strict=True))
