"""Measuring what each parameter group really does to its weights."""
