"""`Function`: a function that trains, in any way, and returns the metric."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torchdecay.errors import TaskError
from torchdecay.lab.jobs.current import Current, under
from torchdecay.lab.jobs.job import Job, Report, RunFailed, Setting, Slot


@dataclass(frozen=True)
class Function(Job):
    """A function that trains and returns the metric.

    Args:
        function: called as function(decay, seed=..., lr_scale=..., report=...). decay is a `Decay` for `td.plan`, or
            None for the run without; report(step, metric) tells how it goes, and is what halving looks at.

    Raises:
        TaskError: it takes other arguments.

    Example:
        >>> def parabola(decay, *, seed, lr_scale, report):
        ...     return (0 if decay is None else decay.coefficient - 1) ** 2
        >>> Function(parabola).name
        'parabola'
    """

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            inspect.signature(self.function).bind(None, seed=0, lr_scale=1.0, report=None)
        except TypeError as error:
            raise TaskError(
                f"the function {self.metric_name} can't be called as a sweep does: {error}.",
                "It is given the decay of a run, its seed, a multiplier of the learning rate, and whom to tell.",
                "Write def train(decay, *, seed, lr_scale, report), and let it return the metric.",
            ) from error
        except ValueError:
            # A function of C says nothing of its arguments.
            pass

    @property
    def name(self) -> str:
        """The function's name, as far as files can have it."""
        return "".join(sign if sign.isalnum() else "_" for sign in self.metric_name).strip("_") or "function"

    @property
    def metric_name(self) -> str:
        """The function's name: what it returns has no other."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    @property
    def facts(self) -> Mapping[str, str]:
        """Which function."""
        return {"function": self._where, "metric": f"what it returns; {'more' if self.maximize else 'less'} is better"}

    @property
    def identity(self) -> Mapping[str, str]:
        """The function's name, as what is computed inside of functions goes by name."""
        return {"function": self._where}

    @property
    def _where(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"{getattr(self.function, '__module__', '')}:{name}"

    def run(self, setting: Setting, report: Report, slot: Slot) -> float:
        """Call it once.

        Raises:
            RunFailed: it returned something else than a number.
            Exception: whatever it raises.
        """
        told: list[float] = []

        def tell(step: float, metric: float) -> None:
            told.append(_number(metric, f"report({step!r}, ...) of {self.metric_name} was given"))
            report(step, told[-1])

        with under(Current(value=setting.value, seed=setting.seed)):
            returned = self.function(setting.decay, seed=setting.seed, lr_scale=setting.lr_scale, report=tell)
        if returned is None:
            raise RunFailed(f"{self.metric_name} returned None: let it return the metric, a number.")
        return _number(returned, f"{self.metric_name} returned")


def _number(value: Any, who: str) -> float:
    """A number, also one of numpy's or a tensor's, NaN and infinities among them."""
    try:
        if isinstance(value, (str, bytes, bool)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RunFailed(f"{who} {value!r:.80}, of type {type(value).__name__}: a metric is a number.") from error
