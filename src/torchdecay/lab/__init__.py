"""Trying it: tasks, one training loop, comparisons, sweeps, and which way to go from a value.

What the folders hold:

    tasks        what is trained: data, model, loss, optimizer and how long
    jobs         commands and functions, which train in their own way and tell a metric
    training     one run of a task with one contender, and what it leaves behind
    storage      finished runs in a file
    engines      ways to run many trainings
    comparisons  several contenders, the same seeds, and the arithmetic of their differences
    directions   on which parts decay should be stronger or weaker
    sweeps       one form with many values: search, and the choice

Read in this order: example, tasks, jobs, training, storage, engines, comparisons, directions, sweeps.
"""

from torchdecay.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__spec__)
