"""Showing it: charts and one self-contained page."""

from torchdecay.report.page import write

__all__ = ["write"]
