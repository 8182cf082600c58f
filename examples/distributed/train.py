"""FSDP2 in bf16 with cautious decay, a monitor, and a checkpoint that goes on from any number of processes.

    torchrun --nproc-per-node 2 examples/distributed/train.py runs/first
    torchrun --nproc-per-node 4 examples/distributed/train.py runs/first    # goes on where that one ended

The order matters: shard, then the optimizer, then the plan. What runs before `fully_shard` has weights that the model
no longer has.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard

import torchdecay as td

STEPS = 40


def main(folder: Path) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    rank = dist.get_rank()
    if device == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 1)).to(device, torch.bfloat16)
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)

    optimizer = torch.optim.AdamW(td.param_groups(model, 0.0), lr=1e-2)
    handle = td.attach(optimizer, td.plan(model, td.cautious(0.5)), model=model)

    state = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    # One that was cut off by a process that died has no .metadata.
    whole = [one.parent for one in folder.glob("step-*/.metadata")]
    if whole:
        dcp.load(state, checkpoint_id=max(whole, key=lambda one: int(one.name.removeprefix("step-"))))
        set_model_state_dict(model, state["model"])
        # The plan's counters and what low-precision weights owe are in the groups' marks.
        set_optimizer_state_dict(model, optimizer, state["optimizer"])
    done = handle.steps(0)

    history = folder / f"from-{done}.jsonl"
    with td.Monitor(optimizer, every_steps=10, model=model, path=history, start="auto", if_exists="replace"):
        for step in range(done, done + STEPS):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(256, 16, generator=generator)[rank :: dist.get_world_size()].to(device, torch.bfloat16)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x.sin().sum(1, keepdim=True)).backward()
            optimizer.step()

    state = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.save(state, checkpoint_id=folder / f"step-{handle.steps(0)}")
    if rank == 0:
        last = td.History.load(history)
        shrink = last.curve("weight", "realized_shrink")[1]
        print(f"steps {done} to {handle.steps(0)}, weights shrunk by {sum(shrink) / len(shrink):.2%} per step")
    dist.destroy_process_group()


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/distributed")
    where.mkdir(parents=True, exist_ok=True)
    main(where)
