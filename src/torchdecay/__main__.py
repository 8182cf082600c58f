"""`python -m torchdecay` is `torchdecay`."""

import sys


def run() -> None:
    """Run the command line; Ctrl-C ends it quietly also while it is still being imported."""
    try:
        from torchdecay.cli import main

        main(prog_name="torchdecay")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
