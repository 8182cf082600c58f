"""What each parameter is for, with the evidence; see `reading`."""
