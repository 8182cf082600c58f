import torch
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP


def setup(model, rank):
    opt = torch.optim.SGD(model.parameters(), lr=0.1)  #! WD507
    model = FSDP(model, device_id=rank)
    return model, opt
# ── mended ──
import torch
from torch.nn.parallel import DistributedDataParallel as DDP


def setup(model, rank):
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    model = DDP(model, device_ids=[rank])
    model = torch.compile(model)
    return model, opt
