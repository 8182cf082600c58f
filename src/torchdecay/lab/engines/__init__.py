"""Engines: ways to run the trials of a sweep.

Read in this order: engine, stacked, rounds, serial, process, auto, ray.
"""
