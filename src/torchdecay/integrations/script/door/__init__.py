"""The folder that stands first on PYTHONPATH, so that Python itself opens the door when it starts."""
