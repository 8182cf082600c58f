"""Showing it: charts and one self-contained page."""

from torchdecay.reports.comparison.picture import picture
from torchdecay.reports.document import write, write_demo
from torchdecay.reports.sweep.page import write_sweep

__all__ = ["picture", "write", "write_demo", "write_sweep"]
