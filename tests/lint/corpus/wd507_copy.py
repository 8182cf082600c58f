import copy

import torch


def clone_and_train(model, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)  #! WD507
    model = copy.deepcopy(model)
    for _ in range(steps):
        model(batch()).sum().backward()
        optimizer.step()
    return model
# ── mended ──
import copy

import torch


def clone_and_train(model, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    average = copy.deepcopy(model)
    for _ in range(steps):
        model(batch()).sum().backward()
        optimizer.step()
    model = average
    return model
