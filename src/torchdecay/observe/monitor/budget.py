"""What of the time of a training steps beside the real ones may take."""

from __future__ import annotations

import time

FREE = 3
"""Records whose steps on copies take what they take: a run as short as that is seen whole."""
MOST_SHARE = 0.01
"""What later ones may take of the time since then, all together."""

FOLLOWING = MOST_SHARE / 2
"""What following of what momentum carries may take of that."""


class Budget:
    """The time that steps on copies took, what of it is left, and why there are no more.

    What is noted up to `closed` is one record's.
    """

    def __init__(self) -> None:
        self._open = self._last = self._spent = 0.0
        self._count, self._since = 0, time.perf_counter()
        self.stopped = ""

    @property
    def is_free(self) -> bool:
        """Whether the next record's steps take what they take."""
        return self._count < FREE

    def follow(self, seconds: float) -> None:
        """Time that following what momentum carries took, between records."""
        if not self.is_free:
            self._spent += seconds

    def refusal(self) -> str:
        """Why no such step may be taken now, or ""."""
        if self.stopped:
            return f"it is not tried again: {self.stopped}"
        left = MOST_SHARE * (time.perf_counter() - self._since) - self._spent - self._open
        if self.is_free or self._last <= left:
            return ""
        return (
            f"steps on copies have {MOST_SHARE:.0%} of the time, it took {1e3 * self._last:.2g} ms the last time, and "
            f"{1e3 * max(0.0, left):.2g} ms are left"
        )

    def note(self, seconds: float) -> None:
        """Time that they took."""
        self._open += seconds

    def closed(self) -> None:
        """They were taken."""
        self._count, self._last, self._open = self._count + 1, self._open, 0.0
        if self._count > FREE:
            self._spent += self._last
        else:
            self._since = time.perf_counter()
