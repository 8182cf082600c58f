"""Tasks that ship, one file each, and the way to bring your own.

Read in this order: catalog, table_file, task, parts, custom, digits, mnist1d, overfit, idx, fashion, grokking, table,
    ridge, registry.
"""
