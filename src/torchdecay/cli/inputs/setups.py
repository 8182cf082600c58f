"""An optimizer, and what belongs to it, from what people type: `module:name`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torchdecay.errors import PlanError, TaskError
from torchdecay.optimizers.wrappers import is_optimizer
from torchdecay.text import an, listed, nearest

KEYS = ("optimizer", "model", "plan", "run", "loss")
_SPOKEN = {"model": "torch.nn.Module", "plan": "td.Plan", "run": "td.Run", "loss": "tensor"}


def load_setup(target: str) -> dict[str, Any]:
    """What the function `module:name` returns, as keywords: an optimizer, `(optimizer, model)`, or a dict of `KEYS`.

    The two of a pair may come in either order.
    """
    from torchdecay.lab.tasks.custom import call, load

    found = load(target, "optimizer")
    made = call(found, target, "optimizer") if callable(found) and not _is_optimizer(found) else found
    if _is_optimizer(made):
        return {"optimizer": made}
    if isinstance(made, tuple) and len(made) == 2:
        first, second = made if _is_optimizer(made[0]) else reversed(made)
        made = {"optimizer": first, "model": second} if _is_optimizer(first) else made
    if isinstance(made, Mapping) and "optimizer" in made:
        unknown = [str(key) for key in made if key not in KEYS]
        if unknown:
            raise TaskError(f"{target} returns a dict with {listed(unknown)}.", fix=nearest(unknown[0], KEYS))
        _require_types(target, made)
        return dict(made)
    raise TaskError(
        f"{target} gives {an(type(made).__name__)}, not an optimizer.",
        fix="Return the optimizer (or a list of them), (optimizer, model), or a dict with optimizer and any of "
        "model, plan, run, loss.",
    )


def _require_types(target: str, setup: Mapping[str, Any]) -> None:
    from torch import Tensor

    from torchdecay.observe.run import Run
    from torchdecay.plans.plan import Plan
    from torchdecay.plans.tree import one_model

    for key, kind in (("model", None), ("plan", Plan), ("run", Run), ("loss", Tensor)):
        value = setup.get(key)
        try:
            fits = one_model(value) is not None if kind is None else isinstance(value, kind)
        except PlanError:
            fits = False
        if value is not None and not fits:
            raise TaskError(f"{target} gives {an(type(value).__name__)} as {key}.", fix=f"Give a {_SPOKEN[key]}.")


def _is_optimizer(value: Any) -> bool:
    several = value if isinstance(value, (list, tuple)) and value else [value]
    return all(is_optimizer(one) for one in several)


def model_beside(target: str, optimizer: Any) -> tuple[str, Any] | None:
    """The model in the module of `module:name` whose parameters the optimizer has, and what it is called there."""
    from torch import nn

    from torchdecay.lab.tasks.custom import module_of
    from torchdecay.observe.groups import optimizers_of

    held = {id(param) for one in optimizers_of(optimizer) for group in one.param_groups for param in group["params"]}
    module = module_of(target)
    names = vars(sys.modules[module])
    models = [name for name, value in names.items() if isinstance(value, nn.Module)]
    models = [name for name in models if not held.isdisjoint(map(id, names[name].parameters()))]
    best = max(models, key=lambda name: (name == "model", len(list(names[name].parameters()))), default=None)
    return None if best is None else (f"{module}.{best}", names[best])
