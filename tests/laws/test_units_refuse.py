"""Whatever is given to the functions of units, they answer or say in a sentence what is wrong."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchdecay as td
from torchdecay.errors import TorchdecayError
from torchdecay.observe.units import context, scaling_rules, suggesting
from torchdecay.observe.units.graph import UNITS

pytestmark = pytest.mark.long

RUNS = [
    td.Run(steps=10, lr=1e-3),
    td.Run(steps=2**62, epochs=3, lr=1e-30),
    td.Run(epochs=1e18, batch_size=1, num_samples=1, lr=1e30),
]
RUNS += [td.Run(steps=100, lr=0.1, tokens_per_sample=2**62, batch_size=2**62), td.Run(steps=5)]
NUMBERS = st.one_of(
    st.floats(), st.integers(), st.sampled_from([10**400, 2**62, 2**63, 5e-324, 1e308, math.inf, math.nan, -0.0])
)
ODD = st.one_of(
    st.sampled_from([True, None, "x", "0.1", b"1", [], [1, 2], {}, Fraction(1, 3), Decimal("0.1"), 1j, object(), int]),
    st.sampled_from([np.float32(0.1), np.int64(3), np.array(0.1), np.array([0.1, 0.5]), torch.tensor(0.1), math.sin]),
    st.sampled_from([td.decoupled(0.1), td.l1(1.0), td.elastic_net(l1=0.1, l2=0.2), td.independent(1e-3, max_lr=1.0)]),
    st.sampled_from([torch.optim.SGD, torch.optim.SGD([torch.ones(1)], lr=torch.tensor(0.1)), "sgd", "adamw", "mse"]),
    st.sampled_from(RUNS),
)
ANY: st.SearchStrategy[Any] = st.one_of(NUMBERS, ODD, st.tuples(NUMBERS, NUMBERS))
UNIT = st.sampled_from([*UNITS, "native", "nope", None, 3])
SOME_RUN = st.sampled_from(RUNS)


def some(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """A few of these keywords, with anything."""
    return st.dictionaries(st.sampled_from(names), ANY, max_size=4)


def answers(function: Any, *args: Any, **options: Any) -> None:
    try:
        str(function(*args, **options))
    except TorchdecayError as error:
        assert str(error)


RUN = some("steps", "epochs", "batch_size", "num_samples", "lr", "warmup_steps", "scheduler_interval", "accumulate")
STEPS = st.one_of(st.none(), st.sampled_from([1, 10, 10**6]))
RULE = st.one_of(st.none(), st.sampled_from([*scaling_rules.RULES, *suggesting.RULES]), ANY)
KNOWN = st.one_of(st.none(), ANY, st.tuples(NUMBERS, SOME_RUN), st.tuples(NUMBERS, SOME_RUN, NUMBERS))
WIDTHS = some("num_params", "width", "width_exponent")


def read_run(**told: Any) -> Any:
    run = td.Run(**told)
    return run, run.steps_per_epoch, run.num_steps, run.num_epochs, run.tokens_per_step


CALLS: dict[str, st.SearchStrategy[Any]] = {
    "convert": st.builds(
        lambda value, source, target, more: lambda: td.convert(value, source, target, **more),
        *(ANY, UNIT, UNIT, some(*context.KEYWORDS)),
    ),
    "Run": st.builds(lambda steps, more: lambda: read_run(**{"steps": steps} | more), STEPS, RUN),
    "rescale": st.builds(
        lambda value, before, after, rule, more: (
            lambda: td.rescale(value, before=before, after=after, rule=rule, **more)
        ),
        *(st.one_of(ANY, st.just(0.1)), SOME_RUN, SOME_RUN, RULE, WIDTHS),
    ),
    "suggest": st.builds(
        lambda model, run, rule, known: lambda: td.suggest(model, run=run, rule=rule, known=known),
        *(st.one_of(ANY, st.sampled_from([None, 124, 2**62])), SOME_RUN, RULE, KNOWN),
    ),
}


@pytest.mark.parametrize("examples", [50, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CALLS)
def test_it_answers_or_says_what_is_wrong(name: str, examples: int) -> None:
    """Numbers beyond all measure, arrays, tensors, words, and what is no number at all."""

    @settings(max_examples=examples)
    @given(CALLS[name])
    def call(function: Any) -> None:
        answers(function)

    call()


def test_a_bare_error_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded fault: without the bound on counts a number of 400 digits ends in Python's own error."""
    monkeypatch.setattr("torchdecay.arguments._MOST", 10**500)
    with pytest.raises(OverflowError):
        answers(td.suggest, 10**400, run=RUNS[0])
