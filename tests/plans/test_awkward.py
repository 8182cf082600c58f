"""Odd tensors and odd numbers, wherever a plan meets them: it works, or it is refused with a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchdecay as td
from torchdecay.errors import TorchdecayError

TENSORS: dict[str, Callable[[], Tensor]] = {
    "0-d": lambda: torch.tensor(1.0),
    "empty": lambda: torch.empty(3, 0),
    "one element": lambda: torch.ones(1),
    "complex": lambda: torch.randn(3, 4, dtype=torch.cfloat),
    "0-d complex": lambda: torch.tensor(1 + 2j),
    "huge": lambda: torch.full((3, 4), 1e30),
    "not a number": lambda: torch.full((3, 4), float("nan")),
    "expanded": lambda: torch.ones(1, 4).expand(3, 4),
    "sparse": lambda: torch.randn(3, 4).to_sparse(),
    "sparse rows": lambda: torch.randn(3, 4).to_sparse_csr(),
    "bfloat16": lambda: torch.ones(3, 4, dtype=torch.bfloat16),
    "float8": lambda: torch.ones(3, 4).to(torch.float8_e4m3fn),
    "meta": lambda: torch.empty(3, 4, device="meta"),
}


class Holder(nn.Module):
    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.first, self.odd, self.last = nn.Linear(3, 4), nn.Parameter(tensor), nn.Linear(4, 2)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_every_kind_of_tensor_is_planned(name: str) -> None:
    """A row in the plan, a place in a group, and everything that a plan says about itself."""
    model = Holder(TENSORS[name]())
    rules = [td.rule(td.role("unknown") | td.ndim(0, 1, 2) & ~td.names("nobody"), td.DEFAULT, optional=True)]
    plan = td.plan(model, td.decoupled(0.1), rules=rules)
    assert plan["odd"].shape == tuple(model.odd.shape)
    assert td.Plan.from_json(plan.to_json()) == plan
    assert plan.table().to_text() and plan.explain("odd") and plan._repr_html_() and plan.fingerprint
    assert not plan.diff(plan)
    groups = [*td.param_groups(model, 0.1, skip="odd"), *plan.param_groups(model)]
    assert sum("odd" in group["param_names"] for group in groups) == 2
    assert "odd" in {name for group in td.split(model, 0.1).others for name in group["param_names"]} | {
        name for group in td.split(model, 0.1).matrices for name in group["param_names"]
    }


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_every_kind_of_tensor_is_planned_in_a_checkpoint(name: str) -> None:
    """Complex weights are weights, and what is sparse has no storage to be tied by."""
    odd = TENSORS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", td.UnknownRoleWarning)
        plan = td.plan({"odd": odd, "other.weight": torch.ones(3, 4)}, 0.1)
    assert plan["odd"].shape == tuple(odd.shape)


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_refused(layout: Any) -> None:
    """It has no shape; to find that in the middle of a table would be late."""
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)
    with pytest.raises(td.PlanError, match='"odd" is a nested tensor'):
        td.plan(Holder(nested), 0.1)
    with pytest.raises(td.PlanError, match='"odd" is a nested tensor'):
        td.plan({"odd": nested}, 0.1)


MAKERS: dict[str, Callable[[Any], object]] = {
    "plan": lambda number: td.plan(nn.Linear(2, 2), number)["weight"].decay,
    "rule": lambda number: td.rule("*", number).decay,
    "times": td.times,
    "param_groups": lambda number: td.param_groups(nn.Linear(2, 2), number)[0]["weight_decay"],
    "decoupled": td.decoupled,
    "independent": lambda number: td.independent(number, max_lr=number),
    "per_step": td.per_step,
    "l1": td.l1,
    "elastic_net": lambda number: td.elastic_net(l1=number, l2=number),
    "huber": lambda number: td.forms.huber(number, delta=number),
    "toward_average": lambda number: td.forms.toward_average(number, beta=number),
    "adaptive": lambda number: td.forms.adaptive(number, beta=number),
    "ada_decay": lambda number: td.forms.ada_decay(number, alpha=number),
    "constrained": lambda number: td.forms.constrained(kappa=number, rho=number),
    "norm_control": lambda number: td.forms.norm_control(number, ratio=number),
    "by_spectrum": lambda number: td.forms.by_spectrum(number, low=number, high=number),
    "scale_invariant": lambda number: td.scale_invariant(tolerance=number),
    "linear": lambda number: td.schedules.linear(number, number, 10),
    "cosine": lambda number: td.schedules.cosine(number, number, 10),
    "inverse_time": td.schedules.inverse_time,
    "piecewise": lambda number: td.schedules.piecewise({3: number}),
    "run": lambda number: td.Run(steps=3, lr=number),
}


@pytest.mark.parametrize("name", MAKERS)
def test_numbers_of_numpy_make_the_value_that_plain_ones_make(name: str) -> None:
    """Equal, printed alike, and holding no number of numpy's that would change the type of what it multiplies."""
    plain = MAKERS[name](0.5)
    for number in (np.float32(0.5), np.float64(0.5), np.float16(0.5), Fraction(1, 2)):
        made = MAKERS[name](number)
        assert made == plain
        assert repr(made) == repr(plain)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "odd", [torch.tensor(0.5), np.array(0.5), "0.5", "0,5", True, np.bool_(True), 10**400, 1j, None, [0.5]], ids=repr
)
def test_what_is_no_plain_number_is_refused_by_name(name: str, odd: Any) -> None:
    """A tensor would be kept as it is while another hand changes it; text, complex numbers and bools are slips."""
    if odd is None:
        # No decay, no peak, no learning rate.
        return
    with pytest.raises(TorchdecayError):
        MAKERS[name](odd)


COUNTERS: dict[str, Callable[[Any], object]] = {
    "linear": lambda count: td.schedules.linear(1, 0, count),
    "warmup": td.schedules.warmup,
    "piecewise": lambda count: td.schedules.piecewise({count: 0.5}),
    "constrained": lambda count: td.forms.constrained(warmup_steps=count),
    "by_spectrum": lambda count: td.forms.by_spectrum(0.1, every_steps=count, min_values=count),
    "spare_rows": td.spare_rows,
    "ndim": td.ndim,
    "run": lambda count: td.Run(steps=count, batch_size=count, warmup_steps=1, lr_schedule="linear"),
    "suggest": lambda count: td.suggest(count, run=td.Run(steps=10, epochs=2, lr=0.1)),
}


@pytest.mark.parametrize("name", COUNTERS)
def test_whole_numbers_of_numpy_make_the_value_that_plain_ones_make(name: str) -> None:
    """An index or a length that numpy counted is a count."""
    plain = COUNTERS[name](3)
    for count in (np.int64(3), np.int32(3), np.uint8(3)):
        assert COUNTERS[name](count) == plain
        assert repr(COUNTERS[name](count)) == repr(plain)


@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("odd", [3.0, torch.tensor(3), "3", True, -1, 10**400], ids=lambda odd: str(odd)[:9])
def test_what_is_no_count_is_refused_by_name(name: str, odd: Any) -> None:
    """With what to write instead."""
    with pytest.raises(TorchdecayError):
        COUNTERS[name](odd)
