"""`watch`: what `torchdecay run` sees of a script, for any code in Python."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from torchdecay.arguments import check_count, check_word
from torchdecay.errors import ApplyError
from torchdecay.integrations.script.applying import check
from torchdecay.integrations.script.options import Options, is_disabled
from torchdecay.integrations.script.session import Session
from torchdecay.observe.recorded.record import RunRecord, RunSummary


class Watching:
    """Made by `torchdecay.watch`: a context manager, and what was seen until now.

    Attributes:
        record: for each optimizer that took a step in it plan, audit, forecast and history, as a `RunRecord`.
        folder: where its files are; None where nothing is written.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._session: Session | None = None
        self._hooks: list[RemovableHandle] = []

    @property
    def record(self) -> RunRecord:
        """What was seen until now."""
        return RunRecord(RunSummary()) if self._session is None else self._session.record()

    @property
    def folder(self) -> Path | None:
        """Where the page is."""
        return None if self._session is None else self._session.folder

    def __enter__(self) -> Watching:
        if self._hooks:
            raise ApplyError("this watch is open already.", fix="Call td.watch again for another one.")
        if not is_disabled(os.environ):
            session = self._session = Session(self._options)
            self._hooks = [
                register_optimizer_step_pre_hook(session.before),
                register_optimizer_step_post_hook(session.after),
            ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._session is not None:
            self._session.end()


def watch(
    out: str | Path | None = None,
    *,
    every_steps: int = 100,
    by: str = "role",
    steps: int | None = None,
    apply: str = "",
    rules: str = "standard",
    quiet: bool = True,
    overwrite: bool = False,
) -> Watching:
    """See what decay does in any code: every torch optimizer that steps inside is audited, forecast and monitored.

    What `torchdecay run` is for a script. Whatever goes wrong in it is a note in the record, and the code goes on.
    With TORCHDECAY_DISABLE=1 it does nothing.

    Args:
        out: a folder for the page and its files; where it is there already, out-2. None writes nothing.
        every_steps: how many steps from record to record; 0 for no records.
        by: what makes a group: "role", "block" or "tensor".
        steps: how long the training is, where no schedule says so.
        apply: another decay, which each optimizer gets before its first step, as typed: "decoupled:0.1", "none", or the
            path of a plan that was saved, "plan.json". It stays attached.
        rules: who decays then, by the name of a policy.
        quiet: whether nothing is said on stderr.
        overwrite: whether a folder that an earlier run wrote is replaced.

    Returns:
        A context manager with `record` and `folder`.

    Raises:
        DecayError: a decay that means nothing.
        PlanError: unknown rules.
        LoadError: a file that is no plan.
        ApplyError: a count below 0, groups of no known kind, or rules without a decay that they are for.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Linear(4, 2)
        >>> with td.watch() as seen:
        ...     optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
        ...     model(torch.randn(8, 4)).square().mean().backward()
        ...     optimizer.step()
        >>> seen.record.summary.optimizers[0].model, seen.record.seen[0].audit.codes
        ('Linear', ('WD101',))
    """
    check_count(every_steps, "every_steps", minimum=0, error=ApplyError)
    check_count(steps or 0, "steps", minimum=0, error=ApplyError)
    check_word(by, "by", ("role", "block", "tensor"), error=ApplyError)
    given: dict[str, Any] = {"every": every_steps, "by": by, "rules": rules, "quiet": quiet, "overwrite": overwrite}
    options = Options(out="" if out is None else str(Path(out).absolute()), steps=steps or 0, apply=apply, **given)
    check(options)
    if not apply and rules != Options().rules:
        raise ApplyError(
            f"rules is {rules!r}, and apply is not there.", "Rules say who gets it.", 'Give apply="decoupled:0.1", say.'
        )
    return Watching(options)
