"""One form of decay with many values, and which to take."""
