accumulation_steps = 8
for i, (inputs, labels) in enumerate(loader):
    loss = criterion(model(inputs), labels)
    loss = loss / accumulation_steps
    l2 = 0.0
    for p in model.parameters():
        l2 = l2 + p.pow(2).sum()  #! WD508
    loss = loss + 1e-5 * l2
    loss.backward()
    if (i + 1) % accumulation_steps == 0:
        optimizer.step()
        optimizer.zero_grad()
# ── mended ──
accumulation_steps = 8
for i, (inputs, labels) in enumerate(loader):
    loss = criterion(model(inputs), labels)
    l2 = 0.0
    for p in model.parameters():
        l2 = l2 + p.pow(2).sum()
    loss = loss + 1e-5 * l2
    loss = loss / accumulation_steps
    loss.backward()
    if (i + 1) % accumulation_steps == 0:
        optimizer.step()
        optimizer.zero_grad()
