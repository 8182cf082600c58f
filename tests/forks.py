"""Processes that start fast: forked from one that has imported what takes seconds, and has done nothing else."""

from __future__ import annotations

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "optuna",
        "torch._dynamo",
        "torch.distributed.fsdp",
        "torchdecay.apply.attach",
        "torchdecay.lab.engines.process",
        "torchdecay.lab.storage.store",
        "torchdecay.observe.monitor.monitor",
    ]
)
