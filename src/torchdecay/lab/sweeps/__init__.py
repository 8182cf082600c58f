"""One form of decay with many values, and which to use.

Read in this order: meaning, points, surface, search, choice, optimum, trials, ranges, halving, subject, sameness,
result, arrivals, racing, stages, sweep, ladder.
"""
