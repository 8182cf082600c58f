"""One form of decay with many values, and which to take.

Read in this order: identity, meaning, points, search, choice, claims, store, trials, result, halving, run, sweep.
"""
