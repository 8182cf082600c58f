"""What each parameter is for, with the evidence; see `reading`.

Read in this order: words, usage, place, torch_modules, named, reading.
"""
