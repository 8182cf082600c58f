"""Finished runs in a file, written at once.

Read in this order: identity, claims, store.
"""
