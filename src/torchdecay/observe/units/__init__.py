"""Units of decay: what a number means, what it becomes elsewhere, and which one to start from.

Read in this order: coupling, context, graph, decays, converting, peak, sources, scaling_rules, remarks, suggestion,
    rescaled, rescaling, suggesting.
"""
