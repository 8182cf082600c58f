"""Small bridges to other libraries, and to scripts as they are, each imported only when asked for.

Read in this order: asked, lightning, transformers, skorch, tensorboard, wandb, mlflow, comet, csv, tuning, script,
fastai, pytest_plugin, ipython, lint.
"""
