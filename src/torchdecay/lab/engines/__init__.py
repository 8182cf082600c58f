"""Engines: ways to run the trials of a sweep."""
