"""A LightningModule as people write it, which knows nothing of torchdecay: digits with wrong labels."""

import argparse

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--weight-decay", type=float, default=0.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--out", default="lightning-out")
options = parser.parse_args()

images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16, dtype=torch.float32) - 0.3, torch.tensor(labels)
rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))
wrong = rows[:400]
labels[wrong] = labels[wrong.flip(0)]


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))

    def training_step(self, batch, index):
        pixels, targets = batch
        return nn.functional.cross_entropy(self.layers(pixels), targets)

    def validation_step(self, batch, index):
        pixels, targets = batch
        self.log("val_loss", nn.functional.cross_entropy(self.layers(pixels), targets))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=options.weight_decay)


def part(which, **how):
    return DataLoader(TensorDataset(images[which], labels[which]), **how)


lightning.seed_everything(options.seed)
trainer = lightning.Trainer(
    max_epochs=options.epochs,
    logger=TensorBoardLogger(options.out),
    accelerator="cpu",
    enable_progress_bar=False,
    enable_checkpointing=False,
    log_every_n_steps=1000,
)
trainer.fit(Classifier(), part(rows[:1000], batch_size=64, shuffle=True), part(rows[1000:], batch_size=512))
