"""What is wrong, or worth knowing, about the decay of a model under its optimizers."""
