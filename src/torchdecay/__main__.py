"""`python -m torchdecay` is `torchdecay`."""

from torchdecay.cli import main

main(prog_name="torchdecay")
