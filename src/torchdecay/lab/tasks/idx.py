"""Reading idx files, in which MNIST and its kin come: a header of big-endian numbers, then bytes."""

from __future__ import annotations

import functools
import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from torchdecay.errors import TaskError

UNSIGNED_BYTES = 0x08
MOST_BYTES = 1 << 30
"""A compressed file can promise anything."""


def read_images(path: Path) -> Tensor:
    """Images from an idx3 file: uint8, (images, height, width); not to be written to."""
    try:
        stamp = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _images(path, stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=4)
def _images(path: Path, written: int, size: int) -> Tensor:
    # Every run of a sweep wants them; time and size are there so that a file that has changed is read again.
    return _read(path, num_dims=3)


def read_labels(path: Path, count: int, num_classes: int) -> Tensor:
    """As many labels as there are images: uint8, (count,)."""
    labels = _read(path, num_dims=1)
    if len(labels) != count:
        raise TaskError(f"{path} holds {len(labels)} labels for {count} images.", fix="Do the files belong together?")
    if int(labels.max()) >= num_classes:
        raise TaskError(
            f"{path} holds the label {int(labels.max())}.",
            f"There are {num_classes} classes, 0 to {num_classes - 1}.",
            "Is it the right file?",
        )
    return labels


def _read(path: Path, *, num_dims: int) -> Tensor:
    head = 4 + 4 * num_dims
    try:
        with gzip.open(path, "rb") as file:
            header = file.read(head)
            if len(header) < head or header[:4] != bytes((0, 0, UNSIGNED_BYTES, num_dims)):
                raise TaskError(
                    f"{path} begins with {header[:4].hex(' ') or 'nothing'}, not 00 00 08 {num_dims:02x}.",
                    f"So it is no idx{num_dims} file of bytes.",
                    "Use the file as it was published.",
                )
            sizes = struct.unpack(f">{num_dims}I", header[4:])
            wanted = math.prod(sizes)
            if not 0 < wanted <= MOST_BYTES:
                raise TaskError(f"{path} claims the sizes {sizes}.", fix="Use the file as it was published.")
            # One byte more than there should be tells a file that is too long.
            content = file.read(wanted + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    if len(content) != wanted:
        longer = "more" if len(content) > wanted else f"{len(content):,}"
        raise TaskError(
            f"{path} claims {' x '.join(map(str, sizes))} = {wanted:,} bytes and holds {longer}.",
            fix="Was it cut off while it was copied?",
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(sizes)


def _unreadable(path: Path, error: Exception) -> TaskError:
    return TaskError(
        f"{path} can't be read: {error or type(error).__name__}.", fix="Use the file as it was published, in gzip."
    )
