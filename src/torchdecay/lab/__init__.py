"""Trying it: tasks, one training loop, comparisons, sweeps, and which way to go from a value.

What the folders hold:

    tasks        what is trained: data, model, loss, optimizer and how long
    training     one run of a task with one contender, and what it leaves behind
    comparisons  several contenders, the same seeds, and the arithmetic of their differences
    directions   on which parts decay should be stronger or weaker
    engines      ways to run many trainings
    sweeps       one form with many values: search, store, and the choice

Read in this order: example, tasks, training, comparisons, engines, directions, sweeps.
"""

from torchdecay.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__spec__)
