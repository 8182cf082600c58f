"""What is wrong, or worth knowing, about the decay of a model under its optimizers.

Read in this order: catalog, penalties, case, result, check, checks, audit.
"""
