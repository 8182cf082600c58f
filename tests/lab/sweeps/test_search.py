"""Searching: powers of ten first, then around the best; the same questions again for the same answers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from torchdecay.errors import DecayError, TaskError
from torchdecay.lab.sweeps.search import KINDS, Candidate, Search, as_search, between, powers_of_ten, spaced


def asked(search: Search, best: float = 3.0, num_groups: int = 1) -> list[list[Candidate]]:
    """The batches of a search when candidates near `best` score best."""
    made, batches = search.batches(num_groups), []
    scores: dict[Candidate, dict[int, float]] = {}
    try:
        batch = next(made)
        while True:
            batches.append(list(batch))
            scores |= {one: {0: -sum(abs(math.log(value / best)) for value in one.values)} for one in batch}
            batch = made.send(scores)
    except StopIteration:
        return batches


def values(batch: list[Candidate]) -> list[float]:
    return [one.values[0] for one in batch]


def test_m5_6_powers_of_ten_first_then_around_the_best() -> None:
    """What people ask for: 1e-4 to 10 by tens, and the rest of the budget between the best one's neighbors."""
    tens, fine = asked(Search(1e-4, 10, points=11), best=0.9)
    assert values(tens) == [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]
    assert len(fine) == 5 and all(0.1 < value < 10 for value in values(fine))
    # The better neighbor's side gets the odd one.
    assert sum(value < 1 for value in values(fine)) == 3


def test_around_an_end_there_is_one_side() -> None:
    """The best is the largest: all further points lie below it, none outside the range."""
    _, fine = asked(Search(0.1, 10, points=6), best=100)
    assert values(fine) == [1.78, 3.16, 5.62]


@pytest.mark.parametrize(
    ("low", "high", "first"),
    [
        (0.5, 50, [0.5, 1, 10, 50]),
        (1, 30, [1, 10, 30]),
        (0.1, 3000, [0.1, 1, 10, 100, 1000, 3000]),
        (0.03, 0.2, [0.03, 0.1, 0.2]),
    ],
)
def test_the_ends_that_were_asked_for_are_tried(low: float, high: float, first: list[float]) -> None:
    """What is said to be the upper end of what was tried is the end that was typed."""
    assert values(asked(Search(low, high, points=9))[0]) == first


def test_where_several_do_equally_well_the_strong_end_is_looked_into() -> None:
    """Values too weak to do anything tie with each other; what is new lies where they end."""
    batches = Search(1e-4, 10, points=9).batches()
    scores = {one: {0: -1.0 if one.values[0] <= 0.1 else -2.0} for one in next(batches)}
    assert all(0.01 < one.values[0] < 1 for one in batches.send(scores))


def test_a_grid_without_scores_does_not_refine() -> None:
    """Where every run failed there is nothing to go by, and the search ends."""
    batches = Search(1e-4, 10).batches()
    next(batches)
    with pytest.raises(StopIteration):
        batches.send({})


def test_ranges_without_two_powers_of_ten_are_evenly_spaced() -> None:
    """2 to 9 holds none: the points are even on a log scale, the ends among them."""
    (batch,) = asked(Search(2, 8, points=3))
    assert values(batch) == [2.0, 4.0, 8.0]


def test_named_values_are_tried_as_they_are() -> None:
    """Who names values gets those and no others."""
    assert [values(batch) for batch in asked(Search(values=(7.0, 0.3)))] == [[0.3, 7.0]]
    assert [values(batch) for batch in asked(Search(kind="halving", values=(0.3, 0, 7.0)))] == [[0.3, 7.0]]
    with pytest.raises(TaskError, match="nothing for the search tpe to draw"):
        as_search("tpe", [0.3])


def test_groups_and_learning_rates_make_a_whole_grid() -> None:
    """Every pair of coefficients, and every coefficient at every learning rate."""
    (pairs,) = asked(Search(0.1, 10, points=9), num_groups=2)
    assert len(pairs) == 9 and {one.values for one in pairs} >= {(0.1, 10.0), (10.0, 0.1), (1.0, 1.0)}
    (grid,) = asked(Search(0.1, 10, points=3, lr_scales=(0.5, 1.0)))
    assert [(one.values[0], one.lr_scale) for one in grid] == [
        (0.1, 0.5), (1.0, 0.5), (10.0, 0.5), (0.1, 1.0), (1.0, 1.0), (10.0, 1.0),
    ]  # fmt: skip


