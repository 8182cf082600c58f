import torch


def resume(model, checkpoint, args):
    groups = [{"params": matrices, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)  #! WD515
    state = torch.load(checkpoint)
    optimizer.load_state_dict(state["optimizer"])
    return optimizer
# ── mended ──
import torch


def resume(model, checkpoint, args):
    groups = [{"params": matrices, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    state = torch.load(checkpoint)
    optimizer.load_state_dict(state["optimizer"])
    optimizer.param_groups[0]["weight_decay"] = args.weight_decay
    return optimizer
