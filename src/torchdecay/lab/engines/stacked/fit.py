"""Whether trials can be stacked: what is known to go wrong, and then a try."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchdecay.errors import RAISED
from torchdecay.lab.engines.stacked.lanes import Lane
from torchdecay.lab.engines.stacked.lowered import form_of
from torchdecay.lab.engines.stacked.members import NotStackable
from torchdecay.lab.engines.stacked.prepare import Prepared, prepare
from torchdecay.lab.engines.stacked.tensors import Rows, Stack
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.lab.training.trial import Trial
from torchdecay.text import repr_quoted

TRIED_ROWS = 64


def fitted(task: Task, trials: Sequence[Trial]) -> Prepared:
    """The trials ready to be stacked.

    Nothing is guessed: two members are computed together and each alone, on a few rows, and must agree.

    Raises:
        NotStackable: they can't be.
    """
    if task.trunk is not None:
        raise NotStackable("its runs go on from where a training without decay was")
    prepared = prepare(task, trials)
    try_it(task, prepared)
    return prepared


def try_it(task: Task, prepared: Prepared) -> None:
    """Compute and compare; seeds must have data and models of the same shapes."""
    if not prepared.members:
        return
    seeds = list(prepared.models)
    shapes = {_shapes(prepared.data[seed]) for seed in seeds}
    if len(shapes) > 1:
        raise NotStackable("the seeds' data differ in shape")
    if not all(_same_tensors(prepared.models[seed], prepared.models[seeds[0]]) for seed in seeds):
        raise NotStackable("the seeds' models differ in their parameters")
    by_structure = {member.structure: member for member in prepared.members}
    for member in by_structure.values():
        stack = Stack.of([prepared.models[seeds[0]]], [0])
        Lane.of(task, stack, [member], slice(0, 1))
    picked = (seeds * 2)[:2]
    models = [copy.deepcopy(prepared.models[seed]) for seed in picked]
    count = min(TRIED_ROWS, task.batch_size or TRIED_ROWS)
    pairs = [tuple(one[:count] for one in prepared.data[seed].train) for seed in picked]
    with torch.random.fork_rng(devices=[]):
        _compare(task, models, pairs)  # type: ignore[arg-type]


def _compare(task: Task, models: list[nn.Module], pairs: list[tuple[Tensor, Tensor]]) -> None:
    if _draws(models[0], pairs[0][0]):
        # With dropout no two passes agree, so what can be compared is the model without it.
        for model in models:
            model.eval()
    stack = Stack.of(models, [0, 1])
    rows = Rows.of(pairs)
    try:
        grads, outputs = form_of(task, stack, rows, [pairs[0][1]]).gradients(rows)
    except RAISED as error:
        text = str(error).strip().splitlines()
        told = text[0] if text else repr(error)
        raise NotStackable(f"the model can't be run for several members at once: {told}") from error
    for index, (model, (x, y)) in enumerate(zip(models, pairs, strict=True)):
        alone = model(x)
        task.loss(alone, y).backward()  # type: ignore[no-untyped-call]
        own = {name: param.grad for name, param in model.named_parameters() if param.requires_grad}
        for name, grad in zip(stack.names, grads, strict=True):
            if (grad is None) != (own[name] is None):
                raise NotStackable(f"the gradient of {repr_quoted(name)} is there in one way and not in the other")
            if grad is not None:
                _require_equal(f"the gradient of {repr_quoted(name)}", grad[index], own[name])
        _require_equal("the model's output", outputs[index], alone.detach())
        for name, buffer in model.named_buffers():
            _require_equal(f"the buffer {repr_quoted(name)}", stack.buffers[name][index], buffer)


def _require_equal(what: str, together: Tensor, alone: Tensor | None) -> None:
    assert alone is not None
    if together.shape != alone.shape:
        raise NotStackable(f"{what} has another shape when members are computed together")
    wide = torch.float64 if alone.is_floating_point() else alone.dtype
    gap = (together.to(wide) - alone.to(wide)).abs().max().item() if alone.numel() else 0.0
    size = alone.to(wide).abs().max().item() if alone.numel() else 0.0
    if not gap <= 1e-3 * size + 1e-7:
        raise NotStackable(f"{what} differs by {gap:.1e} when members are computed together (its size is {size:.1e})")


def _draws(model: nn.Module, x: Tensor) -> bool:
    """Whether the model draws random numbers while it trains."""
    before = torch.random.get_rng_state()
    with torch.no_grad():
        copy.deepcopy(model)(x)
    return not torch.equal(before, torch.random.get_rng_state())


def _shapes(data: Data) -> str:
    return repr([(part, x.shape, x.dtype, y.shape, y.dtype) for part, (x, y) in data.parts.items()])


def _same_tensors(model: nn.Module, other: nn.Module) -> bool:
    mine, theirs = [
        [(name, one.shape, one.dtype) for name, one in (*each.named_parameters(), *each.named_buffers())]
        for each in (model, other)
    ]
    return mine == theirs
