"""Values: what pulls which parameter, toward where, how hard, and why.

Read in this order: granularity, controllers, update_rules, references, tensor_files, regularizers, schedules,
    presets, decay, forms, spelling, parameters, selectors, names, tree, rows, rules, roles, census,
    policies, diff, groups, table, plan, planning, layers, split.
"""

# A Decay prints as the form that it equals, so whoever opens the room has them all.
from torchdecay.plans import forms as forms
