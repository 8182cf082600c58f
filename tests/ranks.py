"""Processes that form a gloo group, for what must be the same on one."""

from __future__ import annotations

import socket
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from forks import FORKS

RANKS = 2
PATIENCE = timedelta(seconds=30)
"""What a rank waits for the others: a test whose ranks do different things fails, and does not hang."""


def in_ranks(work, *args, ranks=RANKS):
    """Run `work(rank, *args)` in processes that form a gloo group; a failed assertion in one fails the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_one_rank, args=(ranks, port, work, args), nprocs=ranks, start_method=FORKS.get_start_method())


def _one_rank(rank, ranks, port, work, args):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks, timeout=PATIENCE
    )
    try:
        work(rank, *args)
        # Who leaves first would close connections that the other one's threads still read.
        dist.barrier()
    finally:
        dist.destroy_process_group()
