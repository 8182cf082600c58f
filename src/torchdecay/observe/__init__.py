"""Reading back: what an optimizer does to each parameter, before training and during it.

Read in this order: groups, pulls, inspect, run, lr_curve, fractions, units, verify, audit, forecast, monitor,
    recorded.
"""
