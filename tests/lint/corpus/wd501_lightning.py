import pytorch_lightning as pl
from torch import optim as o


class Lit(pl.LightningModule):
    def __init__(self, net, lr=1e-3, weight_decay=0.05):
        super().__init__()
        self.save_hyperparameters(ignore=["net"])
        self.net = net

    def configure_optimizers(self):
        opt = o.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)  #! WD501
        return {"optimizer": opt, "lr_scheduler": o.lr_scheduler.CosineAnnealingLR(opt, 100)}
# ── mended ──
import pytorch_lightning as pl
from torch import optim as o


class Lit(pl.LightningModule):
    def __init__(self, net, lr=1e-3, weight_decay=0.0):
        super().__init__()
        self.save_hyperparameters(ignore=["net"])
        self.net = net

    def configure_optimizers(self):
        opt = o.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        return {"optimizer": opt, "lr_scheduler": o.lr_scheduler.CosineAnnealingLR(opt, 100)}
