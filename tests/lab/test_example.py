"""The worked example agrees with the printed digits of the sources."""

from __future__ import annotations

import json

import pytest
import torch

from torchdecay.errors import DecayError
from torchdecay.lab.example import Matrix, worked_example

START = """
.4386  .0597 .3980 .7380 .1825 | .1755 .5316 .5318 .6344 .8494
.7245  .6110 .7224 .3230 .3618 | .2283 .2937 .6310 .0921 .4337
"""
WITHOUT = """
.2489 -.1300 .2084 .5483 -.0072 | .0653 .4214 .4217 .5243 .7393
.5694  .4559 .5674 .1679  .2067 | .0317 .0972 .4345 -.1044 .2372
"""
WITH = """
.2050 -.1360 .1686 .4745 -.0254 | .0478 .3683 .3685 .4608 .6544
.4969  .3948 .4951 .1356  .1705 | .0089 .0678 .3714 -.1136 .1938
"""


def printed(text: str) -> list[list[str]]:
    return [row.split() for line in text.strip().splitlines() for row in line.split("|")]


def rounded(matrix: Matrix) -> list[list[str]]:
    return [[f"{value:.4f}".replace("0.", ".", 1) for value in row] for row in matrix]


def test_m3_the_worked_example_to_the_printed_digit() -> None:
    """Sixty printed numbers: the start, after a step without decay, after a step with decay 1."""
    example = worked_example()
    assert rounded(example.weights) == printed(START)
    assert rounded(example[0.0].weights) == printed(WITHOUT)
    assert rounded(example[1.0].weights) == printed(WITH)


def test_m3_every_step_adds_up() -> None:
    """w − lr·d(loss)/dw − lr·d(penalty)/dw is the new weight: float64, so 1e-15 is rounding."""
    example = worked_example(0.0, 0.3, 1.0)
    for update in example.updates:
        w, loss_step, decay_step, after = (
            torch.tensor(matrix, dtype=torch.float64)
            for matrix in (example.weights, update.loss_step, update.decay_step, update.weights)
        )
        torch.testing.assert_close(w - loss_step - decay_step, after, rtol=0, atol=1e-15)


def test_m5_3_both_gradients_are_with_respect_to_the_weights() -> None:
    """d(loss)/dw is the column sums of x; d(penalty)/dw is wd·w: values and text show them side by side."""
    example = worked_example()
    x, w = torch.tensor(example.inputs).double(), torch.tensor(example.weights).double()
    update = example[1.0]
    sums = x.sum(0).unsqueeze(1).expand(4, 5)
    torch.testing.assert_close(torch.tensor(update.loss_gradient).double(), sums, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.tensor(update.decay_term).double(), w, rtol=0, atol=0)
    heads = [line for line in example.text.splitlines() if "d(loss)/dw" in line and "d(penalty)/dw = wd * w" in line]
    assert len(heads) == 2


def test_the_text_shows_the_printed_digits_and_fits_a_terminal() -> None:
    """Someone with the sources at hand finds the same digits; tables are not broken by an 80-column window."""
    lines = worked_example().text.splitlines()
    assert any(line.split() == printed(WITH)[0] for line in lines)
    tables = [line for line in lines if line.count(".") >= 5 and "(" not in line]
    assert len(tables) > 20 and max(map(len, tables)) <= 80


def test_the_example_is_json() -> None:
    """Programs get the same numbers as people."""
    example = worked_example(0.5)
    data = json.loads(example.to_json())
    assert data["updates"][0]["weights"][0] == list(example[0.5].weights[0])


def test_only_what_was_computed_can_be_read() -> None:
    """Asking for another weight decay is a KeyError, not a wrong answer."""
    with pytest.raises(KeyError, match=r"weight decay 0\.7"):
        worked_example()[0.7]


@pytest.mark.parametrize("wd", [-1.0, float("nan"), 10.0])
def test_a_weight_decay_out_of_range_is_refused(wd: float) -> None:
    """lr·wd of 1 or more would flip signs."""
    with pytest.raises(DecayError):
        worked_example(wd)
