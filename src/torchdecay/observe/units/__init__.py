"""Units of decay: what a number means, what it becomes elsewhere, and which one to start from."""
