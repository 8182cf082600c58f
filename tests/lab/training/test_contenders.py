"""What people type or pass becomes contenders with distinct labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torchdecay.errors import DecayError, TaskError
from torchdecay.lab.training.contenders import ByHand, as_contender, as_contenders
from torchdecay.plans.forms.l2 import coupled, decoupled, native
from torchdecay.plans.planning import plan


@pytest.mark.parametrize(
    ("given", "label", "what", "printed"),
    [
        (None, "none", None, "none"),
        ("none", "none", None, "none"),
        (0, "none", None, "none"),
        (0.1, "native(0.1)", native(0.1), "native(0.1)"),
        ("decoupled:0.1", "decoupled:0.1", decoupled(0.1), "decoupled(0.1)"),
        (decoupled(0.1), "decoupled(0.1)", decoupled(0.1), "decoupled(0.1)"),
        ("by_hand:0.1", "by_hand:0.1", ByHand(0.1), "by_hand(0.1)"),
    ],
)
def test_a_contender_is_what_was_meant(given: Any, label: str, what: Any, printed: str) -> None:
    """Spellings keep their spelling as label; values are labeled as they print."""
    contender = as_contender(given)
    assert (contender.label, contender.what, contender.printed) == (label, what, printed)


def test_by_hand_plans_as_coupled_decay() -> None:
    """The table of who decays is the same, whoever adds wd·w to the gradient."""
    assert as_contender("by_hand:0.1").decay == coupled(0.1)


def test_a_plan_is_a_contender_and_one_without_decay_is_none() -> None:
    """Comparing rules means comparing plans; a plan in which nothing decays serves as baseline."""
    model = torch.nn.Linear(2, 1)
    assert as_contender(plan(model, decoupled(0.1))).printed == "plan with decoupled(0.1)"
    assert as_contender(plan(model, None)).printed == "none"


def test_a_mapping_gives_labels() -> None:
    """Two plans with the same decay can be told apart by name."""
    made = as_contenders({"all": decoupled(0.1), "nothing": None})
    assert [(one.label, one.printed) for one in made] == [("all", "decoupled(0.1)"), ("nothing", "none")]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ([], TaskError, "no decay to compare"),
        (["none", 0], TaskError, '"none" is asked for twice'),
        (["decoupled:5", "decoupled:5.0"], TaskError, '"decoupled:5" and "decoupled:5.0" are the same'),
        ([0.1, native(0.1)], TaskError, "are the same|asked for twice"),
        ("decoupled:0.1", TaskError, "Give a list"),
        (3, TaskError, "Give a list"),
        (["decopled:0.1"], DecayError, 'Nearest: "decoupled"'),
        (["byhand:0.1"], DecayError, 'Nearest: "by_hand"'),
        (["by_hand"], DecayError, 'Write "by_hand:0.1"'),
        (["by_hand:-1"], DecayError, "outside its range"),
        (["by_hand:nan"], DecayError, "NaN or infinite"),
        ([True], DecayError, "of type bool"),
    ],
)
def test_contenders_that_mean_nothing_are_refused(given: Any, error: type[Exception], said: str) -> None:
    """A typo costs no training."""
    with pytest.raises(error, match=said):
        as_contenders(given)
