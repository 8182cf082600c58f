"""`ridge`: linear regression with decay, whose solution is known in closed form."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import SGD

from torchdecay.arguments import check_number
from torchdecay.lab.tasks.parts import r_squared
from torchdecay.lab.tasks.task import Data, Task

TRAIN_ROWS, OTHER_ROWS, COLUMNS = 25, 200, 20
NOISE = 4.0
EIGENVALUES = (0.5, 5.0)
"""Smallest and largest of the Hessian XᵀX/n of the training rows."""
LEARNING_RATE = 0.05


def ridge() -> Task:
    """Ridge regression by gradient descent: 25 rows, 20 columns, much noise, everything in float64.

    After its 1,200 epochs a run has converged: for weight decay up to 10, coupled, decoupled or as a penalty alike,
    the weights agree with `solution(seed, wd)` to 1e-12.
    """
    return Task(
        name="ridge",
        title="Ridge regression: the best weights are known exactly",
        data=data,
        model=model,
        loss=half_mse,
        optimizer=partial(SGD, lr=LEARNING_RATE),
        num_steps=1200,
        eval_every=50,
        score=r_squared,
        score_name="R²",
        num_threads=1,
        decays=("none", "native:0.1", "native:0.4", "native:1", "native:4"),
        notes=(
            "Plain gradient descent on ½·mean((Xw − y)²) in float64, all rows at once. Where it ends is known: "
            "w = (XᵀX/n + wd·I)⁻¹Xᵀy/n, which is scikit-learn's Ridge(alpha=n·wd) without an intercept.",
            f"The weights behind the data have mean square 1 and the noise {NOISE**2:g}, so on average over data the "
            f"best weight decay is {NOISE**2:g}/{TRAIN_ROWS} = {NOISE**2 / TRAIN_ROWS:g}.",
        ),
    )


def data(seed: int) -> Data:
    """Targets Xw + noise; the training inputs are such that XᵀX/n has eigenvalues from 0.5 to 5, evenly in the log."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    low, high = EIGENVALUES
    eigenvalues = low * (high / low) ** torch.linspace(0, 1, COLUMNS, dtype=torch.float64)
    directions = torch.linalg.qr(normal(COLUMNS, COLUMNS)).Q.T
    # Of the same length for every seed, or else the best decay would differ more between seeds than decays do.
    weights = normal(COLUMNS)
    weights *= COLUMNS**0.5 / weights.norm()

    def rows(unscaled: Tensor) -> tuple[Tensor, Tensor]:
        x = unscaled * eigenvalues.sqrt() @ directions
        return x, x @ weights + NOISE * normal(len(x))

    return Data(
        train=rows(torch.linalg.qr(normal(TRAIN_ROWS, COLUMNS)).Q * TRAIN_ROWS**0.5),
        test=rows(normal(OTHER_ROWS, COLUMNS)),
        validation=rows(normal(OTHER_ROWS, COLUMNS)),
    )


def model() -> nn.Module:
    """One linear layer without bias."""
    return nn.Linear(COLUMNS, 1, bias=False, dtype=torch.float64)


def half_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """½·mean(residual²): its gradient is Xᵀ(Xw − y)/n."""
    return (outputs.squeeze(1) - targets).square().mean() / 2


def solution(seed: int, wd: float) -> Tensor:
    r"""The weights at which training with this weight decay ends.

    $$w = (X^\top X/n + \lambda I)^{-1} X^\top y/n$$

    X and y are the n training rows that the seed draws, λ the weight decay.

    Args:
        seed: of the data.
        wd: at least 0.

    Returns:
        Float64, one weight per column.

    Raises:
        DecayError: wd is negative, NaN, infinite or not a number.

    Example:
        >>> from torchdecay.lab.tasks import ridge
        >>> w = ridge.solution(0, 0.1)
        >>> x, y = ridge.data(0).train
        >>> gradient = x.T @ (x @ w - y) / len(x) + 0.1 * w
        >>> bool(gradient.abs().max() < 1e-12)
        True

    Reference: Hoerl and Kennard, Ridge regression: biased estimation for nonorthogonal problems, Technometrics 1970.
    """
    wd = check_number(wd, "ridge")
    x, y = data(seed).train
    hessian = x.T @ x / len(x) + wd * torch.eye(COLUMNS, dtype=x.dtype)
    weights: Tensor = torch.linalg.solve(hessian, x.T @ y / len(x))
    return weights
