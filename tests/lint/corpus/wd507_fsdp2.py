import torch
from torch.distributed.fsdp import fully_shard


def main(cfg):
    model = Transformer(cfg)
    optimizer = torch.optim.AdamW(groups_of(model.named_parameters()), lr=cfg.lr)  #! WD507
    for block in model.layers:
        fully_shard(block)
    fully_shard(model)
    for step, batch in enumerate(data(cfg)):
        model(batch).backward()
        optimizer.step()
# ── mended ──
import torch
from torch.distributed.fsdp import fully_shard


def main(cfg):
    model = Transformer(cfg)
    for block in model.layers:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(groups_of(model.named_parameters()), lr=cfg.lr)
    for step, batch in enumerate(data(cfg)):
        model(batch).backward()
        optimizer.step()
