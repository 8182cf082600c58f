"""What differs between two plans, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchdecay.plans.rows import Row
from torchdecay.records import described, is_opaque
from torchdecay.text import printable


@dataclass(frozen=True)
class Change:
    """One parameter that both plans have, but not with the same decay, options, role or shape."""

    name: str
    before: Row
    after: Row

    def __str__(self) -> str:
        parts = [
            f"{what} {old!r} -> {new!r}"
            for what, old, new in (
                ("decay", self.before.decay, self.after.decay),
                ("options", dict(self.before.options), dict(self.after.options)),
                ("role", self.before.role, self.after.role),
                ("shape", self.before.shape, self.after.shape),
                ("names", self.before.names, self.after.names),
            )
            if old != new
        ]
        return printable(f"~ {self.name}: {', '.join(parts)}")


@dataclass(frozen=True)
class PlanDiff:
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
        return cls(
            added=tuple(row for name, row in new.items() if name not in old),
            removed=tuple(row for name, row in old.items() if name not in new),
            changed=tuple(
                Change(name, old[name], row) for name, row in new.items() if name in old and not _alike(old[name], row)
            ),
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        lines = [printable(f"- {row.name}: {row.decay!r}") for row in self.removed]
        lines += [printable(f"+ {row.name}: {row.decay!r}") for row in self.added]
        lines += [str(change) for change in self.changed]
        return "\n".join(lines) or "no difference"


def _alike(old: Row, new: Row) -> bool:
    was, is_now = (old.decay, old.options), (new.decay, new.options)
    if is_opaque(was) or is_opaque(is_now):
        # A plan that was read from a file may only describe what the other one holds.
        was, is_now = described(was), described(is_now)
    return (was, old.role, old.shape, old.names) == (is_now, new.role, new.shape, new.names)
