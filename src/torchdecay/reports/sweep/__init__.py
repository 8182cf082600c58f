"""The page of a sweep.

Read in this order: points, advice, course, map, response, table, sentences, page.
"""

from torchdecay.reports.sweep.page import page_of, picture_of
from torchdecay.reports.sweep.sentences import verdict

__all__ = ["page_of", "picture_of", "verdict"]
