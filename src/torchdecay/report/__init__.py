"""Showing it: charts and one self-contained page."""

from torchdecay.report.page import write, write_demo
from torchdecay.report.picture import picture

__all__ = ["picture", "write", "write_demo"]
