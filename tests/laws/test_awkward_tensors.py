"""Tensors of every kind under every form: they are pulled, or refused by name at attach; and never in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn, optim
from torch.nn.parameter import UninitializedParameter

import torchdecay as td
from torchdecay.plans.presets import PRESETS


class Sub(torch.Tensor):
    """A kind of tensor of someone's own."""


def _randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "0-d": lambda: torch.tensor(1.5),
    "empty": lambda: torch.zeros(0),
    "empty rows": lambda: torch.zeros(0, 3),
    "one": lambda: torch.tensor([1.5]),
    "one of two dimensions": lambda: torch.tensor([[1.5]]),
    "five dimensions": lambda: _randn(2, 2, 2, 2, 2),
    "complex": lambda: _randn(4, 3, dtype=torch.complex64),
    "complex 0-d": lambda: torch.tensor(1 + 2j),
    "complex vector": lambda: _randn(4, dtype=torch.complex128),
    "float64": lambda: _randn(60, 60, dtype=torch.float64),
    "1e30": lambda: _randn(4, 3) * 1e30,
    "1e-30": lambda: _randn(4, 3) * 1e-30,
    "zeros": lambda: torch.zeros(4, 3),
    "nan": lambda: torch.full((60, 60), float("nan")),
    "inf": lambda: torch.full((60, 60), float("inf")),
    "expanded": lambda: _randn(1, 3).expand(4, 3),
    "transposed": lambda: _randn(3, 4).t(),
    "strided": lambda: _randn(8, 6)[::2, ::2],
    "view": lambda: _randn(24)[4:16].view(4, 3),
    "channels last": lambda: _randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "jagged": lambda: torch.nested.nested_tensor([_randn(2, 3), _randn(4, 3)], layout=torch.jagged),
    "stored sparse": lambda: _randn(4, 3).to_sparse(),
    "subclass": lambda: _randn(4, 3).as_subclass(Sub),
    "bf16 0-d": lambda: torch.tensor(1.5).bfloat16(),
    "bf16 empty": lambda: torch.zeros(0).bfloat16(),
    "bf16 transposed": lambda: _randn(3, 4).bfloat16().t(),
    "bf16 strided": lambda: _randn(8, 6).bfloat16()[::2, ::2],
    "bf16 nan": lambda: torch.full((4, 3), float("nan")).bfloat16(),
    "fp16 6e4": lambda: torch.full((4, 3), 6e4).half(),
    "fp8": lambda: _randn(4, 3).to(torch.float8_e4m3fn),
    "meta": lambda: torch.empty(4, 3, device="meta"),
}
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda params: optim.SGD(params, lr=0.05, momentum=0.9),
    "AdamW": lambda params: optim.AdamW(params, lr=0.01, weight_decay=0.0),
    "Adam": lambda params: optim.Adam(params, lr=0.01, foreach=False),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.01),
}


