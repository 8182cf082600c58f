"""fastai: an `opt_func` whose optimizer carries a plan out."""

from __future__ import annotations

from functools import partial
from typing import Any

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.handle import Handle
from torchdecay.apply.routes import Via
from torchdecay.apply.state import OnLoad
from torchdecay.errors import ApplyError, need
from torchdecay.integrations.asked import Asked, refuse_penalties
from torchdecay.integrations.script.finding import look_around, model_of
from torchdecay.plans.decay import Decay
from torchdecay.plans.plan import Plan
from torchdecay.plans.policies import STANDARD

need("fastai.optimizer", "fastai", at_least="2.7")
from fastai.optimizer import OptimWrapper  # noqa: E402


def opt_func(
    optimizer: Any,
    decay: Plan | Decay | float,
    *,
    rules: Any = STANDARD,
    via: Via = "auto",
    on_load: OnLoad = "plan",
    bind: Bindings | None = None,
    **options: Any,
) -> Any:
    """An `opt_func` for a Learner: a torch optimizer that carries a plan out.

    The plan is made for the model that has the optimizer's weights, and attached at the first step, after
    `learn.load`. What `learn.unfreeze` frees is planned by the same rules. The plan decides: a `wd` given to `fit`
    is put back with a warning.

    Args:
        optimizer: a torch optimizer's class.
        decay: a Decay or a number; or a `torchdecay.Plan` of the model.
        rules: who decays; `torchdecay.STANDARD` or any rules.
        via: see `torchdecay.attach`, as for the arguments that follow.
        on_load: whose coefficients win when a checkpoint has others.
        bind: tensors for the names that references and masks go by.
        options: of the optimizer: `betas=(0.9, 0.99)`.

    Returns:
        What a Learner takes as its `opt_func`; `learn.opt.decay_handle` is then the `torchdecay.Handle`.

    Raises:
        DecayError: a decay that means nothing.

    Example:
        >>> import torch, torchdecay as td
        >>> from torchdecay.integrations.fastai import opt_func
        >>> weight = torch.nn.Linear(2, 1).weight
        >>> opt_func(torch.optim.AdamW, td.decoupled(0.1))([weight], lr=0.01).hypers[0]["lr"]
        0.01
    """
    asked = Asked(decay, rules, {"via": via, "on_load": on_load, "bind": bind})
    return partial(DecayedWrapper, optimizer=optimizer, asked=asked, **options)


class DecayedWrapper(OptimWrapper):  # type: ignore[misc]
    """fastai's wrapper of a torch optimizer, whose step carries a plan out."""

    def __init__(self, params: Any, *, optimizer: Any, asked: Asked, **options: Any) -> None:
        super().__init__(params, optimizer, **options)
        self.asked, self.decay_handle = asked, None

    decay_handle: Handle | None

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Attach, if that is not done; then step."""
        if self.decay_handle is None:
            model = model_of(self.opt, look_around().modules)
            if model is None:
                raise ApplyError(
                    f"no module is known to own the weights of {type(self.opt).__name__}.",
                    "Who decays is read from the model.",
                    "Train it in a Learner, or attach a plan with torchdecay.attach(optimizer, plan, model=model).",
                )
            refuse_penalties(self.asked.plan(model))
            (self.decay_handle,) = self.asked.attach([self.opt], model)
        self.asked.follow([self.decay_handle])
        return self.opt.step(*args, **kwargs)

    def freeze_to(self, n: int) -> None:
        """Freeze the first groups; what is free now is planned at once, for who looks before the next step."""
        super().freeze_to(n)
        if self.decay_handle is not None:
            self.asked.follow([self.decay_handle])
