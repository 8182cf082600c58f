"""Reading back: what an optimizer does to each parameter, before training and during it."""
