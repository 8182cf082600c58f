"""The command line: each command parses, calls one function, prints.

Nothing heavy is imported before a command runs, so that help is quick.
"""

from torchdecay.cli.group import main

__all__ = ["main"]
