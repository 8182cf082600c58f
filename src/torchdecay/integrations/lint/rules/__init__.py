"""The rules, by what they are about.

Read in this order: coverage, coupling, keys, lists, branches.
"""
