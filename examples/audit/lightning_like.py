"""A module with `configure_optimizers` and `training_step`, as Lightning calls them: Adam, and a penalty beside it.

Adam's weight_decay goes through its preconditioner; all biases and norms have it; and the loss holds Σw² of the same
weights once more.

Found: WD101, WD210, WD401
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import torchdecay as td


class Regressor(nn.Module):
    """No LightningModule, so that this file needs no Lightning; the two methods are what matters."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        penalty = sum(p.pow(2).sum() for name, p in self.named_parameters() if "weight" in name and p.dim() > 1)
        return F.mse_loss(self.net(x), y) + 1e-4 * penalty

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=1e-2)


class Mended(Regressor):
    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(td.param_groups(self, 1e-2), lr=1e-3)


def _setup(model: Regressor) -> dict[str, Any]:
    batch = torch.randn(32, 8), torch.randn(32, 1)
    return {"optimizer": model.configure_optimizers(), "model": model, "loss": model.training_step(batch)}


def setup() -> dict[str, Any]:
    return _setup(Regressor())


def fixed() -> dict[str, Any]:
    return _setup(Mended())
