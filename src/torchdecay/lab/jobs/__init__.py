"""What trains in its own way: a command, or a function. All that is known of a run is the metric that it tells.

Read in this order: record, job, current, function, metrics, opening, keeper, child, command.
"""
