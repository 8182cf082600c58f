"""What differs between two plans, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from torchdecay.encoding import described, is_opaque
from torchdecay.plans.rows import Row
from torchdecay.tables import Shown
from torchdecay.text import printable


@dataclass(frozen=True)
class Change:
    """One parameter that both plans have, but not with the same decay, options, role or shape."""

    name: str
    before: Row
    after: Row

    def __str__(self) -> str:
        old, new = _compared(self.before), _compared(self.after)
        parts = [f"{what} {old[what]!r} -> {new[what]!r}" for what in old if old[what] != new[what]]
        return printable(f"~ {self.name}: {', '.join(parts)}")


@dataclass(frozen=True)
class PlanDiff(Shown):
    """What `before.diff(after)` found; true when something differs.

    Attributes:
        added: rows that only the second plan has.
        removed: rows that only the first plan has.
        changed: parameters whose decay, options, role, shape or names differ.
    """

    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    changed: tuple[Change, ...]

    @classmethod
    def between(cls, before: Sequence[Row], after: Sequence[Row]) -> PlanDiff:
        """Compare row by row, by first name."""
        old, new = ({row.name: row for row in rows} for rows in (before, after))
        compared: dict[tuple[int, int], bool] = {}
        return cls(
            added=tuple(row for name, row in new.items() if name not in old),
            removed=tuple(row for name, row in old.items() if name not in new),
            changed=tuple(
                Change(name, was, row)
                for name, row in new.items()
                if (was := old.get(name)) is not None and not _are_alike(was, row, compared)
            ),
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        lines = [printable(f"- {row.name}: {row.decay!r}") for row in self.removed]
        lines += [printable(f"+ {row.name}: {row.decay!r}") for row in self.added]
        lines += [str(change) for change in self.changed]
        return "\n".join(lines) or "no difference"


def _compared(row: Row) -> dict[str, Any]:
    both = {what: getattr(row, what) for what in ("decay", "options", "role", "shape", "names")}
    return both | {"options": dict(row.options)}


def _are_alike(old: Row, new: Row, compared: dict[tuple[int, int], bool]) -> bool:
    """Whether two rows say the same; most share one Decay, and those that were `compared` are so once."""
    if old.role != new.role or old.shape != new.shape or old.names != new.names:
        return False
    if old.options != new.options:
        mine, theirs = (tuple(sorted(row.options, key=itemgetter(0))) for row in (old, new))
        if not _same(mine, theirs):
            return False
    key = id(old.decay), id(new.decay)
    if key not in compared:
        compared[key] = _same(old.decay, new.decay)
    return compared[key]


def _same(old: Any, new: Any) -> bool:
    """Whether two values are equal; a plan that was read from a file may only describe what the other one holds."""
    if is_opaque(old) or is_opaque(new):
        old, new = described(old), described(new)
    return bool(old == new)
