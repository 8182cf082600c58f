"""Processes that form a gloo group, for what must be the same on one."""

from __future__ import annotations

import os
import signal
import socket
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from forks import FORKS

RANKS = 2
PATIENCE = timedelta(seconds=30)
"""What a rank waits for the others: a test whose ranks do different things fails, and does not hang."""


def free_port():
    """One that nothing listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def end():
    """End this process as kill -9 does: nothing is closed, nobody is told."""
    os.kill(os.getpid(), signal.SIGKILL)


def without_one(work, *args):
    """Run `work(rank, *args)` in two processes, one of which ends; what the other raised, within `PATIENCE`."""
    port, said = free_port(), FORKS.Queue()
    ranks = [FORKS.Process(target=_said, args=(rank, port, work, args, said)) for rank in range(RANKS)]
    for rank in ranks:
        rank.start()
    try:
        return said.get(timeout=2 * PATIENCE.total_seconds())
    finally:
        for rank in ranks:
            rank.join(1)
            rank.kill()


def _join(rank, ranks, port):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks, timeout=PATIENCE)


def _said(rank, port, work, args, said):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS, timeout=PATIENCE
    )
    try:
        work(rank, *args)
        said.put(("", ""))
    except BaseException as error:
        said.put((type(error).__name__, str(error)))
    said.close()
    said.join_thread()
    # Without taking leave of the other one, which is not there.
    os._exit(0)


def in_ranks(work, *args, ranks=RANKS):
    """Run `work(rank, *args)` in processes that form a gloo group; a failed assertion in one fails the test."""
    of_all = (ranks, free_port(), work, args)
    mp.start_processes(_one_rank, args=of_all, nprocs=ranks, start_method=FORKS.get_start_method())


def _one_rank(rank, ranks, port, work, args):
    _join(rank, ranks, port)
    try:
        work(rank, *args)
        # Who leaves first would close connections that the other one's threads still read.
        dist.barrier()
    finally:
        dist.destroy_process_group()
