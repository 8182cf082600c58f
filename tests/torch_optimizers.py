"""torch's optimizers as the tests build them: learning rates high enough for a decay to move the last digits."""

from __future__ import annotations

from torch import optim

from this_torch import Muon

TORCH = {
    "SGD": (optim.SGD, {"lr": 0.1}),
    "SGD momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1}),
    "SGD nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "Adagrad": (optim.Adagrad, {"lr": 0.1}),
    "Adadelta": (optim.Adadelta, {"lr": 1.0}),
    "Adamax": (optim.Adamax, {"lr": 0.1}),
    "RMSprop": (optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    "ASGD": (optim.ASGD, {"lr": 0.1}),
    "Adam": (optim.Adam, {"lr": 0.1, "amsgrad": True}),
    "Adam decoupled": (optim.Adam, {"lr": 0.1, "decoupled_weight_decay": True}),
    "NAdam": (optim.NAdam, {"lr": 0.1}),
    "NAdam decoupled": (optim.NAdam, {"lr": 0.1, "decoupled_weight_decay": True}),
    "RAdam": (optim.RAdam, {"lr": 0.1}),
    "RAdam decoupled": (optim.RAdam, {"lr": 0.1, "decoupled_weight_decay": True}),
    "AdamW": (optim.AdamW, {"lr": 0.1}),
    "Muon": (Muon, {"lr": 0.1}),
    "Adafactor": (optim.Adafactor, {"lr": 0.1}),
}
WITHOUT = {
    "Rprop": (optim.Rprop, {"lr": 0.1}),
    "SparseAdam": (optim.SparseAdam, {"lr": 0.1}),
}
