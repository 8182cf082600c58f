"""`Monitor`: record what decay does to a model while it trains."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from torchdecay._version import __version__
from torchdecay.apply.handle import handle_of
from torchdecay.apply.ranks import in_turn, meet
from torchdecay.arguments import check_count
from torchdecay.errors import ApplyError
from torchdecay.findings.choosing import Ignore
from torchdecay.findings.rule import Severity
from torchdecay.observe.groups import as_number, optimizers_of
from torchdecay.observe.monitor.alarms import no_steps
from torchdecay.observe.monitor.history import History
from torchdecay.observe.monitor.jsonl import Head
from torchdecay.observe.monitor.layout import By
from torchdecay.observe.monitor.meant import Meant
from torchdecay.observe.monitor.outlets import Guard, Told
from torchdecay.observe.monitor.series import Event
from torchdecay.observe.monitor.store import Store
from torchdecay.observe.monitor.watched import Settings, Watched
from torchdecay.optimizers.wrappers import torch_optimizer
from torchdecay.plans.plan import Plan
from torchdecay.plans.tree import ModelLike, one_model

LEAST_SAMPLE = 256


class Monitor:
    r"""Record every so many steps what decay does, beside what it should do, and raise an alarm where they differ.

    With the weights θ, the decay's displacement d and the update's −u in one step, a record holds of each group
    ‖θ‖, ‖g‖, ‖d‖, ‖u‖, the cosine of d and −u, the rotation of each tensor, and the shrink, planned and realized:

    $$f_\text{planned} = c_t\lambda_t, \qquad
    f_\text{realized} = -\frac{\langle d, \theta\rangle}{\lVert\theta\rVert^2}$$

    d is measured around its own pass where `td.attach` makes one; where a fused kernel does both, it is the whole
    displacement less the update, which the optimizer's state tells; else it is taken as planned, and
    `history.of(group).source` says so. `td.verify` measures on small tensors and at once what this sees in the
    training itself. What is recorded: `History` and its `quantities`.

    Between records there is a counter, which reads nothing from the device. On a step with a record samples of the
    weights are kept until it is over. A step that a gradient scaler skips is none, as is one at learning rate 0.

    Args:
        optimizer: a torch optimizer, with an attached plan or without; or a list of them.
        every_steps: how many steps from record to record, at least 1; the first step has one too.
        path: a JSONL file that grows with each record; "run.jsonl".
        by: what makes a group: "role", "block" (a layer), "tensor", or a function from a parameter's name to a label.
            Weights with another decay are a group of their own always.
        plan: what should happen, where no plan is attached and the groups' own weight_decay is not it.
        model: for names, where the groups have no `param_names`; several models in a list or dict.
        writers: called with ({"group/quantity": number}, step) for each record: TensorBoard, WandB, MLflow, Comet
            and CSV of `torchdecay.integrations`, or any function; one that has a method `alarm` gets the alarms too.
        on_alarm: called with each `Event`, once for all groups of one step and kind; what it raises stops the training.
            Of several processes the first calls it, as it alone writes.
        on_every_rank: whether all of them call it: where it stops the training, say, and the others would wait.
        sample: about how many elements of each tensor displacements are measured on, at least 256; None is all.
            Norms are those of whole tensors always.
        if_exists: what to do where the file is there: "error", "append" (go on after its last step) or "replace".
        start: how many steps were taken before, for a run that goes on; "auto" asks the attached plan or the
            optimizer's state, and takes records of later steps, which are taken again, out of a file that it goes on.
        strict: whether a file or a writer that fails, or a step that can't be measured, stops the training. Else there
            is one warning, records are kept in memory, and what failed is tried again; a writer that fails three
            times in a row is left out.
        on_error: called in place of that warning, with what failed and the exception.
        ignore: codes or prefixes of alarms that are not raised; or for each globs of groups that are meant so,
            {"WD605": ["norm*"]}.
        severity: code or prefix → "error", "warning" or "info", in place of the catalog's.

    Attributes:
        history: what was recorded so far, as a `History`.

    Raises:
        ApplyError: something that is no torch optimizer, or a number outside its range; or other processes that have
            parts of the weights have made no monitor in two minutes: all of them measure.
        PlanError: an unknown code or severity.
        LoadError: the file is there already, is no history, or can't be written; on every process then.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.5)
        >>> with td.Monitor(optimizer, model=model, on_alarm=lambda event: print(event.kind, event.groups)) as monitor:
        ...     model(torch.randn(8, 4)).square().mean().backward()
        ...     optimizer.step()
        dominates ('weight', 'bias')
    """

    def __init__(
        self,
        optimizer: Optimizer | Iterable[Optimizer],
        *,
        every_steps: int = 100,
        path: str | Path | None = None,
        by: By | Callable[[str], str] = "role",
        plan: Plan | None = None,
        model: ModelLike = None,
        writers: Sequence[Callable[[Mapping[str, float], int], Any]] = (),
        on_alarm: Callable[[Event], Any] | None = None,
        on_every_rank: bool = False,
        sample: int | None = 65_536,
        if_exists: Literal["error", "append", "replace"] = "error",
        start: int | Literal["auto"] = 0,
        strict: bool = False,
        on_error: Told | None = None,
        ignore: Ignore = (),
        severity: Mapping[str, Severity] | None = None,
    ) -> None:
        check_count(every_steps, "every_steps")
        begins = 0 if start == "auto" else check_count(start, "start", minimum=0)
        if sample is not None:
            check_count(sample, "sample", minimum=LEAST_SAMPLE)
        if if_exists not in ("error", "append", "replace"):
            raise ApplyError(f"if_exists is {if_exists!r}.", fix='Write "error", "append" or "replace".')
        self.every_steps = every_steps
        settings = Settings(every_steps, by, plan, one_model(model), sample)
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        # Of processes that train together one writes; all of them measure, for sums go over all.
        leads = alone or torch.distributed.get_rank() == 0
        versions = {"torchdecay": __version__, "torch": str(torch.__version__)}
        optimizers = [torch_optimizer(one) for one in optimizers_of(optimizer)]
        about = _about(optimizers, settings.model, path)
        head = Head(every_steps, datetime.now(timezone.utc).isoformat(timespec="seconds"), versions, about)
        guard = partial(Guard, strict=strict, on_error=on_error)
        hears = on_alarm if leads or on_every_rank else None
        self._store = Store(head, guard, Meant(ignore, severity or {}), hears)
        measuring = guard("measuring a step", "That step has no record.")
        named = [f"{type(one).__name__} {i}, " if len(optimizers) > 1 else "" for i, one in enumerate(optimizers, 1)]
        # Without anybody to tell, what on_alarm raises stops the training, which is what it may be for.
        self._watched = [
            Watched(one, settings, self._store, measuring, prefix, raises=on_error is None)
            for one, prefix in zip(optimizers, named, strict=True)
        ]
        if start == "auto":
            begins = max(map(_steps_taken, optimizers))
        meet("td.Monitor", (member.param for one in self._watched for member in one.members))
        if path is not None:
            opened = partial(self._store.opened, Path(path), if_exists, begins, again=start == "auto", leads=leads)
            file, begins = in_turn(f"td.Monitor on {path}", opened, leads=leads)
            if file is not None:
                self._store.write_to(file, path)
        for writer in writers if leads else ():
            self._store.call(writer)
        self._store.send()
        for one in self._watched:
            one.owner = self
            one.begin(begins)

    @property
    def history(self) -> History:
        """What was recorded so far."""
        return self._store.recorded()

    @property
    def recorded(self) -> Callable[[], History]:
        """Asks for `history` later, and keeps nothing else of the monitor alive until then: no weights, no hooks."""
        return self._store.recorded

    @property
    def steps(self) -> int:
        """Steps taken so far, of the optimizer that took most; asks the device whether any were skipped."""
        return max(one.steps for one in self._watched)

    def record_next(self) -> None:
        """Record the next step too, whatever its number: the last one of a run, say."""
        for one in self._watched:
            one.record_next()

    def close(self) -> None:
        """Stop: hooks gone, files closed. Calling it twice is fine."""
        idle = [type(one.optimizer).__name__ for one in self._watched if one.end()]
        for name in idle:
            self._store.alarm(no_steps(name))
        self._store.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Monitor, every {self.every_steps} steps: {self.history!r}>"


def _steps_taken(optimizer: Optimizer) -> int:
    """By the plan that is attached, else by what the optimizer has counted; 0 where nobody has."""
    handle = handle_of(optimizer)
    if handle is not None:
        return max(map(handle.steps, range(len(optimizer.param_groups))), default=0)
    counts = [as_number(state.get("step")) for state in optimizer.state.values() if isinstance(state, Mapping)]
    return int(max((count for count in counts if count is not None), default=0))


def _about(optimizers: Sequence[Optimizer], model: nn.Module | None, path: str | Path | None) -> dict[str, str]:
    """What is recorded, in words, as far as it is known."""
    script = Path(sys.argv[0] if sys.argv else "")
    known = {
        "optimizer": " and ".join(type(one).__name__ for one in optimizers),
        "model": "" if model is None else type(model).__name__,
        "command": shlex.join([script.name, *sys.argv[1:]]) if script.suffix == ".py" else "",
        "file": "" if path is None else str(path),
    }
    return {name: value for name, value in known.items() if value}
