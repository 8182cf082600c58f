from torch.optim import AdamW

matrices, vectors = [], []
for p in model.parameters():
    if p.ndim == 2:  #! WD516
        matrices.append(p)
    elif p.ndim == 1:
        vectors.append(p)
opt = AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}])
# ── mended ──
from torch.optim import AdamW

matrices, vectors, others = [], [], []
for p in model.parameters():
    if p.ndim == 2:
        matrices.append(p)
    elif p.ndim < 2:
        vectors.append(p)
    else:
        others.append(p)
opt = AdamW([{"params": matrices + others, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}])
