"""The page of a comparison of decays.

Read in this order: series, sentences, curves, picture, notices, planned_and_measured, scans, gaps, page.
"""

from torchdecay.reports.comparison.page import page_of
from torchdecay.reports.comparison.picture import picture_of
from torchdecay.reports.comparison.sentences import verdict

__all__ = ["page_of", "picture_of", "verdict"]
