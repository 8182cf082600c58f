"""References and masks are values made from what people write."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchdecay as td
from torchdecay.errors import DecayError
from torchdecay.plans.references import (
    Average,
    Bound,
    BoundMask,
    File,
    Initial,
    SpareRows,
    Tensors,
    as_mask,
    as_reference,
    file_sha256,
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    torch.save(nn.Linear(2, 1).state_dict(), path)
    return path


def test_a_file_is_remembered_with_its_hash(weights: Path) -> None:
    """A reference that changed on disk would silently pull elsewhere; its hash tells."""
    found = as_reference(weights)
    assert found == as_reference(str(weights)) == File(str(weights), hashlib.sha256(weights.read_bytes()).hexdigest())
    weights.write_bytes(weights.read_bytes() + b" ")
    assert as_reference(weights) != found


def test_the_hash_reads_files_larger_than_one_block(tmp_path: Path) -> None:
    """A checkpoint of gigabytes is hashed block by block, to the same digest."""
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * 10_000)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin", ".ckpt"])
def test_a_path_that_leads_nowhere_is_an_error_and_not_a_name(suffix: str) -> None:
    """A misspelled file must not turn into a name that somebody should bind."""
    with pytest.raises(DecayError, match="does not exist"):
        as_reference(f"no/such/file{suffix}")


def test_a_folder_is_called_a_folder(tmp_path: Path) -> None:
    """The message is about what is there."""
    with pytest.raises(DecayError, match="is a folder"):
        as_reference(tmp_path)


def test_words_and_mappings_are_told_apart() -> None:
    """ "initial" is the start, another word a name to bind, a mapping the tensors themselves."""
    tensors = {"weight": torch.ones(2)}
    assert as_reference("initial") == Initial()
    assert as_reference("pretrained") == Bound("pretrained")
    found = as_reference(tensors)
    assert isinstance(found, Tensors)
    assert found.tensors is tensors
    assert as_reference(found) is found
    assert as_reference(Average(0.5)) == Average(0.5)


@pytest.mark.parametrize(
    "bad",
    ["", None, True, float("nan"), {}, [torch.ones(2)], torch.ones(2), {"epoch": 3}, nn.Linear(1, 1)],
    ids=lambda b: repr(b)[:20],
)
def test_anything_else_is_no_reference(bad: Any) -> None:
    """An empty mapping too: it would pull everything toward zero under another name."""
    with pytest.raises(DecayError, match="the reference is"):
        td.toward(bad, 0.1)


def test_a_number_as_reference_may_be_any_that_is_finite() -> None:
    """Also below 0; what is none is told so without a bound that there is not."""
    assert repr(td.toward(-2.5, 0.1)) == "toward(-2.5, 0.1)"
    with pytest.raises(DecayError, match=r"Give a finite number\.$"):
        td.toward(float("inf"), 0.1)


def test_a_whole_checkpoint_in_the_wrong_place_makes_a_short_message() -> None:
    """The message says what is wrong, and does not print a model."""
    with pytest.raises(DecayError) as caught:
        as_reference({"model": {f"layer{i}": torch.ones(50) for i in range(50)}, "epoch": 3})
    assert len(str(caught.value)) < 600


def test_spare_rows_are_whole_numbers_from_zero() -> None:
    """Negative rows would count from the end of each tensor, whatever its size."""
    assert td.spare_rows(0, 5) == SpareRows((0, 5))
    for bad in ((), (-1,), (1.0,), ("0",), (True,), ([0],)):
        with pytest.raises(DecayError, match="spare_rows"):
            td.spare_rows(*bad)


def test_masks_from_what_people_write() -> None:
    """None, rows, or a name to bind; a tensor is refused, because a plan could not be written down with it."""
    assert as_mask(None) is None
    assert as_mask("keep") == BoundMask("keep")
    assert as_mask(td.spare_rows(1)) == SpareRows((1,))
    for bad in ("", 0, torch.ones(3, dtype=torch.bool), [True]):
        with pytest.raises(DecayError, match="the mask is"):
            as_mask(bad)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Initial(), '"initial"'),
        (Bound("pretrained"), "'pretrained'"),
        (File("a/b.pt", "00"), "'a/b.pt'"),
        (Average(0.999), "average(0.999)"),
        (Tensors({"a": torch.ones(1)}), "<1 tensors>"),
        (SpareRows((0, 2)), "spare_rows(0, 2)"),
        (BoundMask("keep"), "'keep'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_references_and_masks_print_as_they_are_written(value: Any, text: str) -> None:
    """Inside `toward(...)` they read as the argument that makes them."""
    assert repr(value) == text
