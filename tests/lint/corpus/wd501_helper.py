import itertools

import torch


def trainable_params(encoder, decoder):
    return itertools.chain(encoder.parameters(), decoder.parameters())


def main(encoder, decoder, cfg):
    opt_args = dict(lr=cfg.lr, weight_decay=1e-4)
    optim = torch.optim.AdamW(trainable_params(encoder, decoder), **opt_args)  #! WD501
    return optim
# ── mended ──
import itertools

import torch


def trainable_params(encoder, decoder):
    return itertools.chain(encoder.parameters(), decoder.parameters())


def main(encoder, decoder, cfg):
    opt_args = dict(lr=cfg.lr, weight_decay=1e-4)
    if cfg.no_decay:
        opt_args["weight_decay"] = 0.0
    optim = torch.optim.AdamW(trainable_params(encoder, decoder), **opt_args)
    return optim
