"""Fashion-MNIST from files: found, drawn by the seed, labeled wrong as said, and told of when absent."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW

from idx_files import write_fashion, write_idx
from plain_loop import plain_losses
from torchdecay.errors import TaskError
from torchdecay.lab.comparisons.compare import compare
from torchdecay.lab.tasks import fashion as module
from torchdecay.lab.tasks.fashion import DEBIAN_FOLDER, FILES, VARIABLE, fashion
from torchdecay.lab.tasks.registry import task_named
from torchdecay.lab.training.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fashion(tmp_path_factory.mktemp("fashion"))


def test_two_fifths_of_the_training_labels_are_wrong_and_no_other(folder: Path) -> None:
    """The brightness of these images is their class, so the right label can be read off."""
    data = task_named("fashion", data=folder).data(0)
    assert data.validation is not None
    assert data.sizes == {"train": 2000, "test": 2000, "validation": 1000}
    brightness = torch.cat([x.flatten(1).mean(1) for x, _ in data.parts.values()])
    classes = ((brightness - brightness.min()) / (brightness.max() - brightness.min()) * 9).round().long()
    wrong = classes != torch.cat([y for _, y in data.parts.values()])
    assert wrong[:2000].sum() == 800 and wrong[2000:].sum() == 0


def test_the_seed_draws_images_and_wrong_labels(folder: Path) -> None:
    """The same seed the same data; pixels are scaled by the training rows."""
    source = fashion(folder).data
    one, again, other = source(0), source(0), source(1)
    assert torch.equal(one.train[0], again.train[0]) and torch.equal(one.train[1], again.train[1])
    assert not torch.equal(one.train[0], other.train[0])
    assert one.train[0].shape == (2000, 1, 28, 28)
    assert abs(float(one.train[0].mean())) < 1e-4 and abs(float(one.train[0].std()) - 1) < 1e-4


@pytest.mark.long
def test_the_task_trains_and_travels_to_a_worker(folder: Path) -> None:
    """Four steps are those of AdamW at 1e-3; the data function pickles, as engines with processes need."""
    task = dataclasses.replace(fashion(folder), num_steps=4, data=pickle.loads(pickle.dumps(fashion(folder).data)))
    run = train(task, "decoupled:30", with_line=False)
    plain = plain_losses(task, lambda params: AdamW(params, lr=1e-3, weight_decay=0.0), kept=1 - 1e-3 * 30)
    assert run.validation_loss is not None
    assert [run.train_loss[-1], run.test_loss[-1], run.validation_loss[-1]] == pytest.approx(plain, rel=1e-5)


def test_the_environment_variable_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an option; an option wins over it."""
    monkeypatch.setenv(VARIABLE, str(folder))
    assert task_named("fashion").data(0).sizes["train"] == 2000
    with pytest.raises(TaskError, match="/no/such/folder"):
        fashion("/no/such/folder")


def test_debians_folder_is_where_it_is_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither option nor variable."""
    assert Path("/usr/share/datasets/fashion-mnist") == DEBIAN_FOLDER
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(module, "DEBIAN_FOLDER", folder)
    assert fashion().data(0).sizes["train"] == 2000


def test_missing_files_are_told_with_every_way_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, the option, the variable, and which file is missing."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path / "absent")
    with pytest.raises(TaskError, match=r'absent" is not there') as caught:
        fashion()
    for wanted in ("apt install dataset-fashion-mnist", "--data FOLDER", VARIABLE, *FILES):
        assert wanted in str(caught.value)
    write_fashion(tmp_path)
    (tmp_path / FILES[2]).unlink()
    with pytest.raises(TaskError, match=f"has no {FILES[2]}"):
        fashion(tmp_path)
    with pytest.raises(TaskError, match="is no folder"):
        fashion(tmp_path / FILES[0])


def test_another_data_set_is_told(tmp_path: Path) -> None:
    """Images of another size, or too few of them."""
    write_fashion(tmp_path, side=14)
    with pytest.raises(TaskError, match="3000 images of 14 x 14"):
        fashion(tmp_path).data(0)
    write_fashion(tmp_path, test=30)
    with pytest.raises(TaskError, match="30 images of 28 x 28"):
        fashion(tmp_path).data(0)


def test_labels_that_do_not_belong_are_told(folder: Path, tmp_path: Path) -> None:
    """One file of another data set among the four."""
    write_fashion(tmp_path)
    write_idx(tmp_path / FILES[1], torch.zeros(7))
    with pytest.raises(TaskError, match="7 labels for 3000 images"):
        fashion(tmp_path).data(0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not (DEBIAN_FOLDER / FILES[0]).is_file(), reason="needs Debian's package dataset-fashion-mnist")
def test_decay_decides_what_is_learned_from_wrong_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean accuracy without decay about .62, with 1 about .74, with 3 about .77."""
    monkeypatch.delenv(VARIABLE, raising=False)
    result = compare(fashion())
    means = {label: result.mean_and_spread(label, "test_score")[0] for label in ("none", "decoupled:1", "decoupled:3")}
    assert means["decoupled:1"] > means["none"] + 0.07 and means["decoupled:3"] > means["none"] + 0.1
