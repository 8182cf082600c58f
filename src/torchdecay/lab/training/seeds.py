"""Seeds, from what people pass."""

from __future__ import annotations

from collections.abc import Iterable

from torchdecay.errors import TaskError


def as_seeds(seeds: Iterable[int] | int) -> tuple[int, ...]:
    """Distinct seeds, from seeds or from how many.

    Raises:
        TaskError: none, the same one twice, or something else than whole numbers from 0 to 2⁶³ − 1.
    """
    made = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not made:
        raise TaskError(f"seeds is {seeds!r}, so there is nothing to run.", fix="Ask for at least one.")
    wrong = [s for s in made if isinstance(s, bool) or not isinstance(s, int) or not 0 <= s < 2**63]
    if wrong or len(set(made)) != len(made):
        raise TaskError(
            f"seeds is {list(made)}.",
            "Each must be a whole number from 0 up, and there once.",
            "Write seeds=3 or seeds=[0, 1, 2].",
        )
    return made
