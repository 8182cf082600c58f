"""What can be read from source, before anything runs: nothing is imported, neither torch nor the code that is read.

Read in this order: source, files, code, constants, optimizers, parameters, rule, rules, lint.
"""
