"""Which way a coefficient should move: by implicit differentiation, or by differences."""
