"""The command line: each command parses, calls one function, prints.

Nothing heavy is imported before a command runs, so that help is quick.

Read in this order: types, output, inputs, words, audit, group, progress, tables, compare, convert, demo, diff, example,
    explain, forecast, lint, plan, report, rescale, run, serve, suggest, sweep, verify.
"""

from torchdecay.cli.group import main

__all__ = ["main"]
