"""What the audit looks for, by what it is about: a finding is a function here, and its words in the catalog.

Read in this order: interplay, magnitude, selection, wiring.
"""
