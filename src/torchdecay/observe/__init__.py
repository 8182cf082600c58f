"""Reading back: what an optimizer does to each parameter, before training and during it.

Read in this order: groups, pulls, inspect, run, lr_curve, audit, fractions, units, verify, forecast, monitor,
    recorded.
"""
