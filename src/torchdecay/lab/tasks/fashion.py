"""`fashion`: Fashion-MNIST with wrong labels, from Debian's package or from files of one's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.idx import read_images, read_labels
from torchdecay.lab.tasks.parts import Classification, mlp
from torchdecay.lab.tasks.task import Data, Task
from torchdecay.text import repr_quoted

TRAIN_ROWS, VALIDATION_ROWS, TEST_ROWS = 2000, 1000, 2000
WRONG_SHARE = 0.4
CLASSES, SIDE = 10, 28
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
VARIABLE = "TORCHDECAY_FASHION_MNIST"
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def fashion(folder: str | Path | None = None) -> Task:
    """Fashion-MNIST: 2,000 images to train on, 40 % of them labeled wrong; validation and test labels are right.

    Args:
        folder: holds the four idx.gz files under their usual names; None takes the folder that the environment
            variable TORCHDECAY_FASHION_MNIST names, else that of Debian's package dataset-fashion-mnist.
    """
    return Classification(
        name="fashion",
        title="Fashion-MNIST, 40 % of the training labels wrong",
        data=_Source(find_files(folder)),
        model=model,
        num_steps=1000,
        batch_size=128,
        eval_every=50,
        decays=("none", "decoupled:1", "decoupled:3", "decoupled:10"),
        notes=(
            "800 of the 2,000 training labels were replaced by another class, so a network that fits them all has "
            "learned mistakes by heart. The validation and test labels are the right ones.",
            "The images are drawn by the seed: 2,000 + 1,000 from the data set's training part, 2,000 from its test "
            "part.",
        ),
    )


def find_files(folder: str | Path | None = None) -> Path:
    """The folder with the four files."""
    named = folder or os.environ.get(VARIABLE)
    place = Path(named).expanduser() if named else DEBIAN_FOLDER
    missing = [name for name in FILES if not (place / name).is_file()]
    if not missing:
        return place
    what = f"has no {missing[0]}" if place.is_dir() else "is no folder" if place.exists() else "is not there"
    raise TaskError(
        f"the task fashion needs the files of Fashion-MNIST, and {repr_quoted(str(place))} {what}.",
        f"Wanted: {', '.join(FILES)}.",
        "On Debian and Ubuntu: apt install dataset-fashion-mnist. With files of your own: --data FOLDER "
        f'(in Python task_named("fashion", data=folder)), or set {VARIABLE}.',
    )


@dataclass(frozen=True)
class _Source:
    """A seed to a draw of images and of wrong labels."""

    folder: Path

    def __call__(self, seed: int) -> Data:
        generator = torch.Generator().manual_seed(seed)
        x, y = self._rows("train", TRAIN_ROWS + VALIDATION_ROWS, generator)
        x_test, y_test = self._rows("t10k", TEST_ROWS, generator)
        noisy = y[:TRAIN_ROWS].clone()
        count = round(WRONG_SHARE * TRAIN_ROWS)
        noisy[:count] += torch.randint(1, CLASSES, (count,), generator=generator)
        noisy[:count] %= CLASSES
        mean, spread = x[:TRAIN_ROWS].mean(), x[:TRAIN_ROWS].std()
        return Data(
            train=((x[:TRAIN_ROWS] - mean) / spread, noisy),
            test=((x_test - mean) / spread, y_test),
            validation=((x[TRAIN_ROWS:] - mean) / spread, y[TRAIN_ROWS:]),
        )

    def _rows(self, part: str, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Some rows of one part, in an order of their own."""
        images_file = self.folder / f"{part}-images-idx3-ubyte.gz"
        images = read_images(images_file)
        labels = read_labels(self.folder / f"{part}-labels-idx1-ubyte.gz", len(images), CLASSES)
        if images.shape[1:] != (SIDE, SIDE) or len(images) < count:
            raise TaskError(
                f"{images_file} holds {len(images)} images of {images.shape[1]} x {images.shape[2]}.",
                f"The task takes {count} images of {SIDE} x {SIDE}.",
                "Is it Fashion-MNIST?",
            )
        picked = torch.randperm(len(images), generator=generator)[:count]
        return images[picked].unsqueeze(1).float() / 255, labels[picked].long()


def model() -> nn.Module:
    """Two convolutions, each followed by pooling, and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *mlp(16 * (SIDE // 4) ** 2, 64, CLASSES),
    )
