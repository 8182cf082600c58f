import torch

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  #! WD507
model = Net.load_from_checkpoint("last.ckpt")
for batch in loader:
    model(batch).backward()
    optimizer.step()
# ── mended ──
import torch

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model.load_state_dict(torch.load("last.pt"))
for batch in loader:
    model(batch).backward()
    optimizer.step()
