import argparse

import bitsandbytes as bnb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=2e-4)
parser.add_argument("--weight-decay", type=float, default=0.1)
args = parser.parse_args()

for p in model.encoder.parameters():
    p.requires_grad = False
trainable = filter(lambda p: p.requires_grad, model.parameters())
optimizer = bnb.optim.AdamW8bit(trainable, lr=args.lr, weight_decay=args.weight_decay)  #! WD501
# ── mended ──
import argparse

import bitsandbytes as bnb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=2e-4)
parser.add_argument("--weight-decay", type=float, default=0.0)
args = parser.parse_args()

for p in model.encoder.parameters():
    p.requires_grad = False
trainable = filter(lambda p: p.requires_grad, model.parameters())
optimizer = bnb.optim.AdamW8bit(trainable, lr=args.lr, weight_decay=args.weight_decay)
