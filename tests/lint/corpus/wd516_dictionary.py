import torch

named = {n: p for n, p in model.named_parameters() if p.requires_grad}
decay = [p for n, p in named.items() if p.dim() > 2]  #! WD516
rest = [p for n, p in named.items() if p.dim() < 2]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}])
# ── mended ──
import torch

named = {n: p for n, p in model.named_parameters() if p.requires_grad}
decay = [p for n, p in named.items() if p.dim() >= 2]
rest = [p for n, p in named.items() if p.dim() < 2]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}])
