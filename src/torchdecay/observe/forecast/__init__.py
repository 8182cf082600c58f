"""What decay will do in a run, said before training."""
