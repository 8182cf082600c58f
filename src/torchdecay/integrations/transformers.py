"""transformers: a Trainer, or one built on it, whose optimizer carries a plan out; and a callback that logs it."""

from __future__ import annotations

import copyreg
import functools
from typing import Any

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.handle import Handle, handle_of
from torchdecay.apply.routes import Via
from torchdecay.apply.state import OnLoad
from torchdecay.arguments import check_count
from torchdecay.errors import ApplyError, need
from torchdecay.integrations.asked import Asked, overruled, refuse_penalties
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.layout import By
from torchdecay.observe.monitor.monitor import Monitor
from torchdecay.observe.monitor.series import Event
from torchdecay.plans.decay import Decay, as_decay
from torchdecay.plans.plan import Plan
from torchdecay.plans.policies import STANDARD
from torchdecay.plans.tree import names_of

need("transformers", "transformers", at_least="4.46")
from transformers import Trainer, TrainerCallback  # noqa: E402
from transformers.trainer_callback import ExportableState  # noqa: E402
from transformers.utils import logging  # noqa: E402

_LOGGER = logging.get_logger("transformers.torchdecay")


class _DecayedClass(type):
    """The class of such classes, by which they are pickled: as the call that makes them."""


def _again(trainer: type) -> Any:
    return decayed(trainer)


copyreg.pickle(_DecayedClass, lambda cls: (_again, (cls.__mro__[2],)))


@functools.cache
def decayed(trainer: Any) -> Any:
    """A Trainer's class whose optimizer carries a plan out.

    Its constructor takes what that of the class takes, and `decay`, `rules`, `via`, `on_load`, `bind` and `compile`,
    which mean what they mean in `torchdecay.attach`. `decay=None` takes `args.weight_decay`, by the rules given;
    beside another decay `args.weight_decay` does not count. Either is said once, as a warning of the log. The
    handle is `trainer.decay_handle`.

    The class is made once for each base, and can be pickled; trainers of TRL and your own are bases too. Checkpoints
    hold the decay's steps, peaks and controllers, and what weights are pulled toward, in optimizer.pt, so that
    `train(resume_from_checkpoint=...)` goes on bit for bit. In a hyperparameter search each trial is attached anew.

    Args:
        trainer: `transformers.Trainer`, or a class that is derived from it.

    Returns:
        The class.

    Raises:
        ApplyError: it is no Trainer; or, when the training begins, a plan that acts through the loss.

    Example:
        >>> import torchdecay as td
        >>> from transformers import Trainer
        >>> from torchdecay.integrations.transformers import decayed
        >>> decayed(Trainer)
        <class 'torchdecay.integrations.transformers.DecayedTrainer'>
    """
    if not (isinstance(trainer, type) and issubclass(trainer, Trainer)):
        raise ApplyError(
            f"{trainer!r} is no class of transformers' Trainers.",
            fix="Write decayed(Trainer)(model, args, decay=...): the class first, then what it is made of.",
        )
    if issubclass(trainer, _Decaying):
        return trainer
    body = {"__module__": __name__, "__qualname__": f"Decayed{trainer.__name__}", "__doc__": _Decaying.__doc__}
    meta = _DecayedClass if type(trainer) is type else type("_DecayedClass", (_DecayedClass, type(trainer)), {})
    return meta(f"Decayed{trainer.__name__}", (_Decaying, trainer), body)


class _Decaying:
    """A Trainer whose optimizer carries a plan out."""

    def __init__(
        self,
        *args: Any,
        decay: Plan | Decay | float | None = None,
        rules: Any = STANDARD,
        via: Via = "auto",
        on_load: OnLoad = "plan",
        bind: Bindings | None = None,
        compile: bool = False,
        **kwargs: Any,
    ) -> None:
        # The Trainer saves and loads the optimizer alone, and the weights before there is a plan.
        options = {"via": via, "on_load": on_load, "bind": bind, "compile": compile, "save_references": True}
        self._asked = Asked(decay, rules, options)
        self.decay_handle: Handle | None = None
        super().__init__(*args, **kwargs)

    def get_decay_parameter_names(self: Any, model: Any) -> list[str]:
        """Those of the plan, so that its decay is the optimizer's own wherever that is the same number."""
        planned, known = self._wanted().plan(model), names_of(model)
        decaying = {row.name for row in planned if row.decay is not None}
        return [name for name, param in model.named_parameters() if known[id(param)] in decaying]

    def create_optimizer(self: Any, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        if self.decay_handle is None or self.decay_handle.optimizer is not getattr(optimizer, "optimizer", optimizer):
            asked, model = self._wanted(), args[0] if args else kwargs.get("model") or self.model
            refuse_penalties(asked.plan(model))
            (self.decay_handle,) = asked.attach([optimizer], model)
            self._say()
        return optimizer

    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, DecayCallback):
                logs.update(callback.take())
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _wanted(self: Any) -> Asked:
        asked: Asked = self._asked
        # 0 is what Trainers are given who say nothing.
        return asked if asked.decay is not None else Asked(self.args.weight_decay or None, asked.rules, asked.options)

    def _say(self: Any) -> None:
        own = self.args.weight_decay
        if self._asked.decay is None:
            _LOGGER.warning_once(f"decay=None takes args.weight_decay={own:g}, by torchdecay's rules.")
        elif own:
            _overrule(self.decay_handle, own)
        elif said := overruled([self.decay_handle]):
            _LOGGER.warning_once(said)


