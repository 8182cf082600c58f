"""Runs the scripts beside it that its arguments name, each with its own arguments, in one process."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    for words in sys.argv[1:]:
        script, *sys.argv[1:] = words.split()
        runpy.run_path(str(Path(__file__).parent / script), run_name="__main__")
