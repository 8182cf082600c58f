"""How much memory a stack will take, before it takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchdecay.lab.engines.stacked.lanes import state_bytes
from torchdecay.lab.engines.stacked.losses import Losses
from torchdecay.lab.engines.stacked.lowered import CACHE, fits, layers_of
from torchdecay.lab.engines.stacked.members import StackedMember
from torchdecay.lab.engines.stacked.prepare import Prepared
from torchdecay.lab.engines.stacked.tensors import Rows, Stack
from torchdecay.lab.engines.stacked.vmapped import Vmapped
from torchdecay.lab.tasks.task import Task

SHARE = 0.7
"""The part of the available memory that a stack may fill: others want some, and the estimate may be off by half."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a stack in bytes: kept by a member for the whole run, and passing while its step is computed.

    So many are computed `at_once`, where not all are; `available` is on the device, now.
    """

    kept: int
    passing: int
    at_once: int
    available: int

    def total(self, members: int) -> int:
        """Of a stack of so many members."""
        return members * self.kept + min(members, self.at_once) * self.passing

    @property
    def most(self) -> int:
        """How many members fit at once; 0 where not even one does."""
        budget = int(SHARE * self.available)
        some = budget // (self.kept + self.passing)
        return some if some < self.at_once else (budget - self.at_once * self.passing) // self.kept


def estimate(task: Task, prepared: Prepared, *, available: int | None = None) -> MemoryEstimate:
    """The memory of each member of a stack."""
    member = prepared.members[0]
    model, data = prepared.models[member.trial.seed], prepared.data[member.trial.seed]
    stack = Stack.of([model], [0])
    sizes = [stack.params[name].nbytes for name in stack.names]
    weights = sum(param.nbytes for param in stack.params.values())
    buffers = sum(buffer.nbytes for buffer in stack.buffers.values())
    decays = [decay for one in prepared.members for decay in one.decays.values() if decay is not None]
    references = weights if any(decay.reference is not None for decay in decays) else 0
    temporaries = 2 * max(sizes) if not all(decay.is_plain_l2 for decay in decays) else 0
    kept = weights + sum(sizes) + buffers + references + max(state_bytes(task, stack, one) for one in _lanes(prepared))
    x, y = data.train
    batch = min(task.batch_size or len(x), len(x))
    rows = Rows(x[None, :batch], y[None, :batch])
    layers = layers_of(model)
    if layers is not None and fits(layers, stack, rows):
        # Activations of some members at a time, and the gradients of them; the rows of a seed are not copied.
        each = batch * sum(stack.params[layer.weight].shape[1] for layer in layers) * x.itemsize
        passing, at_once = 2 * each, max(1, CACHE * torch.get_num_threads() // each)
    else:
        passing, at_once = _saved_bytes(task, stack, rows), len(prepared.members)
        passing += rows.x.nbytes + rows.y.nbytes if len(prepared.models) > 1 else 0
    device = next(iter(stack.params.values())).device
    free = available_bytes(device) if available is None else available
    return MemoryEstimate(kept, passing + temporaries, at_once, free)


def available_bytes(device: torch.device) -> int:
    """What can still be allocated on a device, as far as the system tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0].isdigit():
        found.append(max(0, int(limit[0]) - int(used[0])))
    # A system that does not tell gets what any machine that runs torch has.
    return min(found, default=2 << 30)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _lanes(prepared: Prepared) -> list[StackedMember]:
    return list({member.structure: member for member in prepared.members}.values())


def _saved_bytes(task: Task, stack: Stack, rows: Rows) -> int:
    """Bytes that the backward pass of a stack of one needs, and those that pass through its layers."""
    seen: dict[int, int] = {}
    own = {tensor.untyped_storage().data_ptr() for tensor in (*stack.params.values(), rows.x, rows.y)}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    # Under vmap, because its rules take layers apart and so keep more than a model alone does.
    form = Vmapped(stack, Losses(task, [rows.y]))
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        form.gradients(rows)
    # The gradients of two neighboring activations live at the same time.
    return sum(seen.values()) + 2 * max(seen.values(), default=0)
