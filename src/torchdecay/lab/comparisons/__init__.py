"""The same task under several decays and seeds, and what the difference is worth."""