def _overrule(handle: Handle, own: float) -> None:
    """Say once that the argument beside a plan is not what decays."""
    _LOGGER.warning_once(
        f"decay={handle.plan.decay!r} is carried out; args.weight_decay={own:g} beside it does not count."
    )


class DecayCallback(TrainerCallback, ExportableState):
    """Logs what decay does, as "decay/group/quantity", in any Trainer.

    What is recorded: `torchdecay.Monitor`, which this is. In a `decayed` Trainer it goes where the loss goes; in
    another into `state.log_history`, and to the callbacks that come after this one. Alarms are warnings of the log;
    a subclass may have another `on_decay_alarm`.

    Args:
        every_n_steps: steps from record to record; None takes `args.logging_steps`.
        by: what makes a group: "role", "block" or "tensor".
        path: a JSONL file that grows with each record; a run that is resumed appends.

    Attributes:
        history: what was recorded, as a `torchdecay.History`.

    Raises:
        ApplyError: `every_n_steps` is no whole number above 0.

    Example:
        >>> from torchdecay.integrations.transformers import DecayCallback
        >>> DecayCallback(every_n_steps=50).state()["args"]
        {'every_n_steps': 50, 'by': 'role', 'path': None}
    """

    def __init__(self, every_n_steps: int | None = None, by: By = "role", path: str | None = None) -> None:
        if every_n_steps is not None:
            check_count(every_n_steps, "every_n_steps", error=ApplyError)
        named = None if path is None else str(path)
        self._args: dict[str, Any] = {"every_n_steps": every_n_steps, "by": by, "path": named}
        self._monitor: Monitor | None = None
        self._latest: dict[str, float] = {}

    @property
    def history(self) -> History:
        """What was recorded so far."""
        if self._monitor is None:
            raise ApplyError("nothing was recorded yet.", fix="Ask after trainer.train().")
        return self._monitor.history

    def state(self) -> dict[str, Any]:
        """What makes this callback again; the steps taken are the Trainer's."""
        return {"args": self._args, "attributes": {}}

    def take(self) -> dict[str, float]:
        """The last record, once."""
        latest, self._latest = self._latest, {}
        return latest

    def on_decay_alarm(self, event: Event) -> None:
        """Called with each alarm; what it raises stops the training."""
        _LOGGER.warning(str(event))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin: by now the plan is attached, and the checkpoint loaded."""
        # Of an optimizer that the Trainer was given: it has not made the groups, and asks the argument nothing.
        handle, own = handle_of(kwargs["optimizer"]), args.weight_decay
        if handle is not None and own and handle.plan.decay != as_decay(own):
            _overrule(handle, own)
        self._monitor = Monitor(
            kwargs["optimizer"],
            model=kwargs["model"],
            # Below 1 it is a share of the steps of the run.
            every_steps=self._args["every_n_steps"] or max(1, state.logging_steps or int(args.logging_steps)),
            by=self._args["by"],
            path=self._args["path"],
            if_exists="append" if state.global_step else "error",
            start=state.global_step,
            writers=[lambda values, step: self._latest.update({f"decay/{name}": one for name, one in values.items()})],
            on_alarm=self.on_decay_alarm,
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add the last record to what is logged."""
        latest = self.take()
        (logs or {}).update(latest)
        if state.log_history:
            state.log_history[-1].update(latest)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End."""
        if self._monitor is not None:
            self._monitor.close()
