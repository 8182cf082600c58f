for x, y in loader:
    scaler.scale(criterion(model(x), y)).backward()
    for p in model.parameters():
        p.grad = p.grad + 1e-4 * p  #! WD514
    scaler.step(optimizer)
    scaler.update()
# ── mended ──
for x, y in loader:
    scaler.scale(criterion(model(x), y)).backward()
    scaler.unscale_(optimizer)
    for p in model.parameters():
        p.grad = p.grad + 1e-4 * p
    scaler.step(optimizer)
    scaler.update()
