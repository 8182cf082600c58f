"""Showing it: charts and one self-contained page."""

from torchdecay.report.files import check_writable
from torchdecay.report.page import write, write_demo
from torchdecay.report.picture import picture

__all__ = ["check_writable", "picture", "write", "write_demo"]
