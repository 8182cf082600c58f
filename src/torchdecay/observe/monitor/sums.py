"""Inner products of what one tensor is and did in one step, and where they stand in a table of all products."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

_PAIRS = tuple(
    pair.split() for pair in (
        "start start", "start decay", "start update", "start met", "decay decay", "decay update", "decay met",
        "update update", "update met", "met met",
    )
)  # fmt: skip
"""The products that `Sums` begins with."""


class Sums(NamedTuple):
    """Inner products of the weights θ before the step, the displacements d of decay and u of the update, and b.

    b is the weights that decay met: after the update where its pass comes after that, else θ. Of a large tensor they
    are what its sample tells of all elements. `weight` and `gradient` are ‖θ‖² and ‖g‖² over all elements, `radial`
    is ⟨θ, g⟩ or NaN; `zeros` and `masked` count elements; the sample has `sample`. The next three are inner products of
    what moved since the step before, and of the weights that it left. `undone` is ‖x‖² of what a step of copies left
    over against the real one, NaN where no copies took one; `tc` is the inner product with what d has of earlier steps;
    z is what hooks of others did after the step, NaN where there are none.
    """

    tt: float
    td: float
    tu: float
    tb: float
    dd: float
    du: float
    db: float
    uu: float
    ub: float
    bb: float
    weight: float
    gradient: float
    radial: float
    zeros: float
    masked: float
    sample: float
    bl: float
    between: float
    left: float
    undone: float
    xd: float
    tc: float
    zz: float
    tz: float
    dz: float
    uz: float

    @property
    def moved(self) -> float:
        """‖d + u‖², where the step led as a whole."""
        return self.dd + 2 * self.du + self.uu


AT = {name: place for place, name in enumerate(Sums._fields)}
"""Where each stands."""


@lru_cache
def places_of(vectors: tuple[str, ...], beside: tuple[str, ...]) -> list[int]:
    """Where the fields of `Sums` stand in a row that ends in NaN, 0 and how many elements the sample has."""
    columns = [*(f"{a} {b}" for a in vectors for b in vectors), *beside]
    at = {name: place for place, name in enumerate(columns)}
    unknown, nothing, count = range(len(columns), len(columns) + 3)
    # Without passes after the update, the weights that decay met are those before it.
    pairs = [at[pair] if (pair := f"{a} {b}") in at else at[pair.replace("met", "start")] for a, b in _PAIRS]
    return [
        *pairs,
        at.get("weight", at["start start"]),
        at.get("gradient", nothing),
        at.get("radial", unknown),
        at.get("zero zero", nothing),
        at.get("masked masked", nothing),
        at.get("sample", count),
        *(
            at.get(pair, unknown)
            for pair in (
                "left moved",
                "moved moved",
                "left left",
                "undone undone",
                "undone decay",
                "start carried",
                "back back",
                "start back",
                "decay back",
                "update back",
            )
        ),
    ]
