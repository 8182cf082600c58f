"""Any script, unchanged: its optimizers are seen, and what is seen fills a record of `observe.recorded`.

Read in this order: options, folder, guard, command, unseen, configured, finding, applying, met, looking, loads,
ending, pages, session, steps, watching, door.
"""
