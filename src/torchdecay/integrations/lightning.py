"""Lightning: a plan, and a monitor, as callbacks of the Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torchdecay.apply.bindings import Bindings
from torchdecay.apply.handle import Handle
from torchdecay.apply.routes import Via
from torchdecay.apply.state import OnLoad
from torchdecay.arguments import check_count
from torchdecay.errors import ApplyError, need
from torchdecay.integrations.asked import Asked, overruled
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.layout import By
from torchdecay.observe.monitor.monitor import Monitor
from torchdecay.observe.monitor.series import Event
from torchdecay.plans.decay import Decay
from torchdecay.plans.plan import Plan
from torchdecay.plans.policies import STANDARD

need("lightning.pytorch", "lightning", at_least="2.4")
from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn  # noqa: E402


class WeightDecay(Callback):
    """Carries a plan out on every optimizer of a fit, in place of their own `weight_decay`.

    Attached in `on_fit_start`: after `configure_optimizers`, before a checkpoint's optimizers are loaded, so that
    counters and peaks come back with them. Weights that are pulled toward "initial" or an average are kept in the
    state of this callback. What a callback unfreezes later is planned by the same rules.

    Args:
        decay: a Decay or a number, planned for the LightningModule; or a `torchdecay.Plan` of it.
        rules: who decays; `torchdecay.STANDARD` or any rules.
        via: see `torchdecay.attach`, as for the arguments that follow.
        on_load: whose coefficients win when a checkpoint has others.
        bind: tensors for the names that references and masks go by.
        compile: run what is more than one multiplication through torch.compile.

    Attributes:
        handles: one `torchdecay.Handle` for each optimizer, once a fit has begun.

    Raises:
        DecayError: a decay that means nothing.
        MissingExtra: Lightning is not installed, or is older than 2.4.

    Example:
        >>> import torchdecay as td
        >>> from lightning.pytorch import Trainer
        >>> from torchdecay.integrations.lightning import WeightDecay
        >>> trainer = Trainer(callbacks=[WeightDecay(td.cautious(0.1))], logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        decay: Plan | Decay | float,
        *,
        rules: Any = STANDARD,
        via: Via = "auto",
        on_load: OnLoad = "plan",
        bind: Bindings | None = None,
        compile: bool = False,
    ) -> None:
        self._asked = Asked(decay, rules, {"via": via, "on_load": on_load, "bind": bind, "compile": compile})
        self.handles: list[Handle] = []
        self._references: list[Mapping[str, Any]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach."""
        self._remove()
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        self.handles = self._asked.attach(trainer.optimizers, pl_module, schedulers)
        self._resume()
        if said := overruled(self.handles):
            rank_zero_info(f"WeightDecay: {said}")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Follow what other callbacks have unfrozen."""
        self._asked.follow(self.handles)

    def state_dict(self) -> dict[str, Any]:
        """What the weights are pulled toward, where only this run knows it."""
        return {"references": [handle.state_dict() for handle in self.handles] or self._references}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what they were pulled toward in the run that goes on."""
        self._references = state_dict["references"]
        self._resume()

    def _resume(self) -> None:
        # Lightning loads callbacks before on_fit_start, or with sharded strategies after it.
        if self.handles and self._references:
            if len(self._references) != len(self.handles):
                raise ApplyError(
                    f"the checkpoint has decay for {len(self._references)} optimizers; here are {len(self.handles)}.",
                    fix="Return the optimizers from configure_optimizers that the checkpoint was written with.",
                )
            for handle, state in zip(self.handles, self._references, strict=True):
                handle.load_state_dict(state)
            self._references = []

    def _remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def __getstate__(self) -> dict[str, Any]:
        # What is sent to other processes, or copied, begins there with a fit of its own.
        return self.__dict__ | {"handles": []}


class DecayMonitor(Callback):
    """Logs what decay does, as "decay/group/quantity", through the loggers of the Trainer.

    What is recorded: `torchdecay.Monitor`, which this is. Alarms are warnings.

    Args:
        every_n_steps: steps of an optimizer from record to record.
        by: what makes a group: "role", "block", "tensor", or a function from a parameter's name to a label.
        path: a JSONL file that grows with each record.
        if_exists: what to do where that file is there: "error", "append" or "replace"; a fit that is resumed appends.
        on_alarm: called with each event in place of the warning; what it raises stops the training.
        sample: about how many elements of each tensor displacements are measured on; None is all.

    Attributes:
        history: what was recorded, as a `torchdecay.History`.
        monitor: the `torchdecay.Monitor` of the fit, None before it.

    Raises:
        ApplyError: `every_n_steps` is no whole number above 0.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from torchdecay.integrations.lightning import DecayMonitor
        >>> trainer = Trainer(callbacks=[DecayMonitor(every_n_steps=50)], logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        *,
        every_n_steps: int = 50,
        by: By | Callable[[str], str] = "role",
        path: str | Path | None = None,
        if_exists: Literal["error", "append", "replace"] = "error",
        on_alarm: Callable[[Event], Any] | None = None,
        sample: int | None = 65_536,
    ) -> None:
        self.monitor: Monitor | None = None
        self._start = 0
        self._if_exists = if_exists
        check_count(every_n_steps, "every_n_steps", error=ApplyError)
        self._settings: dict[str, Any] = {"every_steps": every_n_steps, "by": by, "path": path, "sample": sample}
        self._on_alarm = on_alarm or _warn

    @property
    def history(self) -> History:
        """What was recorded so far."""
        if self.monitor is None:
            raise ApplyError("nothing was recorded yet.", fix="Ask after trainer.fit(...).")
        return self.monitor.history

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin: by now plans are attached, and checkpoints loaded."""

        def log(values: Mapping[str, float], step: int) -> None:
            # The step that self.log has, so that all curves share an axis.
            taken = trainer.fit_loop.epoch_loop._batches_that_stepped
            for logger in trainer.loggers:
                logger.log_metrics({f"decay/{name}": value for name, value in values.items()}, step=taken)

        self.monitor = Monitor(
            trainer.optimizers, model=pl_module, writers=[log], on_alarm=self._on_alarm, start=self._start,
            if_exists="append" if self._start else self._if_exists, **self._settings,
        )  # fmt: skip

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End, with what was recorded kept."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """How many steps were taken."""
        return {"steps": self._start if self.monitor is None else self.monitor.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._start = state_dict["steps"]

    def _close(self) -> None:
        if self.monitor is not None:
            self._start = self.monitor.steps
            self.monitor.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"monitor": None}


def _warn(event: Event) -> None:
    # A function of the module, because callbacks are pickled.
    rank_zero_warn(str(event))
