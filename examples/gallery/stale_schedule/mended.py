"""Its values first."""

import torch
from torch import nn

import torchdecay as td


class Scheduler:
    """Raises weight_decay step by step, and writes it into the groups."""

    def __init__(self, optimizer, start, end, steps):
        self.optimizer, self.start, self.end, self.steps, self.step_count = optimizer, start, end, steps, 0
        self.step(0)

    def step(self, increment=1):
        self.step_count += increment
        value = self.start + (self.end - self.start) * min(1.0, self.step_count / self.steps)
        self.optimizer.param_groups[0]["weight_decay"] = value

    def load_state_dict(self, state):
        self.start, self.end, self.steps = state["start"], state["end"], state["steps"]
        self.step(state["step_count"])


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3)
scheduler = Scheduler(optimizer, 0.01, 0.01, 100)
scheduler.load_state_dict({"step_count": 50, "start": 0.1, "end": 0.3, "steps": 100})
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    scheduler.step()
