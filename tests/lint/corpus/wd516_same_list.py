import torch


def make_parameter_groups(model, needs_wd, weight_decay):
    params_with_wd = {"params": [], "weight_decay": weight_decay}
    params_without_wd = {"params": [], "weight_decay": 0.0}
    for name, parameter in model.named_parameters():
        (params_with_wd if needs_wd(name) else params_with_wd)["params"].append(parameter)  #! WD516
    return torch.optim.AdamW([params_with_wd, params_without_wd], lr=1e-3)
# ── mended ──
import torch


def make_parameter_groups(model, needs_wd, weight_decay):
    params_with_wd = {"params": [], "weight_decay": weight_decay}
    params_without_wd = {"params": [], "weight_decay": 0.0}
    for name, parameter in model.named_parameters():
        (params_with_wd if needs_wd(name) else params_without_wd)["params"].append(parameter)
    return torch.optim.AdamW([params_with_wd, params_without_wd], lr=1e-3)
