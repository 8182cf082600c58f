"""Showing it: charts and one self-contained page."""
