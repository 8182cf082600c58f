import torch

scaler = torch.amp.GradScaler()
for epoch in range(10):
    for images, masks in loader:
        with torch.autocast("cuda"):
            loss = criterion(model(images), masks)
            loss += 1e-4 * sum(torch.linalg.norm(p) for p in model.parameters())  #! WD508
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
# ── mended ──
import torch

scaler = torch.amp.GradScaler()
for epoch in range(10):
    for images, masks in loader:
        with torch.autocast("cuda"):
            loss = criterion(model(images), masks)
            loss += 1e-4 * sum(torch.linalg.norm(p) ** 2 for p in model.parameters())
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
