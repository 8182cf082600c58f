"""Small files as Fashion-MNIST has them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import torch
from torch import Tensor

from torchdecay.lab.tasks.fashion import FILES


def write_idx(path: Path, values: Tensor) -> None:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.to(torch.uint8).numpy().tobytes(), compresslevel=1))


def write_fashion(folder: Path, *, train: int = 3000, test: int = 2000, side: int = 28) -> Path:
    """Four files in a folder: images whose brightness tells their class."""
    generator = torch.Generator().manual_seed(0)
    for count, images, labels in ((train, *FILES[:2]), (test, *FILES[2:])):
        y = torch.randint(10, (count,), generator=generator)
        noise = torch.randint(20, (count, side, side), generator=generator)
        write_idx(folder / images, noise + 20 * y.view(-1, 1, 1))
        write_idx(folder / labels, y)
    return folder
