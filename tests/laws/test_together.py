"""Small tensors that are pulled together are pulled as each would be alone, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from plans.examples import everywhere
from torchdecay.apply import kernels

SHAPES = [(3, 5), (7,), (1,), (4, 4), (2, 3, 5), (64, 70), (), (3, 5), (33,)]
FORMS = {
    "l1": td.l1(0.02),
    "elastic_net": td.elastic_net(l1=0.02, l2=0.3),
    "huber": td.forms.huber(0.3, delta=0.5),
    "cautious": td.cautious(0.3),
    "cautious, zeros spared": td.cautious(0.3, zero_update="spare"),
    "l1 toward the beginning": td.l1(0.02).replace(reference=td.toward("initial", 0.1).reference),
}
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (optim.SGD, {"momentum": 0.9}),
    "AdamW": (optim.AdamW, {"weight_decay": 0.0}),
    "NAdam": (optim.NAdam, {}),
    "RMSprop": (optim.RMSprop, {}),
}


def trained(form: str, name: str, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]
    cls, options = OPTIMIZERS[name]
    # One that begins later has taken other steps than the rest, and transposed ones lie in memory otherwise.
    params[3] = nn.Parameter(params[3].detach().t())
    optimizer = cls(params, lr=0.1, **options)
    td.attach(
        optimizer,
        td.plan(nn.ParameterList(params), FORMS[form], rules=everywhere(FORMS[form])),
        model=nn.ParameterList(params),
        via="hook",
    )
    for step in range(4):
        for index, param in enumerate(params):
            param.grad = None if index == 0 and step < 2 else torch.randn(param.shape, generator=generator).to(dtype)
        optimizer.step()
    return [param.detach().clone() for param in params]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("form", FORMS)
def test_together_is_alone(form: str, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels run over one long tensor, and where each tensor has its own."""
    together = trained(form, name, dtype)
    monkeypatch.setattr(kernels, "_SMALL", -1)
    alone = trained(form, name, dtype)
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_many_small_tensors_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 matrices the kernel sees one vector; of a large one among them, that alone."""
    seen = []
    kept = kernels.in_parts

    def counted(kernel: Any, param: torch.Tensor, *rest: Any) -> None:
        seen.append(param.numel())
        kept(kernel, param, *rest)

    monkeypatch.setattr("torchdecay.apply.carried.in_parts", counted)
    model = nn.ParameterList([*(torch.randn(4, 4) for _ in range(40)), torch.randn(100, 100)])
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    td.attach(optimizer, td.plan(model, td.cautious(0.1), rules=()), model=model, via="hook")
    for param in model:
        param.grad = torch.randn_like(param)
    optimizer.step()
    assert sorted(seen) == [640, 10_000]
