import torch.optim as optim


def unfreeze(backbone, head):
    matrices = [p for p in head.parameters() if p.ndim > 1]
    vectors = [p for p in head.parameters() if p.ndim <= 1]
    optimizer = optim.AdamW([{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}])
    extra = {"params": backbone.norm.bias, "lr": 1e-5}
    optimizer.add_param_group(extra)  #! WD512
    return optimizer
# ── mended ──
import torch.optim as optim


def unfreeze(backbone, head):
    matrices = [p for p in head.parameters() if p.ndim > 1]
    vectors = [p for p in head.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = optim.AdamW(groups, weight_decay=0.0)
    extra = {"params": backbone.norm.bias, "lr": 1e-5}
    optimizer.add_param_group(extra)
    return optimizer
