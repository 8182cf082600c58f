"""skorch: a plan as a callback of a net, whose decay a grid search of scikit-learn can choose."""

from __future__ import annotations

from typing import Any

from torch import nn

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.handle import Handle, handle_of
from torchdecay.apply.routes import Via
from torchdecay.errors import need
from torchdecay.integrations.asked import Asked, overruled, refuse_penalties
from torchdecay.plans.decay import Decay
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.policies import STANDARD

need("skorch", "skorch", at_least="1.0")
from skorch.callbacks import Callback  # noqa: E402


class WeightDecay(Callback):  # type: ignore[misc]
    """Carries a plan out on the optimizers of a net, in place of their own `weight_decay`.

    Its arguments are parameters of the net, `callbacks__decay__decay` under the name "decay": scikit-learn searches
    over forms and values alike. A second `fit` begins anew, `partial_fit` goes on, also after a net was copied or
    pickled: steps, peaks, controllers and references come along.

    Args:
        decay: a Decay or a number, planned for the net's module; or a `torchdecay.Plan` of it.
        rules: who decays; `torchdecay.STANDARD` or any rules.
        via: see `torchdecay.attach`, as for the arguments that follow.
        bind: tensors for the names that references and masks go by.
        compile: run what is more than one multiplication through torch.compile.

    Attributes:
        handles_: one `torchdecay.Handle` for each optimizer, once a fit has begun.
        overruled_: which `weight_decay` of the optimizers' own does not count, in a sentence.

    Raises:
        DecayError: when a fit begins, a decay that means nothing.
        ApplyError: when a fit begins, a plan that acts through the loss.

    Example:
        >>> import torch, torchdecay as td
        >>> from skorch import NeuralNetClassifier
        >>> from torchdecay.integrations.skorch import WeightDecay
        >>> net = NeuralNetClassifier(torch.nn.Linear, callbacks=[("decay", WeightDecay(td.decoupled(0.1)))])
        >>> net.set_params(callbacks__decay__decay=td.l1(0.01)).get_params()["callbacks__decay__decay"]
        l1(0.01)
    """

    handles_: list[Handle]

    def __init__(
        self,
        decay: Plan | Decay | float,
        *,
        rules: Any = STANDARD,
        via: Via = "auto",
        bind: Bindings | None = None,
        compile: bool = False,
    ) -> None:
        self.decay, self.rules, self.via, self.bind, self.compile = decay, rules, via, bind, compile

    def initialize(self) -> WeightDecay:
        """Forget the fit before."""
        self._forget()
        self.overruled_ = ""
        self.memory_: list[tuple[Any, Any]] = []
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Attach; to go on, where the optimizers are those of the fit before."""
        optimizers = [getattr(net, f"{name}_") for name in net._optimizers]
        if self.handles_ and all(handle_of(one) in self.handles_ for one in optimizers):
            return
        self._forget()
        asked = Asked(self.decay, self.rules, {"via": self.via, "bind": self.bind, "compile": self.compile})
        model = _module_of(net)
        refuse_penalties(asked.plan(model))
        self.handles_ = asked.attach(optimizers, model)
        if not self.memory_ and (said := overruled(self.handles_)):
            self.overruled_ = said
            if getattr(net, "verbose", 0):
                print(f"WeightDecay: {said}")
        for handle, (references, left) in zip(self.handles_, self.memory_, strict=False):
            handle.load_state_dict(references)
            handle.optimizer.load_state_dict(handle.optimizer.state_dict() | {MARK: left})
        self.memory_ = []

    def _forget(self) -> None:
        for handle in getattr(self, "handles_", ()):
            handle.remove()
        self.handles_ = []

    def __getstate__(self) -> dict[str, Any]:
        # Hooks don't come along, what they remember does.
        left = [(handle.state_dict(), handle.optimizer.state_dict()[MARK]) for handle in getattr(self, "handles_", ())]
        return self.__dict__ | {"handles_": [], "memory_": left or getattr(self, "memory_", [])}


def _module_of(net: Any) -> nn.Module:
    """The net's module; where several of its parts have weights, all of them under their names."""
    parts = {name: getattr(net, f"{name}_") for name in (*net._modules, *net._criteria)}
    held = {
        name: part
        for name, part in parts.items()
        if isinstance(part, nn.Module) and next(part.parameters(), None) is not None
    }
    return next(iter(held.values())) if len(held) == 1 else nn.ModuleDict(held)
