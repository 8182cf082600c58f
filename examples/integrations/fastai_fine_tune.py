"""fastai: a decay in the Learner's opt_func, kept through freezing, unfreezing and one-cycle rates.

Run it: python examples/integrations/fastai_fine_tune.py
"""

from __future__ import annotations

import torch
from fastai.basics import Callback, DataLoader, DataLoaders, Learner
from torch import nn

import torchdecay as td
from torchdecay.integrations.fastai import opt_func


class Watch(Callback):
    """Records what decay does in the batches that follow."""

    def before_fit(self) -> None:
        self.monitor = td.Monitor(self.learn.opt.opt, model=self.learn.model, every_steps=4)

    def after_fit(self) -> None:
        self.monitor.close()


def main() -> td.History:
    """Train the head, then all of it, and return what decay did in the end."""
    torch.manual_seed(0)
    rows = [(torch.randn(16), torch.randn(1)) for _ in range(64)]
    loaders = DataLoaders(DataLoader(rows, bs=16, num_workers=0), DataLoader(rows, bs=16, num_workers=0))
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    learn = Learner(
        loaders,
        model,
        loss_func=nn.functional.mse_loss,
        opt_func=opt_func(torch.optim.AdamW, td.decoupled(0.1)),
        splitter=lambda model: [list(model[0].parameters()), list(model[2].parameters())],
    )
    learn.freeze()
    learn.fit(1, lr=1e-2)
    learn.unfreeze()
    watch = Watch()
    learn.fit(3, lr=slice(1e-3, 1e-2), cbs=watch)
    print(learn.opt.decay_handle.lowering)
    return watch.monitor.history


if __name__ == "__main__":
    print(main())
