"""What is known of a whole run from outside: for each of its optimizers the plan at work, findings, and what happened.

Read in this order: planned, record.
"""
