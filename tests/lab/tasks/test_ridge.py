"""Ridge regression: every road of decay ends at the closed form, and decay helps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from torchdecay.errors import DecayError
from torchdecay.lab.tasks import ridge
from torchdecay.lab.tasks.task import model_of
from torchdecay.lab.training.contenders import as_contender
from torchdecay.lab.training.setup import Setup
from torchdecay.lab.training.train import train


def trained(decay: str, seed: int = 0) -> tuple[torch.Tensor, float]:
    """The weights at the end of a run, by plain steps on the whole batch, and the last training loss."""
    task = ridge.ridge()
    setup = Setup.make(task, model_of(task, seed), as_contender(decay))
    x, y = task.data(seed).train
    for _ in range(task.num_steps):
        setup.optimizer.zero_grad()
        loss = task.loss(setup.model(x), y)
        total = loss if setup.handle is None else loss + setup.handle.penalty(setup.model)
        total.backward()
        for weight, wd in setup.by_hand:
            weight.grad.add_(weight.detach(), alpha=wd)
        setup.optimizer.step()
    return next(iter(setup.model.parameters())).detach()[0], float(loss.detach())


@pytest.mark.long
@pytest.mark.parametrize("decay", ["none", "native:0.64", "coupled:10", "decoupled:0.64", "penalized:2", "by_hand:2"])
def test_training_ends_at_the_closed_form(decay: str) -> None:
    """To 1e-11, for the weakest and the strongest decay alike: what sweeps and slopes are checked against."""
    wd = 0.0 if decay == "none" else float(decay.partition(":")[2])
    weights, _ = trained(decay)
    assert float((weights - ridge.solution(0, wd)).abs().max()) < 1e-11


@pytest.mark.long
def test_the_training_loop_ends_there_too() -> None:
    """The curves of `train` end at the losses of the closed form, on all three parts."""
    run = train(ridge.ridge(), "native:0.4", seed=3, with_line=False)
    weights, data = ridge.solution(3, 0.4), ridge.data(3)
    for part, (x, y) in data.parts.items():
        exact = float((x @ weights - y).square().mean() / 2)
        assert getattr(run, f"{part}_loss")[-1] == pytest.approx(exact, abs=1e-10)


def test_the_closed_form_is_that_of_scikit_learn() -> None:
    """Ridge(alpha=n·wd) without an intercept."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = ridge.data(1).train
    fitted = linear_model.Ridge(alpha=0.4 * len(x), fit_intercept=False).fit(x.numpy(), y.numpy())
    assert float((torch.from_numpy(fitted.coef_) - ridge.solution(1, 0.4)).abs().max()) < 1e-12


def test_the_data_is_conditioned_as_said() -> None:
    """Eigenvalues from 0.5 to 5 are why the runs converge; the seed draws everything."""
    x, _ = ridge.data(0).train
    eigenvalues = torch.linalg.eigvalsh(x.T @ x / len(x))
    assert float(eigenvalues[0]) == pytest.approx(0.5) and float(eigenvalues[-1]) == pytest.approx(5)
    assert torch.equal(ridge.data(0).train[0], x) and not torch.equal(ridge.data(1).train[0], x)
    assert ridge.data(0).sizes == {"train": 25, "test": 200, "validation": 200}


def losses(wd: float) -> Iterator[float]:
    for seed in range(30):
        x, y = ridge.data(seed).test
        yield float((x @ ridge.solution(seed, wd) - y).square().mean() / 2)


def test_decay_matters_and_the_best_value_is_the_one_in_the_notes() -> None:
    """Over 30 draws the mean test loss is 14.9 without, 12.7 at 0.64, 16.2 at 4."""
    means = {wd: sum(losses(wd)) / 30 for wd in (0.0, 0.32, 0.64, 1.28, 4.0)}
    assert min(means, key=means.__getitem__) == 0.64
    assert means[0.64] < 0.9 * means[0.0] and means[0.64] < 0.9 * means[4.0]
    assert any("0.64" in note for note in ridge.ridge().notes)


def test_a_closed_form_for_no_number_is_refused() -> None:
    """A negative decay has no minimum."""
    with pytest.raises(DecayError, match="outside its range"):
        ridge.solution(0, -1.0)
