"""One training of a task with a decay, and what it leaves behind."""
