"""`csv`: the user's own table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchdecay.errors import need
from torchdecay.lab.tasks.parts import accuracy, mlp, r_squared
from torchdecay.lab.tasks.table_file import Kind, Table, read_table
from torchdecay.lab.tasks.task import Data, Task

TEST_SHARE = 0.25
MOST_LEVELS = 20


def table(path: str | Path, target: str, *, kind: Kind | None = None, categorical: Sequence[str] = ()) -> Task:
    """Predict one column of a CSV file from the others with a small MLP; see `read_table` for what may be said of it.

    Missing numbers become the column's median, numbers are scaled to mean 0 and variance 1, categories become one
    column per value (the rare ones share one); all that is learned from the training rows. A quarter of the rows,
    drawn by the seed, is for testing. The network has two hidden layers whose width grows with the number of rows and
    columns, from 16 to 256.
    """
    made = read_table(path, target, kind=kind, categorical=categorical)
    source = _Source(made)
    first = source(0)
    num_rows, num_inputs = first.train[0].shape
    num_outputs = len(made.classes) or 1
    width = hidden_width(num_rows, num_inputs)
    classes = made.classes
    shares = made.target.value_counts(normalize=True)
    notes = [
        f"{made.path.name}: {target} is predicted from {len(made.numeric)} numeric and {len(made.categorical)} "
        f"categorical columns, by an MLP {num_inputs}-{width}-{width}-{num_outputs}.",
        *made.notes,
    ]
    if classes:
        notes.append(f"Always answering {shares.index[0]} is right in {shares.iloc[0]:.1%} of all rows.")
    else:
        notes.append("The loss is the squared error in units of the target's variance; 1 is no better than its mean.")
    batch_size = min(128, max(8, num_rows // 4))
    return Task(
        name="csv",
        title=f"{made.path.name}: {target}",
        data=source,
        model=partial(mlp, num_inputs, width, width, num_outputs),
        loss=nn.functional.cross_entropy if classes else mse,
        num_steps=min(3000, max(1000, 20 * (num_rows // batch_size))),
        batch_size=batch_size,
        num_threads=1,
        eval_every=20,
        score=accuracy if classes else r_squared,
        score_name="accuracy" if classes else "R²",
        decays=("none", "decoupled:0.1", "decoupled:1", "decoupled:10"),
        notes=tuple(notes),
    )


def hidden_width(num_rows: int, num_inputs: int) -> int:
    """A power of two from 16 to 256: at least √rows, and no less than the inputs."""
    wanted = max(math.sqrt(num_rows), num_inputs, 16)
    return min(256, 1 << math.ceil(math.log2(wanted)))


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of a single output."""
    return nn.functional.mse_loss(outputs.squeeze(1), targets)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A seed to a split of the table, prepared by what its training rows show."""

    table: Table

    def __call__(self, seed: int) -> Data:
        made = self.table
        # scikit-learn takes 32 bits.
        train, test = need("sklearn.model_selection", "lab").train_test_split(
            range(len(made.frame)), test_size=TEST_SHARE, random_state=seed % 2**32, stratify=self._strata()
        )
        prepare = self._preparation()
        x_train = torch.tensor(prepare.fit_transform(made.frame.iloc[train]), dtype=torch.float32)
        x_test = torch.tensor(prepare.transform(made.frame.iloc[test]), dtype=torch.float32)
        y = self._targets(train)
        return Data(train=(x_train, y[train]), test=(x_test, y[test]))

    def _strata(self) -> Any:
        """Classes, so that each is in both parts; None where one has a single row or there are too many."""
        if self.table.kind == "regression":
            return None
        counts = self.table.target.value_counts()
        room = math.floor(TEST_SHARE * len(self.table.target))
        return self.table.target if counts.min() > 1 and len(counts) <= room else None

    def _targets(self, train: list[int]) -> Tensor:
        if self.table.kind == "regression":
            y = torch.tensor(self.table.target.to_numpy(), dtype=torch.float64)
            # With equal training targets there is no scale to divide by.
            return ((y - y[train].mean()) / (y[train].std() or 1.0)).float()
        numbers = {name: i for i, name in enumerate(self.table.classes)}
        return torch.tensor([numbers[name] for name in self.table.target])

    def _preparation(self) -> Any:
        """Every seed gives the same columns: values come from the whole file, all else from the training rows."""
        pipeline = need("sklearn.pipeline", "lab").make_pipeline
        imputer = need("sklearn.impute", "lab").SimpleImputer
        preprocessing = need("sklearn.preprocessing", "lab")
        levels = self.table.levels
        numeric = pipeline(imputer(strategy="median", keep_empty_features=True), preprocessing.StandardScaler())
        categorical = pipeline(
            imputer(strategy="constant", fill_value=MISSING),
            preprocessing.OneHotEncoder(
                categories=[[*levels[name], MISSING] for name in self.table.categorical],
                max_categories=MOST_LEVELS,
                sparse_output=False,
            ),
        )
        return need("sklearn.compose", "lab").ColumnTransformer(
            [
                ("numeric", numeric, list(self.table.numeric)),
                ("categorical", categorical, list(self.table.categorical)),
            ]
        )


MISSING = "\N{REPLACEMENT CHARACTER} missing"
"""What a missing category is called; no column holds this as a value of its own."""
