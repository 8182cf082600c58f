"""idx files are read as they are, and what is none is told."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.idx import read_images, read_labels

IMAGES = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
HEADER = bytes((0, 0, 8, 3)) + b"".join(size.to_bytes(4, "big") for size in (2, 3, 4))


def test_images_and_labels_are_read(tmp_path: Path) -> None:
    """Sizes are big-endian, rows come first."""
    (tmp_path / "images.gz").write_bytes(gzip.compress(HEADER + bytes(range(24))))
    (tmp_path / "labels.gz").write_bytes(gzip.compress(bytes((0, 0, 8, 1, 0, 0, 0, 2, 7, 9))))
    assert torch.equal(read_images(tmp_path / "images.gz"), IMAGES)
    assert read_labels(tmp_path / "labels.gz", 2, 10).tolist() == [7, 9]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"begins with nothing, not 00 00 08 03"),
        (gzip.compress(b""), r"begins with nothing, not 00 00 08 03"),
        (gzip.compress(bytes((0, 0, 8, 1)) + bytes(20)), r"begins with 00 00 08 01, not 00 00 08 03"),
        (gzip.compress(bytes((0, 0, 13, 3)) + bytes(20)), r"begins with 00 00 0d 03"),
        (gzip.compress(HEADER + bytes(23)), r"claims 2 x 3 x 4 = 24 bytes and holds 23"),
        (gzip.compress(HEADER + bytes(25)), r"= 24 bytes and holds more"),
        (gzip.compress(bytes((0, 0, 8, 3)) + bytes(12)), r"claims the sizes \(0, 0, 0\)"),
        (gzip.compress(bytes((0, 0, 8, 3)) + b"\xff" * 12), r"claims the sizes"),
        (gzip.compress(HEADER + bytes(24))[:-9], r"can't be read: "),
        (HEADER + bytes(24), r"can't be read: Not a gzipped file"),
        (b"\x1f\x8b\x08" + b"\x00" * 7 + b"\xff" * 30, r"can't be read: "),
    ],
    ids=[
        "empty", "empty gzip", "labels", "floats", "short", "long", "no sizes", "huge", "cut off", "no gzip", "garbage",
    ],
)  # fmt: skip
def test_a_file_that_is_no_idx_file_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    """Cut off, of another kind, not compressed, or promising more memory than there is."""
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(TaskError, match=said):
        read_images(tmp_path / "x.gz")


@pytest.mark.parametrize(("count", "classes", "said"), [(3, 10, "2 labels for 3 images"), (2, 9, "the label 9")])
def test_labels_of_something_else_are_told(tmp_path: Path, count: int, classes: int, said: str) -> None:
    """The files of two data sets in one folder."""
    (tmp_path / "labels.gz").write_bytes(gzip.compress(bytes((0, 0, 8, 1, 0, 0, 0, 2, 7, 9))))
    with pytest.raises(TaskError, match=said):
        read_labels(tmp_path / "labels.gz", count, classes)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    """Images are kept between runs, but not longer than the file."""
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(HEADER + bytes(24)))
    assert read_images(path) is read_images(path)
    path.write_bytes(gzip.compress(HEADER + bytes(range(24))))
    assert torch.equal(read_images(path), IMAGES)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """The folder in place of the file."""
    with pytest.raises(TaskError, match="can't be read"):
        read_images(tmp_path)
    with pytest.raises(TaskError, match="can't be read"):
        read_images(tmp_path / "absent")
