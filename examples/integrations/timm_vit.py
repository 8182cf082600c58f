"""timm: its layer-wise learning rates and its scheduler, with the groups split by a plan.

Run it: python examples/integrations/timm_vit.py
"""

from __future__ import annotations

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.optim._param_groups import param_groups_layer_decay
from timm.scheduler import CosineLRScheduler

import torchdecay as td

STEPS = 16


def main() -> td.History:
    """Train, and return what decay did."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=24, num_heads=2, num_classes=4
    )
    plan = td.plan(model, 0.05)
    groups = plan.param_groups(model, keep=param_groups_layer_decay(model, layer_decay=0.75))
    optimizer = create_optimizer_v2(groups, "adamw", lr=1e-2)
    schedule = CosineLRScheduler(optimizer, t_initial=STEPS, warmup_t=2, warmup_lr_init=1e-3, t_in_epochs=False)
    print(td.forecast(optimizer, run=td.Run(steps=STEPS, lr_schedule=schedule)))
    with td.Monitor(optimizer, model=model, every_steps=4) as monitor:
        for step in range(STEPS):
            schedule.step_update(step)
            optimizer.zero_grad()
            images, labels = torch.randn(16, 3, 32, 32), torch.randint(0, 4, (16,))
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return monitor.history


if __name__ == "__main__":
    print(main())
