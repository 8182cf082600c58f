"""How much memory a stack will take, before it takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchdecay.lab.stacked.lanes import state_bytes
from torchdecay.lab.stacked.lowered import CACHE, fits, layers_of
from torchdecay.lab.stacked.members import Member
from torchdecay.lab.stacked.prepare import Prepared
from torchdecay.lab.stacked.tensors import Rows, Stack
from torchdecay.lab.task import Task

SHARE = 0.7
"""The part of the available memory that a stack may fill: others want some, and the forecast may be off by half."""


@dataclass(frozen=True)
class Forecast:
    """Memory of a stack in bytes.

    Attributes:
        kept: of one member, for the whole run: weights, gradients, optimizer state, references.
        passing: of one member, while a step or a measurement runs: activations, rows, temporaries.
        shared: whatever the number of members.
        available: on the device, now.
    """

    kept: int
    passing: int
    shared: int
    available: int

    def total(self, members: int) -> int:
        """Of a stack of so many members."""
        return members * (self.kept + self.passing) + self.shared

    @property
    def most(self) -> int:
        """How many members fit at once; at least 1, because less can't be tried."""
        return max(1, int((SHARE * self.available - self.shared) // (self.kept + self.passing)))


def forecast(task: Task, prepared: Prepared, *, available: int | None = None) -> Forecast:
    """The memory of each member of a stack.

    Args:
        task: what is trained.
        prepared: the trials, at least one of which can begin.
        available: bytes; None asks the device.
    """
    member = prepared.members[0]
    model, data = prepared.models[member.trial.seed], prepared.data[member.trial.seed]
    stack = Stack.of([model], [0])
    weights = sum(param.numel() * param.itemsize for param in stack.params.values())
    trained = sum(stack.params[name].numel() * stack.params[name].itemsize for name in stack.names)
    largest = max(stack.params[name].numel() * stack.params[name].itemsize for name in stack.names)
    buffers = sum(buffer.numel() * buffer.itemsize for buffer in stack.buffers.values())
    decays = [decay for one in prepared.members for decay in one.decays.values() if decay is not None]
    references = weights if any(decay.reference is not None for decay in decays) else 0
    temporaries = 2 * largest if not all(decay.is_plain_l2 for decay in decays) else 0
    kept = weights + trained + buffers + references + max(state_bytes(task, stack, one) for one in _lanes(prepared))
    x, y = data.train
    batch = min(task.batch_size or len(x), len(x))
    rows = Rows(x[None, :batch], y[None, :batch])
    layers = layers_of(model)
    if layers is not None and fits(layers, stack, rows):
        # Its activations share room that is as large as the cache, or one member's.
        activations = 0
        widths = sum(stack.params[layer.weight].shape[1] for layer in layers)
        shared = 2 * max(CACHE * torch.get_num_threads(), batch * widths * stack.params[stack.names[0]].itemsize)
    else:
        activations, shared = _saved_bytes(task, stack, rows), 0
        activations += _bytes_of(rows.x) + _bytes_of(rows.y) if len(prepared.models) > 1 else 0
    device = next(iter(stack.params.values())).device
    return Forecast(
        kept,
        activations + temporaries,
        shared,
        available_bytes(device) if available is None else available,
    )


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


def _lanes(prepared: Prepared) -> list[Member]:
    return list({member.structure: member for member in prepared.members}.values())


def _saved_bytes(task: Task, stack: Stack, rows: Rows) -> int:
    """Bytes that one member's backward pass needs, and those that pass through its layers."""
    seen: dict[int, int] = {}
    own = {param.untyped_storage().data_ptr() for param in stack.model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = task.loss(stack.model(rows.x[0]), rows.y[0])
    # The gradients of two neighboring activations live at the same time.
    total = sum(seen.values()) + 2 * max(seen.values(), default=0)
    del loss
    return total


def _bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.itemsize
