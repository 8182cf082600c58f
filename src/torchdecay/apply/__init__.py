"""Carrying a plan out: native where it is the same number, by hook where it is not."""
