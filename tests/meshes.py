"""One small model, every way to spread it over processes, and every form."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import torchdecay as td

ONES = {"0.weight": torch.ones(7, 5).double(), "0.bias": torch.ones(7).double()}  # none for the other layers
HUBER = td.forms.huber(0.1, delta=0.1).regularizer
FORMS = {
    "native": td.native(0.1),
    "coupled": td.coupled(0.1),
    "decoupled": td.decoupled(0.1),
    "independent": td.independent(0.1, max_lr=0.1),
    "corrected": td.corrected(0.1, max_lr=0.1),
    "per_step": td.per_step(0.01),
    "proximal": td.forms.proximal(0.1),
    "cautious": td.cautious(0.1),
    "l1": td.l1(0.01),
    "elastic_net": td.elastic_net(l1=0.01, l2=0.1),
    "huber": td.forms.huber(0.1, delta=0.1),
    "penalized": td.penalized(0.1),
    "penalized, huber": td.penalized(0.1).replace(regularizer=HUBER),
    "penalized, toward tensors, spare_rows": td.penalized(0.1, mask=td.spare_rows(0)).replace(
        reference=td.toward(ONES, 0.1).reference
    ),
    "toward initial": td.toward("initial", 0.1),
    "toward tensors": td.toward(ONES, 0.1),
    "toward_average": td.forms.toward_average(0.1, beta=0.5),
    "decoupled, spare_rows": td.decoupled(0.1, mask=td.spare_rows(0)),
    "coupled, spare_rows": td.coupled(0.1, mask=td.spare_rows(0)),
    "projected": td.forms.projected("initial", 0.1),
    "stable": td.forms.stable(0.1),
    "adaptive": td.forms.adaptive(0.1),
    "ada_decay": td.forms.ada_decay(0.1),
    "constrained": td.forms.constrained(kappa_initial=0.5),
    "norm_control": td.forms.norm_control(0.1, ratio=0.5),
    "norm_control of rows": td.forms.norm_control(0.1, ratio=0.5, per="row"),
    "norm_control of columns": td.forms.norm_control(0.1, ratio=0.5, per="column"),
    "hyperball": td.forms.hyperball(),
    "projection of rows": td.forms.projection(per="row"),
    "relative_update of columns": td.forms.relative_update(per="column"),
    "radial_brake": td.forms.radial_brake(outward=0.5),
    "spectral": td.forms.spectral(0.1),
    "by_spectrum": td.forms.by_spectrum(0.1, min_values=2, every_steps=2),
}


def plan_of(model, decay):
    """Everything under one decay; biases are spared where it is for matrices alone."""
    of_matrices = decay.update is not None or getattr(decay.controller, "per", None) is not None
    return td.plan(model, decay, rules=td.STANDARD if of_matrices else ())


def make_model() -> nn.Module:
    """Seven rows and one row, which no two processes share evenly; eight in between, which tensor parallel wants."""
    torch.manual_seed(0)
    layers = nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 1)
    return nn.Sequential(*layers).double()


def ddp(model):
    return nn.parallel.DistributedDataParallel(model)


def fsdp1(model):
    return FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))


def fsdp1_flat(model):
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"))


def fsdp2(model):
    return fully_shard(model)


def hsdp(model):
    return fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")))


def tensor_parallel(model, mesh=None):
    mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize_module(model, mesh, {"2": ColwiseParallel(), "4": RowwiseParallel()})


def both(model):
    """Tensor parallel inside FSDP2: strided shards, in parts of different sizes."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    return fully_shard(tensor_parallel(model, mesh["tensor"]), mesh=mesh["data"])


def whole_weights(model) -> torch.Tensor:
    """All weights in one vector, the same on every rank."""
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model):
            return torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return torch.cat([p.detach().flatten() for p in whole])
