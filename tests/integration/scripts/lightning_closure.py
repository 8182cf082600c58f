"""Lightning, which runs the forward pass inside the step."""

import logging
import warnings

warnings.simplefilter("ignore")
import lightning as L  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from weights import fingerprint  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))

    def training_step(self, batch, index):
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


L.seed_everything(0, verbose=False)
module = Module()
data = torch.utils.data.DataLoader(torch.randn(16, 4), batch_size=4)
trainer = L.Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)  # fmt: skip
trainer.fit(module, data)
print(fingerprint(module))
