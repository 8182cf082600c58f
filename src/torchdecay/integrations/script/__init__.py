"""Any script, unchanged: its optimizers are seen, and what is seen fills a record of `observe.recorded`.

Read in this order: options, command, folder, guard, unseen, finding, session, steps, door.
"""
