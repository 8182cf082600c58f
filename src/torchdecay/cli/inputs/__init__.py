"""From what people type to a model, an optimizer, a run, a task, a checkpoint."""
