"""Trying it: tasks, one training loop, comparisons."""
