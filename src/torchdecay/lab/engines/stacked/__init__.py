"""Many runs of one task as one model: parameters stacked along a first dimension, one member for each run.

members.py reads from each trial what decays and how; fit.py says whether a task can be stacked; vmapped.py and
lowered.py compute the gradients of all members at once; lanes.py steps the optimizers; pulls.py decays; memory.py says
how many members fit; loop.py trains; engine.py is the engine.

Read in this order: members, tensors, lanes, prepare, losses, vmapped, lowered, fit, pulls, loop, memory,
    engine.
"""
