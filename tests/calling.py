"""The command line as tests call it."""

from __future__ import annotations

from click.testing import CliRunner, Result

from torchdecay.cli import main


def torchdecay(*words: str, code: int = 0) -> Result:
    """Run `torchdecay`; an exception that is no exit, or another exit code, fails the test."""
    result = CliRunner().invoke(main, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result
