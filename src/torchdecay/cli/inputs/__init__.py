"""From what people type to a model, an optimizer, a run, a task, a checkpoint.

Read in this order: options, findings, runs, setups, models, names, results, plans, tasks, jobs.
"""
