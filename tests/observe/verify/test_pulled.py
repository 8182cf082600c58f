"""What `verify` measured of a class that nobody knows is what forecast and audit go by."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim

import torchdecay as td


class Signs(optim.Optimizer):
    """Lion's kin of no library: decoupled or coupled, as it is asked."""

    def __init__(self, params, coupled=False, **options):
        super().__init__(params, {"lr": 0.01, "weight_decay": 0.1, "coupled": coupled, **options})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    gradient = param.grad + group["weight_decay"] * param * group["coupled"]
                    param.mul_(1 - group["lr"] * group["weight_decay"] * (not group["coupled"]))
                    param.sub_(gradient / (1 + gradient.norm()), alpha=group["lr"])


def test_a_forecast_and_an_audit_of_what_was_measured():
    """Nobody knows the class: nothing is forecast, until it was measured; then it is a decay as any other."""
    model = nn.Linear(16, 8)
    optimizer, run = Signs(td.param_groups(model, 0.1)), td.Run(steps=1000, lr_schedule="cosine")
    unknown = td.forecast(optimizer, run=run).of("weight")
    assert (unknown.prediction, unknown.fraction) == ("unknown", None)
    verified = td.verify(optimizer)
    (known, same) = (
        td.forecast(one, run=run, verified=said).of("weight")
        for one, said in ((optimizer, verified), (optim.AdamW(td.param_groups(model, 0.1), lr=0.01), None))
    )
    assert (known.prediction, known.why) == ("exact", "as td.verify measured it")
    assert known.timescale == pytest.approx(same.timescale, rel=1e-4)
    assert known.total_shrink == pytest.approx(same.total_shrink, rel=1e-4)
    strong = Signs(td.param_groups(model, 20.0))
    codes = [td.audit(strong, model=model, run=run, verified=said).codes for said in (None, td.verify(strong))]
    assert set(codes[1]) - set(codes[0]) and all(code.startswith("WD3") for code in set(codes[1]) - set(codes[0]))


def test_what_a_coupled_decay_comes_to_is_still_not_known():
    """That it enters the gradient was measured; what the class makes of gradients was not."""
    model = nn.Linear(16, 8)
    optimizer = Signs(td.param_groups(model, 0.1), coupled=True)
    said = td.forecast(optimizer, run=td.Run(steps=10), verified=td.verify(optimizer)).of("weight")
    assert said.prediction == "unknown" and "coupled" in said.decay and "makes of a gradient" in said.why
