"""Measuring what each parameter group really does to its weights.

Read in this order: borrowing, expected, result, hooks, snapshot, slots, probe, fitting, inputs,
    explaining, judging, rounding, measure, verify, pulled.
"""
