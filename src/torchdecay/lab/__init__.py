"""Trying it: tasks, one training loop, comparisons, sweeps, and which way to go from a value.

The folders in the order in which they can be read; each imports from those before it only:

    tasks        what is trained: data, model, loss, optimizer and how long
    training     one run of a task with one contender, and what it leaves behind
    comparisons  several contenders, the same seeds, and the arithmetic of their differences
    directions   on which parts decay should be stronger or weaker
    engines      ways to run many trainings
    sweeps       one form with many values: search, store, and the choice
"""

from torchdecay.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__spec__)
