"""A detector's solver: SGD, one group for every parameter, norms spared.

Biases decay, because only norms were thought of; and fourteen groups with two settings cost a kernel launch each.

Found: WD101, WD203
"""

from __future__ import annotations

import torch
from torch import nn

import torchdecay as td


def detector() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    backbone = nn.Sequential(*layers)
    backbone[0].requires_grad_(False)
    head = nn.ModuleDict({"cls": nn.Conv2d(16, 5, 1), "box": nn.Conv2d(16, 4, 1), "obj": nn.Conv2d(16, 1, 1)})
    return nn.ModuleDict({"backbone": backbone, "head": head})


def setup() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = detector()
    groups = []
    for module in model.modules():
        for param in module.parameters(recurse=False):
            if param.requires_grad:
                is_norm = isinstance(module, nn.BatchNorm2d)
                groups.append({"params": [param], "lr": 0.02, "weight_decay": 0.0 if is_norm else 1e-4})
    return torch.optim.SGD(groups, lr=0.02, momentum=0.9), model


def fixed() -> tuple[torch.optim.Optimizer, nn.Module]:
    model = detector()
    return torch.optim.SGD(td.param_groups(model, 1e-4), lr=0.02, momentum=0.9), model
