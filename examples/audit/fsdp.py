"""FSDP2, and an optimizer that was built before the model was sharded.

`fully_shard` puts new parameters in the place of the old ones. The optimizer keeps the old: it steps and decays tensors
that the model no longer has, and the model trains nothing.

Run it on two processes: `python examples/audit/fsdp.py`; `torchdecay audit` runs it on one.

Found: WD104, WD105
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import torchdecay as td


def join(rank: int = 0, world: int = 1, store: str = "") -> None:
    """Processes that meet over a file: no ports, no network."""
    if not dist.is_initialized():
        store = store or tempfile.mkdtemp() + "/store"
        dist.init_process_group("gloo", store=dist.FileStore(store, world), rank=rank, world_size=world)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))


def sharded(model: nn.Module) -> nn.Module:
    for layer in model:
        fully_shard(layer)
    return fully_shard(model)


def setup() -> tuple[torch.optim.Optimizer, nn.Module]:
    join()
    model = network()
    optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3)
    return optimizer, sharded(model)


def fixed() -> tuple[torch.optim.Optimizer, nn.Module]:
    join()
    model = sharded(network())
    return torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3), model


def report(rank: int, world: int, folder: str) -> None:
    """What each process finds, in a file of its own."""
    join(rank, world, f"{folder}/store")
    found = [td.audit(optimizer, model=model) for optimizer, model in (setup(), fixed())]
    Path(folder, f"{rank}.txt").write_text("\n".join(",".join(audit.codes) for audit in found), encoding="utf-8")
    if rank == 0:
        print(found[0])
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    torch.multiprocessing.spawn(report, args=(2, where), nprocs=2)
