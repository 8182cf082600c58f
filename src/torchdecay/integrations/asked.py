"""What users of a framework ask of decay, in one line: who, how and how hard; and how it is attached there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from torchdecay.apply.attach import attach
from torchdecay.apply.handle import Handle
from torchdecay.errors import ApplyError, PlanError
from torchdecay.plans.decay import Decay, Site, as_decay
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan
from torchdecay.plans.policies import STANDARD
from torchdecay.text import listed, listing


@dataclass(frozen=True)
class Asked:
    """A decay and who gets it, or a plan; checked when it is said, planned when the model is there.

    Raises:
        DecayError: a decay that means nothing.
        PlanError: rules beside a plan, which has its own.
    """

    decay: Plan | Decay | float | None
    rules: Any = STANDARD
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `torchdecay.attach`."""

    def __post_init__(self) -> None:
        if not isinstance(self.decay, Plan):
            as_decay(self.decay)
        elif self.rules is not STANDARD:
            raise PlanError(
                "there are rules beside a plan.",
                "A plan was made by rules of its own.",
                "Give them to torchdecay.plan(model, decay, rules=...), or give the decay here in place of the plan.",
            )

    def plan(self, model: nn.Module) -> Plan:
        """The plan for this model."""
        return self.decay if isinstance(self.decay, Plan) else plan(model, self.decay, rules=self.rules)

    def attach(self, optimizers: Iterable[Optimizer], model: nn.Module, schedulers: Iterable[Any] = ()) -> list[Handle]:
        """Carry the plan out on each optimizer that has some of its parameters, or on none."""
        planned = self.plan(model)
        paced = {id(one.optimizer): one for one in schedulers if hasattr(one, "optimizer")}
        handles: list[Handle] = []
        try:
            for optimizer in optimizers:
                scheduler = paced.get(id(optimizer))
                handles.append(attach(optimizer, planned, model=model, scheduler=scheduler, **self.options))
        except Exception:
            for handle in handles:
                handle.remove()
            raise
        return handles

    def follow(self, handles: Iterable[Handle]) -> None:
        """Plan anew where parameters were unfrozen or added since, by the same rules; a plan that was given stays."""
        for handle in handles:
            if not isinstance(self.decay, Plan) and handle.model is not None and handle.is_outdated():
                handle.update(self.plan(handle.model))


def overruled(handles: Iterable[Handle]) -> str:
    """Which weight_decay of the optimizers' own a plan has replaced, in a sentence; "" where there was none."""
    found = {}
    for handle in handles:
        for group in handle.lowering.groups:
            stood, now = group.replaces, handle.optimizer.param_groups[group.index].get("weight_decay")
            if stood and stood != now:
                found[f"weight_decay={float(stood):g} of {type(handle.optimizer).__name__}"] = handle.plan.decay
    if not found:
        return ""
    wins = next(iter(found.values()))
    return f"the plan decides, {wins!r} by its rules: {listing(list(found))} does not count while it is attached."


def refuse_penalties(planned: Plan) -> None:
    """Refuse what decays through the loss, where the loss is another's."""
    if penalties := [row.name for row in planned if row.decay is not None and row.decay.site is Site.LOSS]:
        raise ApplyError(
            f"{listed(penalties)} would decay through the loss, which is made elsewhere.",
            "A penalty that nobody adds to the loss does nothing.",
            "Give a decay that enters the step, decoupled:0.1 say.",
        )