def test_one_learning_rate_other_than_the_tasks_own_is_refined_at_that() -> None:
    """All points, the later ones too, are at the multiplier that was asked for."""
    batches = asked(Search(0.1, 10, points=6, lr_scales=(0.5,)), best=0.9)
    assert [len(batch) for batch in batches] == [3, 3]
    assert {one.lr_scale for batch in batches for one in batch} == {0.5}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("search", "num_groups"),
    [
        (Search(1e-4, 10, points=10), 1),
        (Search(1e-4, 10, points=9), 2),
        (Search(1e-4, 10, points=4, lr_scales=(0.5, 1.0)), 1),
    ],
    ids=["1", "2", "lr"],
)
def test_the_same_answers_bring_the_same_questions(kind: str, search: Search, num_groups: int) -> None:
    """An interrupted sweep asks again for what it has: same batches, within the range, within the budget."""
    search = dataclasses.replace(search, kind=kind)
    batches = asked(search, num_groups=num_groups)
    assert batches == asked(search, num_groups=num_groups)
    everything = [one for batch in batches for one in batch]
    assert 0 < len(set(everything)) <= search.points * len(search.lr_scales)
    assert all(search.low <= value <= search.high for one in everything for value in one.values)
    assert all(one.lr_scale in search.lr_scales and len(one.values) == num_groups for one in everything)


def test_random_depends_on_its_seed_and_tpe_on_what_did_well() -> None:
    """Another seed draws others; TPE draws nearer to what scored well than chance does."""
    assert asked(Search(1e-4, 10, kind="random")) != asked(Search(1e-4, 10, kind="random", seed=1))

    def distance(kind: str) -> float:
        late = [value for batch in asked(Search(1e-4, 1e4, kind=kind, points=40)) for value in values(batch)][20:]
        return sum(abs(math.log10(value / 3)) for value in late) / len(late)

    assert distance("tpe") < 0.7 * distance("random")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"low": 10.0, "high": 0.1}, "reversed"),
        ({"low": 1.0, "high": 1.0}, "empty"),
        ({"low": -1.0}, "low is no positive number"),
        ({"low": 0.0}, "low is no positive number"),
        ({"high": math.inf}, "high is no positive number"),
        ({"high": math.nan}, "high is no positive number"),
        ({"points": 1}, "number of points is 1"),
        ({"points": 2.5}, "number of points is 2.5"),
        ({"lr_scales": [0.0]}, "lr_scales"),
        ({"lr_scales": []}, "lr_scales is"),
    ],
)
def test_ranges_that_mean_nothing(wrong: dict[str, Any], said: str) -> None:
    """Empty, reversed, negative: told before anything is trained."""
    with pytest.raises((TaskError, DecayError), match=said):
        Search(**wrong)


def test_a_search_with_a_typo() -> None:
    """The nearest name is offered."""
    with pytest.raises(TaskError, match='Nearest: "halving"'):
        Search(kind="halfing")


def test_short_spellings_of_a_search() -> None:
    """A kind, the two ends of a range, or everything; named values make the range."""
    assert as_search("tpe", None) == Search(kind="tpe")
    assert as_search((0.5, 50), None) == Search(0.5, 50)
    assert as_search(Search(points=5), [3.0, 0.1]) == Search(0.1, 3.0, points=5, values=(0.1, 3.0))
    with pytest.raises(TaskError, match="Write a kind"):
        as_search((1.0, 2.0, 3.0), None)  # type: ignore[arg-type]


def test_numbers_on_a_log_scale() -> None:
    """Ends belong to `spaced`, not to `between`; powers of ten are exact, whatever the logarithm rounds to."""
    assert powers_of_ten(1e-3, 1e3) == (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0)
    assert powers_of_ten(0.2, 0.9) == ()
    assert spaced(1, 100, 3) == (1.0, 10.0, 100.0) and spaced(1, 100, 2) == (1.0, 100.0)
    assert between(1, 100, 1) == (10.0,) and between(1, 100, 0) == ()
