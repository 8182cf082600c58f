"""What can be read from source, before anything runs: neither torch nor the code that is read is imported.

Read in this order: source, files, code, constants, optimizers, parameters, layers, outcomes, sorting, rule, rules,
    project, reading, fixes, result, lint.
"""
