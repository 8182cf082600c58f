"""Checkpoints that a script loads on the way, where they replace the weight_decay of its optimizer."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchdecay.integrations.script.applying import standing
from torchdecay.integrations.script.guard import Guard
from torchdecay.integrations.script.met import Met

LOST = "what checkpoints do to weight_decay is not known"


def follow_loads(met: Met, optimizer: Optimizer, guard: Guard) -> list[RemovableHandle]:
    """Say so from here on, with both values; until the hooks are removed."""
    before = ""

    def ahead(one: Optimizer, state: object) -> None:
        nonlocal before
        before = guard(LOST, lambda: standing(one)) or ""

    def behind(one: Optimizer) -> None:
        now = guard(LOST, lambda: standing(one))
        if before and now and now != before:
            where = f"after step {met.steps} of {met.about.optimizer}"
            guard.tell(f"a checkpoint that the script loaded {where} put {now} in place of {before}.")

    return [
        optimizer.register_load_state_dict_pre_hook(ahead),
        optimizer.register_load_state_dict_post_hook(behind),
    ]
