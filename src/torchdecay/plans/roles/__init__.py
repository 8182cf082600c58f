"""What each parameter is for, with the evidence; see `reading`.

Read in this order: words, operations, values, syntax, frames, arithmetic, expressions, calls, flow,
usage, place, torch_modules, named, adapters, routing, reading.
"""
