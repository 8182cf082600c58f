"""compile=True: the same numbers in one pass, and a reason where nothing can be compiled."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td
from torchdecay.apply import compiled
from torchdecay.errors import NotCompiledWarning
from warned import no_warning

FORMS = {
    "cautious": lambda: td.cautious(0.3),
    "l1": lambda: td.l1(0.05),
    "elastic_net": lambda: td.elastic_net(l1=0.05, l2=0.2),
    "huber": lambda: td.forms.huber(0.5, delta=0.4),
    "toward": lambda: td.toward("initial", 0.3),
}


@pytest.fixture(autouse=True)
def _small_tensors_too(monkeypatch):
    """Compile whatever the size, so that the weights here need not be large."""
    monkeypatch.setattr(compiled, "_WORTH_A_CALL", 0)


def train(decay, *, compile, lrs):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 300), nn.Tanh(), nn.Linear(300, 3))
    optimizer = optim.AdamW(model.parameters(), lr=lrs[0], weight_decay=0)
    handle = td.attach(optimizer, td.plan(model, decay), model=model, compile=compile)
    generator = torch.Generator().manual_seed(1)
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        model(torch.randn(5, 7, generator=generator)).square().mean().backward()
        optimizer.step()
    handle.remove()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_compiled_passes_give_the_numbers_of_eager_ones():
    """Within a few units of float32's last place: a fused kernel rounds once where eager ones round twice."""
    lrs = [0.02, 0.019, 0.018, 0.017]
    for form in FORMS.values():
        torch.testing.assert_close(
            train(form(), compile=True, lrs=lrs), train(form(), compile=False, lrs=lrs), rtol=2e-6, atol=2e-7
        )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_learning_rate_that_moves_compiles_nothing_anew():
    def graphs(lrs):
        torch._dynamo.utils.counters.clear()
        train(td.cautious(0.3), compile=True, lrs=lrs)
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]

    torch._dynamo.reset()
    assert graphs([0.02, 0.019]) > 0
    assert graphs([0.018, 0.017, 0.016, 0.015]) == 0


def test_without_a_compiler_the_passes_run_as_they_are_and_say_why(monkeypatch):
    def broken(kernel):
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found")

    monkeypatch.setattr(compiled, "_compiled", broken)
    with pytest.warns(NotCompiledWarning, match="no working C\\+\\+ compiler"):
        found = train(td.l1(0.05), compile=True, lrs=[0.02])
    with no_warning():
        assert torch.equal(found, train(td.l1(0.05), compile=False, lrs=[0.02]))
