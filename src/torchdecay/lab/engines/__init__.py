"""Engines: ways to run the trials of a comparison or a sweep.

Read in this order: engine, runs, jobs, stacked, rounds, serial, process, auto, ray.
"""
