"""The same task under several decays and seeds, and what the difference is worth.

Read in this order: statistics, comparison, compare.
"""