class Model(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.weight = UninitializedParameter() if kind == "lazy" else nn.Parameter(TENSORS[kind]())
        self.other = nn.Parameter(_randn(5, 5).to(self.weight.device))

    def ask(self) -> None:
        """Gradients for all that has elements."""
        for param in self.parameters():
            if not isinstance(param, UninitializedParameter):
                param.grad = param.detach() * 0.1 if param.layout is torch.sparse_coo else torch.zeros_like(param)


def steps_without(kind: str, optimizer: str) -> bool:
    """Whether torch itself steps on such a tensor."""
    model = Model(kind)
    made = OPTIMIZERS[optimizer](model.parameters())
    try:
        for _ in range(2):
            model.ask()
            made.step()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def watch(made: optim.Optimizer, model: Model) -> None:
    """One step under a monitor."""
    with td.Monitor(made, every_steps=1, model=model) as monitor:
        model.ask()
        made.step()
    assert str(monitor.history)


READ: dict[str, Callable[..., object]] = {
    "monitor": lambda made, model, handle: watch(made, model),
    "verify": lambda made, model, handle: td.verify(made),
    "inspect": lambda made, model, handle: str(td.inspect(made, model=model)),
    "audit": lambda made, model, handle: str(td.audit(made, model=model, run=td.Run(steps=10))),
    "forecast": lambda made, model, handle: str(td.forecast(made, run=td.Run(steps=10), model=model)),
    "lower": lambda made, model, handle: str(td.lower(handle.plan, made, model=model)),
    "penalty": lambda made, model, handle: td.penalty(model, l1=0.1, l2=0.1).backward(),
    "handle": lambda made, model, handle: (repr(handle), handle.debts, handle.duals, handle.penalty(model)),
    "plan": lambda made, model, handle: (handle.plan.to_json(opaque=True), str(handle.plan.table())),
    "update": lambda made, model, handle: handle.update(handle.plan),
    "load": lambda made, model, handle: td.load_optimizer(made, made.state_dict(), model=model),
    "remove": lambda made, model, handle: handle.remove(),
}


VERIFIED = {"decoupled", "relative_update", "projected", "0-d", "complex", "nan", "bf16 strided"}
"""The forms that `verify` reads on tensors of every kind, and the kinds that it reads under every form.

It takes hundreds of steps each time; a slow test has all pairs.
"""


def live(kind: str, form: str, optimizer: str, *, whole: bool = False) -> None:
    """Attach, step, read: an error of ours at attach or of a reader is an answer, all else is a fault."""
    model = Model(kind)
    made = OPTIMIZERS[optimizer](model.parameters())
    try:
        plan = td.plan(model, PRESETS[form].shown, rules=())
        handle = td.attach(made, plan, model=model)
    except td.TorchdecayError as refused:
        assert "weight" in str(refused) or f"can't run on {optimizer}" in str(refused)
        assert not made._optimizer_step_pre_hooks
        return
    finite = torch.isfinite(model.other.detach()).all()
    for _ in range(2):
        model.ask()
        made.step()
    assert model.other.is_meta or kind in ("nan", "inf", "bf16 nan") or torch.isfinite(model.other).all() == finite
    for name, read in READ.items():
        if name == "verify" and not (whole or kind in VERIFIED or form in VERIFIED):
            continue
        try:
            read(made, model, handle)
        except td.TorchdecayError:
            continue


@pytest.mark.parametrize("form", [pytest.param(name, marks=[pytest.mark.long] * (name != "l1")) for name in PRESETS])
def test_every_kind_of_tensor_is_pulled_or_refused_at_attach(form):
    for kind in (*TENSORS, "lazy"):
        if steps_without(kind, "SGD"):
            live(kind, form, "SGD")


@pytest.mark.slow
@pytest.mark.parametrize("form", PRESETS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_so_it_is_under_every_optimizer(form, optimizer):
    for kind in (*TENSORS, "lazy"):
        if steps_without(kind, optimizer):
            live(kind, form, optimizer, whole=True)


@pytest.mark.parametrize(
    ("kind", "decay", "said"),
    [
        ("complex", td.cautious(0.1), "is complex"),
        ("complex", PRESETS["projected"].shown, "is complex"),
        ("complex 0-d", td.forms.huber(0.1, delta=1.0), "is complex"),
        ("stored sparse", td.l1(0.1), "is stored as torch.sparse_coo"),
        ("expanded", td.decoupled(0.1), "elements that share their memory"),
        ("fp8", td.decoupled(0.1), "is of torch.float8_e4m3fn"),
        ("meta", td.decoupled(0.1), "on the meta device"),
        ("0-d", td.decoupled(0.1, rows="lazy"), "has no rows"),
    ],
)
def test_what_no_pass_can_work_on_is_refused_by_name(kind, decay, said):
    model = Model(kind)
    made = OPTIMIZERS["SGD"](model.parameters())
    with pytest.raises(td.ApplyError, match=rf'"weight"[\s\S]*{said}'):
        td.attach(made, td.plan(model, decay, rules=()), model=model)
