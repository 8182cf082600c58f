"""A training as people write it, which knows nothing of torchdecay: digits, a third of whose labels are wrong."""

import torch
from sklearn.datasets import load_digits
from torch import nn

STEPS, BATCH = 1_000, 128

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images / 16, dtype=torch.float32) - 0.3
labels = torch.tensor(labels)
order = torch.randperm(len(images))
train, test = order[:1_000], order[1_000:]
wrong = train[:400]
labels[wrong] = torch.randint(0, 10, (len(wrong),))

model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=STEPS)

for _ in range(STEPS):
    batch = train[torch.randint(0, len(train), (BATCH,))]
    loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()

with torch.no_grad():
    right = (model(images[test]).argmax(1) == labels[test]).float().mean()
print(f"test accuracy {right:.3f}")
