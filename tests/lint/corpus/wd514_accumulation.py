step = 0
for x, y in loader:
    loss_fn(model(x), y).div(4).backward()
    step += 1
    for name, w in model.named_parameters():
        if w.grad is not None and w.ndim > 1:
            w.grad.data.add_(w.data, alpha=5e-4)  #! WD514
    if step % 4 == 0:
        opt.step()
        opt.zero_grad()
# ── mended ──
for x, y in loader:
    loss_fn(model(x), y).backward()
    for name, w in model.named_parameters():
        if w.grad is not None and w.ndim > 1:
            w.grad.data.add_(w.data, alpha=5e-4)
    opt.step()
    opt.zero_grad()
