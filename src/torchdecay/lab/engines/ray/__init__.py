"""Trials on Ray: the engine, the cluster, Tune's part, what is dealt here and what runs there.

Read in this order: cluster, dealing, worker, tuning, engine.
"""
