"""The rules, by what they are about.

Read in this order: coverage, coupling, keys, lists, literals, branches, groups, order, penalties, own_optimizers.
"""
