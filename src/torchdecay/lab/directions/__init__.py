"""Which way a coefficient should move: by implicit differentiation, or by differences.

Read in this order: fixed_point, conjugate, hypergradient, result, direction.
"""
