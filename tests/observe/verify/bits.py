"""Everything that a user's optimizer holds, to the bit and to the object, so that two moments can be compared."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch.optim import optimizer as torch_optimizer

from torchdecay.apply.handle import handle_of

HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


def read(optimizer, scheduler=None):
    """A nested description in which tensors are copies with their addresses, and objects are their ids."""
    found = {
        "attributes": {key: id(value) for key, value in vars(optimizer).items()},
        "hooks": {name: [(key, id(hook)) for key, hook in getattr(optimizer, name).items()] for name in HOOKS},
        "global hooks": [dict(torch_optimizer._global_optimizer_pre_hooks)],
        "groups": [id(group) for group in optimizer.param_groups],
        "values": [[(key, *described(value)) for key, value in group.items()] for group in optimizer.param_groups],
        "defaults": [(key, *described(value)) for key, value in optimizer.defaults.items()],
        "params": [
            (id(param), *tensor(param), described(param.grad), param.requires_grad, sorted(vars(param)))
            for group in optimizer.param_groups
            for param in group["params"]
        ],
        "state": [
            (id(param), id(state), [(key, *described(value)) for key, value in state.items()])
            for param, state in optimizer.state.items()
        ],
        "torch rng": torch.get_rng_state(),
        "python rng": random.getstate(),
        "numpy rng": [described(part) for part in np.random.get_state()],
    }
    handle = handle_of(optimizer)
    if handle is not None:
        found["handle"] = {key: id(value) for key, value in vars(handle).items()}
        engine = handle._engine
        found["engine"] = {key: id(value) for key, value in vars(engine).items()}
        found["steps"] = [(program.state.steps, program.state.max_lr, program.written) for program in engine.programs]
        found["scalars"] = engine.passes.scalars()
        found["references"] = [(name, *described(one)) for name, one in handle.state_dict().items()]
    if scheduler is not None:
        found["scheduler"] = {key: value for key, value in vars(scheduler).items() if not callable(value)}
    return found


def described(value):
    """A tensor by its bits and its place, a list by its items, anything else by value and identity."""
    if isinstance(value, torch.Tensor):
        return (id(value), *tensor(value))
    if isinstance(value, (list, tuple)):
        return (id(value), [described(item) for item in value])
    if isinstance(value, np.ndarray):
        return (value.tobytes(),)
    return (value,)


def tensor(value):
    dense = value.detach().to_dense() if value.is_sparse else value.detach()
    return (dense.clone(), 0 if value.is_sparse else value.data_ptr(), value._version, value.dtype, tuple(value.shape))


def same(left, right, path=""):
    """Where two descriptions differ; empty when they are the same to the bit."""
    if isinstance(left, torch.Tensor):
        return [] if torch.equal(bits(left), bits(right)) else [path]
    if type(left) is not type(right):
        return [path]
    if isinstance(left, dict):
        if list(left) != list(right):
            return [f"{path}: keys"]
        return [one for key in left for one in same(left[key], right[key], f"{path}/{key}")]
    if isinstance(left, (list, tuple)):
        if len(left) != len(right):
            return [f"{path}: length"]
        pairs = enumerate(zip(left, right, strict=True))
        return [one for i, (a, b) in pairs for one in same(a, b, f"{path}/{i}")]
    return [] if left == right or (left != left and right != right) else [f"{path}: {left!r} -> {right!r}"]


def bits(value):
    return value.contiguous().view(torch.uint8) if value.numel() and value.dim() else value
