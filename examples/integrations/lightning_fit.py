"""Lightning: a decay and a monitor are two callbacks; the LightningModule stays as it is.

Run it: python examples/integrations/lightning_fit.py
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import torchdecay as td
from torchdecay.integrations.lightning import DecayMonitor, WeightDecay


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 4))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def main() -> td.History:
    """Train, and return what decay did."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(512, 16), torch.randint(0, 4, (512,)))
    monitor = DecayMonitor(every_n_steps=8)
    trainer = Trainer(
        max_epochs=4,
        callbacks=[WeightDecay(td.cautious(0.1)), monitor],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), DataLoader(data, batch_size=64))
    return monitor.history


if __name__ == "__main__":
    print(main())
