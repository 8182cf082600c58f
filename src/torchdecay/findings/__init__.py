"""What is found, whoever found it: rules, findings under their codes, and how both are chosen, kept and written.

Read in this order: rule, finding, choosing, baseline, github, sarif, result, settings, explaining.
"""
