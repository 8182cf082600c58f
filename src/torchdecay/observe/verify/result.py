"""What `torchdecay.verify` found, as values that print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from torchdecay.observe.printing import finite
from torchdecay.plans.decay import Site
from torchdecay.plans.table import as_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

Fault = Literal[
    "",
    "ignored",
    "hidden",
    "multiple",
    "sign",
    "site",
    "learning rate",
    "rounded",
    "unexplained",
    "frozen",
    "unmoved",
    "wiring",
    "number",
    "failed",
    "unmeasured",
]

SITES = {
    Site.GRADIENT: "coupled",
    Site.BEFORE: "decoupled",
    Site.AFTER: "after the update",
    Site.LOSS: "in the loss",
    Site.NATIVE: "native",
}
"""What the sites are called where people read them."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Parameters of one group that undergo the same.

    Attributes:
        names: the parameters.
        num_elements: their elements.
        dtype: torch's spelling without the prefix.
        device: where they lie.
        site: where their decay enters the step, as measured; None when nothing decays, or nothing explains it.
        expected_site: where it should; None when it should not decay, or when nothing is known.
        expected: what it should be; None when nothing is known. Its unit is `unit`.
        measured: what it is; None when it could not be measured.
        lr_enters: whether the learning rate changes what is taken off a weight; None where that has no answer.
        fault: what kind of difference this is, "" when there is none: "ignored" (no decay where there should be),
            "hidden" (decay where there should be none), "multiple" (applied twice, or another multiple), "sign",
            "site", "learning rate" (it enters otherwise than it should), "rounded" (lost or distorted by the dtype),
            "unexplained" (no single pull does what this does), "frozen" (frozen weights move), "unmoved" (no
            step moves the weights, whatever their gradients), "wiring" (a plan is
            not attached), "number" (weight_decay or lr is no usable number), "failed" (the step raised),
            "unmeasured".
        why: one sentence for people.
    """

    names: tuple[str, ...]
    num_elements: int
    dtype: str
    device: str
    site: Site | None
    expected_site: Site | None
    expected: float | None
    measured: float | None
    lr_enters: bool | None
    fault: Fault
    why: str

    @property
    def ok(self) -> bool:
        """Whether what was measured is what was expected."""
        return not self.fault

    @property
    def unit(self) -> str:
        """What `expected` and `measured` are parts of."""
        if (self.site or self.expected_site) is Site.GRADIENT:
            return "of the weight, added to its gradient"
        return "of the weight per step"


@dataclass(frozen=True, kw_only=True)
class GroupVerification:
    """What one parameter group really does to its weights.

    Attributes:
        optimizer: the optimizer's class.
        optimizer_index: which of the optimizers that were given.
        index: which of its groups.
        lr: its learning rate as it stands.
        weight_decay: its weight_decay as it stands, None without one.
        moves_without_gradient: whether it moves weights that have no gradient.
        parts: by what the parameters undergo.
    """

    optimizer: str
    optimizer_index: int
    index: int
    lr: float | None
    weight_decay: float | None
    moves_without_gradient: bool
    parts: tuple[Part, ...]

    @property
    def ok(self) -> bool:
        """Whether all its parameters undergo what they should."""
        return all(part.ok for part in self.parts)

    @property
    def site(self) -> Site | None:
        """Where the decay enters the step; None without decay."""
        return self._speaking.site if self._speaking else None

    @property
    def expected(self) -> float | None:
        """What the decay should be, of the part that speaks for the group: a faulty one, else one that decays."""
        return self._speaking.expected if self._speaking else None

    @property
    def measured(self) -> float | None:
        """What the decay is, of the same part."""
        return self._speaking.measured if self._speaking else None

    @property
    def lr_enters(self) -> bool | None:
        """Whether the learning rate changes what is taken off a weight."""
        return self._speaking.lr_enters if self._speaking else None

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of its parameters."""
        return tuple(dict.fromkeys(part.dtype for part in self.parts))

    @property
    def why(self) -> str:
        """In words: what each part undergoes."""
        return " ".join(dict.fromkeys(part.why for part in self.parts if part.why))

    @property
    def _speaking(self) -> Part | None:
        faulty = [part for part in self.parts if not part.ok]
        decaying = [part for part in self.parts if part.expected or part.measured]
        return next(iter((*faulty, *decaying, *self.parts)), None)

    def __repr__(self) -> str:
        return f"<{self.optimizer} group {self.index}: {'ok' if self.ok else 'not ok'}: {self.why}>"


@dataclass(frozen=True)
class Verification(Sequence[GroupVerification]):
    """`torchdecay.verify`: one entry per group; prints as a table.

    Attributes:
        groups: the entries.
    """

    groups: tuple[GroupVerification, ...]

    @property
    def ok(self) -> bool:
        """Whether every group does what it should."""
        return all(group.ok for group in self.groups)

    @overload
    def __getitem__(self, index: int) -> GroupVerification: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[GroupVerification, ...]: ...
    def __getitem__(self, index: int | slice) -> GroupVerification | tuple[GroupVerification, ...]:
        return self.groups[index]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[GroupVerification]:
        return iter(self.groups)

    def to_json(self) -> str:
        """Every number and sentence as JSON."""
        body = {
            "format": "torchdecay.verification",
            "version": 1,
            "ok": self.ok,
            "groups": [_group_as_dict(group) for group in self.groups],
        }
        return json.dumps(finite(body), indent=1, ensure_ascii=False)

    def to_text(self, *, width: int | None = None, color: bool = False) -> str:
        """The table as text, `width` columns wide; None takes the terminal's width, or 120."""
        return as_text(self, width=width, color=color)

    @property
    def summary(self) -> str:
        """One line: how many groups do what they should."""
        right = sum(group.ok for group in self.groups)
        return f"{right} of {len(self.groups)} groups do what they should"

    def _rich_table(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for head in ("group", "parameters", "dtype", "site", "expected", "measured", ""):
            table.add_column(head, overflow="fold")
        table.add_column("why", style="dim", overflow="fold", ratio=1)
        for group in self.groups:
            for number, part in enumerate(group.parts):
                tone, word = ("green", "ok") if part.ok else ("red", part.fault)
                table.add_row(
                    escape(f"{group.optimizer} {group.index}") if number == 0 else "",
                    escape(part.names[0]) + (f" +{len(part.names) - 1}" if len(part.names) > 1 else ""),
                    part.dtype,
                    SITES[part.site] if part.site is not None else "-",
                    _number(part.expected),
                    _number(part.measured),
                    f"[{tone}]{word}[/{tone}]",
                    escape(part.why),
                )
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._rich_table()
        yield ""
        yield self.summary

    def __str__(self) -> str:
        return self.to_text(color=sys.stdout.isatty())

    def __repr__(self) -> str:
        return str(self)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _group_as_dict(group: GroupVerification) -> dict[str, Any]:
    return {
        "optimizer": group.optimizer,
        "optimizer_index": group.optimizer_index,
        "group": group.index,
        "ok": group.ok,
        "lr": group.lr,
        "weight_decay": group.weight_decay,
        "moves_without_gradient": group.moves_without_gradient,
        "parts": [
            {
                "names": list(part.names),
                "num_elements": part.num_elements,
                "dtype": part.dtype,
                "device": part.device,
                "ok": part.ok,
                "site": part.site.value if part.site is not None else None,
                "expected_site": part.expected_site.value if part.expected_site is not None else None,
                "expected": part.expected,
                "measured": part.measured,
                "unit": part.unit,
                "lr_enters": part.lr_enters,
                "fault": part.fault,
                "why": part.why,
            }
            for part in group.parts
        ],
    }
