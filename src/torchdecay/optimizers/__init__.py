"""What torch's optimizers do in a step of their own, class by class."""
