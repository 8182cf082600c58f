from dataclasses import dataclass

import torch


@dataclass
class Config:
    lr: float = 3e-4
    weight_decay: float = 0.1  #! WD510


def build(cfg: Config, net):
    return torch.optim.SGD(net.parameters(), lr=cfg.lr)
# ── mended ──
import argparse

from transformers import Trainer

parser = argparse.ArgumentParser()
parser.add_argument("--wd", type=float)
args = parser.parse_args()
Trainer(model, args).train()
