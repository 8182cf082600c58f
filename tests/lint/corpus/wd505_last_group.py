from torch.optim import AdamW

optimizer = AdamW(groups, lr=1e-3)
for step, batch in enumerate(loader):
    for group in optimizer.param_groups:
        print(group["lr"])
    group["weight_decay"] = 0.1 * (1 - step / total)  #! WD505
    model(batch).backward()
    optimizer.step()
# ── mended ──
from torch.optim import AdamW

optimizer = AdamW(groups, lr=1e-3)
for step, batch in enumerate(loader):
    for group in optimizer.param_groups:
        print(group["lr"])
        group["weight_decay"] = 0.1 * (1 - step / total)
    model(batch).backward()
    optimizer.step()
