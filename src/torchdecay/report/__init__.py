"""Showing it: charts and one self-contained page."""

from torchdecay.report.page import write, write_demo
from torchdecay.report.picture import picture
from torchdecay.report.sweep import write_sweep

__all__ = ["picture", "write", "write_demo", "write_sweep"]
