"""One training of a task with a decay, and what it leaves behind.

Read in this order: groups, holdout, contenders, planned_and_measured, results, setup, facts, trial, line_scan,
    monitoring, running, train, trunk.
"""
