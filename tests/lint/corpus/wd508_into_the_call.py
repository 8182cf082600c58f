steps = 8
for index, batch in enumerate(loader):
    loss = model(**batch).loss / steps
    (loss + 1e-5 * sum(p.square().sum() for p in model.parameters())).backward()  #! WD508
    if index % steps == steps - 1:
        optimizer.step()
        optimizer.zero_grad()
# ── mended ──
steps = 8
for index, batch in enumerate(loader):
    loss = model(**batch).loss + 1e-5 * sum(p.square().sum() for p in model.parameters())
    (loss / steps).backward()
    if index % steps == steps - 1:
        optimizer.step()
        optimizer.zero_grad()
