"""The end of a script after so many steps, as `--stop-after` asks for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable

from torchdecay.integrations.script.finding import look_around, unserved
from torchdecay.integrations.script.guard import Guard, say
from torchdecay.integrations.script.met import Met
from torchdecay.integrations.script.options import Options
from torchdecay.text import counted, listing

_PATIENCE = 100
"""Steps of one optimizer that `--stop-after` waits for the first of another."""


class Ending:
    """Ends the script when every optimizer that lives took its steps."""

    def __init__(self, options: Options, guard: Guard) -> None:
        self._steps, self._guard = options.stop_after, guard
        # What lived before is not of what is watched, so nothing waits for it.
        self._earlier = weakref.WeakSet(look_around().optimizers if options.stop_after else ())

    def reach(self, met: Met, everyone: Iterable[Met]) -> None:
        """One optimizer has taken its steps; one that takes none is waited for a while.

        Raises:
            SystemExit: the script ends here; with 2 where the wait was in vain.
        """

        def late() -> list[str]:
            gc.collect()
            done = [one.optimizer() for one in everyone if one.steps >= self._steps]
            left = unserved([one for one in done if one is not None], look_around().optimizers)
            return [type(one).__name__ for one in left if one not in self._earlier]

        waiting = self._guard("whether other optimizers are to step is not known", late)
        if not waiting:
            raise SystemExit(0)
        if met.steps >= self._steps + _PATIENCE:
            steps = counted(met.steps, "step")
            say(
                f"torchdecay: --stop-after {self._steps}: {listing(waiting)} did not take as many steps "
                f"while {met.about.optimizer} took {steps}."
            )
            raise SystemExit(2)
