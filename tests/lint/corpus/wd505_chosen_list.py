import torch

decay, spared = [], []
for name, param in model.named_parameters():
    is_spared = param.ndim < 2
(spared if is_spared else decay).append(param)  #! WD505
optimizer = torch.optim.AdamW([{"params": decay}, {"params": spared, "weight_decay": 0.0}], weight_decay=0.1)
# ── mended ──
import torch

decay, spared = [], []
for name, param in model.named_parameters():
    is_spared = param.ndim < 2
    (spared if is_spared else decay).append(param)
optimizer = torch.optim.AdamW([{"params": decay}, {"params": spared, "weight_decay": 0.0}], weight_decay=0.1)
