"""Two models, two optimizers, steps in turn."""

import torch
from torch import nn
from weights import fingerprint

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
makes = torch.optim.Adam(generator.parameters(), lr=1e-2, betas=(0.5, 0.999), weight_decay=1e-3)
judges = torch.optim.RMSprop(critic.parameters(), lr=1e-2, weight_decay=1e-3)
for _ in range(6):
    for _ in range(2):
        judges.zero_grad()
        fake = generator(torch.randn(8, 4)).detach()
        (critic(fake) - critic(torch.randn(8, 2) + 2)).mean().backward()
        judges.step()
    makes.zero_grad()
    (-critic(generator(torch.randn(8, 4)))).mean().backward()
    makes.step()
print(fingerprint(generator, critic))
