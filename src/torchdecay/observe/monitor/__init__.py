"""`Monitor`: what decay really does while a model trains; `History`: what was seen, as a value.

Read in this order: modes, catalog, columns, quantities, momentum, series, meant, blocks, jsonl, outlets, layout,
    history, samples, norms, sums, measured, budget, carried, parts, shadow, selection, reading, gather, watch, alarms,
    store, watched, monitor.
"""
