import argparse

import torch


def parse():
    parser = argparse.ArgumentParser(description="train")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=5e-4, help="weight decay")  #! WD510
    return parser.parse_args()


def main():
    args = parse()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    run(optimizer)
# ── mended ──
import argparse

import torch


def parse():
    parser = argparse.ArgumentParser(description="train")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=5e-4, help="weight decay")
    return parser.parse_args()


def main():
    args = parse()
    optimizer = torch.optim.SGD(groups(model, args.weight_decay), lr=args.lr, momentum=0.9)
    run(optimizer)
