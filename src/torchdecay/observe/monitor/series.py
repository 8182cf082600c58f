"""What a history is made of: groups of weights, records of them, alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torchdecay.findings.finding import Finding
from torchdecay.findings.rule import Severity
from torchdecay.observe.monitor.catalog import ALARMS, CODES
from torchdecay.observe.monitor.columns import unpacked
from torchdecay.observe.monitor.momentum import Carrying
from torchdecay.text import listing

Source = Literal["pass", "state", "shadow", "planned", "none"]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One group of weights that is recorded together: a role, a block, or one tensor.

    Attributes:
        name: what it is called.
        role: what its tensors are for, "" where that is not known.
        decay: what pulls them, as it prints; "" for none.
        source: how the decay's displacement is known: "pass" (measured around its own pass), "state" (the whole
            displacement less the update, which the optimizer's state tells), "shadow" (the difference of two steps of
            its own rule on copies, with decay and without), "planned" (not measured), "none" (nothing pulls, and
            nobody can see whether something does).
        carried: whether momentum has decay of earlier steps in it: "" (no, or it is measured with the rest),
            "followed" (measured too), "unknown" (of this decay only what it takes at once is measured).
        unplanned: why nobody can tell what its decay takes, "" where that is planned.
        dtype: of the weights.
        names: its tensors.
        num_elements: how many weights.
    """

    name: str
    role: str = ""
    decay: str = ""
    source: Source = "none"
    carried: Carrying = ""
    unplanned: str = ""
    dtype: str = ""
    names: tuple[str, ...] = ()
    num_elements: int = 0

    @property
    def is_rounded(self) -> bool:
        """Whether rounding of the updates is in what is measured: decay of low-precision weights, not by itself."""
        return bool(self.decay) and self.source in ("state", "shadow") and self.dtype in ("bfloat16", "float16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What was measured at one step, for consecutive groups of `History.series`.

    Attributes:
        step: which step, counted from 1; those that were skipped do not count.
        first: place of the first group in `History.series`.
        columns: quantity → numbers of float32, one per group; what is not known is NaN.
        unmeasured: group → why the decay of none of its weights could be measured at this step, where that was tried.
    """

    step: int
    first: int
    columns: Mapping[str, bytes] = field(repr=False)
    unmeasured: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), b"")) // 4

    def __getitem__(self, quantity: str) -> Sequence[float]:
        return unpacked(self.columns[quantity])

    def __contains__(self, quantity: str) -> bool:
        return quantity in self.columns


@dataclass(frozen=True, kw_only=True)
class Event:
    """An alarm: something that decay should not do.

    Attributes:
        step: when it was seen.
        kind: "not attached", "lost", "differs", "rounded away", "grows", "not finite", "dominates", "between steps",
            "no steps", "no gradients".
        group: of which group; "" for all.
        what, why, fix: in words, about this group.
        more: other groups of which the same is true.
        severity: "error", "warning" or "info", where it is not that of the code.
    """

    step: int
    kind: str
    group: str
    what: str
    why: str
    fix: str
    more: tuple[str, ...] = ()
    severity: Severity | None = None

    @property
    def code(self) -> str:
        """Its stable code, WD602 say; "" for a kind that has none."""
        return CODES.get(self.kind, "")

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups that it is about, at least one."""
        return (self.group, *self.more)

    @property
    def finding(self) -> Finding:
        """The same as a finding, about groups."""
        return Finding(
            code=self.code,
            severity=self.severity or ALARMS[self.code].severity,
            where=f"step {self.step}",
            names=self.groups if self.group else (),
            what=self.what.rstrip("."),
            why=self.why,
            fix=self.fix,
        )

    def __str__(self) -> str:
        where = f"{listing(self.groups, most=3)}: " if self.group else ""
        return f"step {self.step}, {self.kind}: {where}{self.what}\n  {self.why}\n  {self.fix}"


@dataclass(frozen=True)
class Shrink:
    """How much decay shrank a group from the first record on, as ln(start/now), planned and realized.

    Attributes:
        steps: of the records.
        planned: log-shrink that was planned up to there; None where no number can be planned.
        realized: log-shrink that was measured up to there; None where it could not be.
        pace: log-shrink in the last step with a record, as measured, else as planned; NaN where neither is known.
    """

    steps: tuple[int, ...]
    planned: tuple[float, ...] | None
    realized: tuple[float, ...] | None
    pace: float
