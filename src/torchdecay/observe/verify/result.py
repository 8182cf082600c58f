"""What `torchdecay.verify` found, as values that print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torchdecay.plans.decay import Site
from torchdecay.records import JsonRecord
from torchdecay.tables import DIM, FOLD, Entries, Printed, rich_table
from torchdecay.text import first_of, group_label

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Fault = Literal[
    "", "ignored", "hidden", "multiple", "sign", "site", "learning rate", "rounded", "unexplained", "frozen", "unmoved",
    "wiring", "number", "failed", "unmeasured",
]  # fmt: skip

SITES = {
    Site.GRADIENT: "coupled",
    Site.BEFORE: "decoupled",
    Site.AFTER: "after the update",
    Site.LOSS: "in the loss",
    Site.NATIVE: "native",
}
"""What the sites are called where people read them."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a parameter undergoes.

    Attributes:
        site: where its decay enters the step, as measured; None when nothing decays, or nothing explains it.
        expected_site: where it should; None when it should not decay, or when nothing is known.
        expected: what it should be; None when nothing is known. Its unit is `unit`.
        measured: what it is; None when it could not be measured.
        lr_enters: whether the learning rate changes what is taken off a weight; None where that has no answer.
        fault: what kind of difference this is, "" when there is none: "ignored" (in the steps that were taken none
            shows where there should be some), "hidden" (decay where there should be none), "multiple" (applied twice,
            or another multiple), "sign", "site", "learning rate" (it enters otherwise than it should), "rounded" (lost
            or distorted by the dtype), "unexplained" (no single pull does what this does), "frozen" (frozen weights
            move), "unmoved" (none of the steps moves the weights), "wiring" (a plan is not attached), "number"
            (weight_decay or lr is no usable number), "failed" (the step raised), "unmeasured".
        why: one sentence for people.
    """

    site: Site | None = None
    expected_site: Site | None = None
    expected: float | None = None
    measured: float | None = None
    lr_enters: bool | None = None
    fault: Fault = ""
    why: str = ""

    _derived: ClassVar[tuple[str, ...]] = ("ok", "unit")

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
class Part(Verdict):
    """Parameters of one group that undergo the same.

    Attributes:
        names: the parameters.
        num_elements: their elements.
        dtype: torch's spelling without the prefix.
        device: where they lie.
    """

    names: tuple[str, ...]
    num_elements: int
    dtype: str
    device: str


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

    _derived: ClassVar[tuple[str, ...]] = ("ok",)

    @property
    def ok(self) -> bool:
        """Whether all its parameters undergo what they should."""
        return all(part.ok for part in self.parts)

    @property
    def site(self) -> Site | None:
        """Where the decay enters the step; None without decay."""
        return self._speaking.site

    @property
    def expected(self) -> float | None:
        """What the decay should be, of the part that speaks for the group: a faulty one, else one that decays."""
        return self._speaking.expected

    @property
    def measured(self) -> float | None:
        """What the decay is, of the same part."""
        return self._speaking.measured

    @property
    def lr_enters(self) -> bool | None:
        """Whether the learning rate changes what is taken off a weight."""
        return self._speaking.lr_enters

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of its parameters."""
        return tuple(dict.fromkeys(part.dtype for part in self.parts))

    @property
    def why(self) -> str:
        """In words: what each part undergoes."""
        return " ".join(dict.fromkeys(part.why for part in self.parts if part.why))

    @property
    def _speaking(self) -> Verdict:
        faulty = [part for part in self.parts if not part.ok]
        decaying = [part for part in self.parts if part.expected or part.measured]
        return next(iter((*faulty, *decaying, *self.parts)), Verdict())

    def __repr__(self) -> str:
        return f"<{self.optimizer} group {self.index}: {'ok' if self.ok else 'not ok'}: {self.why}>"


@dataclass(frozen=True, repr=False)
class Verification(Entries[GroupVerification], Printed, JsonRecord, kind="verification"):
    """`torchdecay.verify`: one entry per group; prints as a table.

    Attributes:
        groups: the entries.
    """

    groups: tuple[GroupVerification, ...]

    _derived: ClassVar[tuple[str, ...]] = ("ok",)

    @property
    def ok(self) -> bool:
        """Whether every group does what it should."""
        return all(group.ok for group in self.groups)

    @property
    def summary(self) -> str:
        """One line: how many groups do what they should."""
        right = sum(group.ok for group in self.groups)
        return f"{right} of {len(self.groups)} groups do what they should"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        heads = ("group", "parameters", "dtype", "site", "expected", "measured", "")
        why = ("why", {**DIM, **FOLD, "ratio": 1})
        several = any(group.optimizer_index for group in self.groups)
        rows = (_cells(group, part, several) for group in self.groups for part in group.parts)
        yield rich_table([*((head, FOLD) for head in heads), why], rows)
        yield ""
        yield self.summary


def _cells(group: GroupVerification, part: Part, several: bool) -> list[str | tuple[str, str]]:
    place = group_label(group.optimizer, group.optimizer_index, group.index, several=several)
    return [
        place if part is group.parts[0] else "",
        first_of(part.names),
        part.dtype,
        SITES[part.site] if part.site is not None else "-",
        _number(part.expected),
        _number(part.measured),
        ("ok", "green") if part.ok else (part.fault, "red"),
        part.why,
    ]


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
