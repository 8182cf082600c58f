"""The page of a sweep."""

from torchdecay.reports.sweep.page import page_of, picture_of
from torchdecay.reports.sweep.sentences import verdict

__all__ = ["page_of", "picture_of", "verdict"]
