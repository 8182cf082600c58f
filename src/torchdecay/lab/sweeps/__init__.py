"""One form of decay with many values, and which to take.

Read in this order: meaning, points, surface, search, choice, optimum, trials, ranges, subject, sameness, result,
halving, arrivals, racing, stages, sweep.
"""
