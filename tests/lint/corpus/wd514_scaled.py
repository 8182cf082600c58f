scaler = torch.amp.GradScaler()
for x, y in loader:
    scaler.scale(criterion(model(x), y)).backward()
    for p in model.parameters():
        p.grad.add_(p, alpha=1e-4)  #! WD514
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
# ── mended ──
scaler = torch.amp.GradScaler()
for x, y in loader:
    scaler.scale(criterion(model(x), y)).backward()
    scaler.unscale_(optimizer)
    for p in model.parameters():
        p.grad.add_(p, alpha=1e-4)
    scaler.step(optimizer)
    scaler.update()
