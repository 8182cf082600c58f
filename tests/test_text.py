"""Numbers and names as a person reads them."""

from __future__ import annotations

import math
import unicodedata

import pytest

from reports.samples import NASTY
from torchdecay.errors import TaskError
from torchdecay.text import (
    counted,
    describe_error,
    listing,
    mean_and_spread,
    means_and_spreads,
    number,
    percent,
    prose,
    share,
    shown,
    spelled,
    step_count,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01184, "0.012"),
        (0.69314, "0.693"),
        (2.2431, "2.243"),
        (-0.555, "−0.555"),
        (35.42, "35.4"),
        (1234.5, "1,234"),
        (3.14e-5, "3.1e-05"),
        (1e9, "1e+09"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (-math.inf, "−infinite"),
    ],
)
def test_number_keeps_about_three_digits(value: float, text: str) -> None:
    """A loss of 0.69314 and a norm of 1234.5 read at a glance, and what is no number is said in words."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (0.92613, 0.0123, "0.926 ± 0.012"),
        (35.421, 0.104, "35.42 ± 0.10"),
        (-0.5946, 0.0203, "−0.595 ± 0.020"),
        (1234.6, 56.7, "1,235 ± 57"),
        (2.2434, None, "2.243"),
        (0.29506, 1.3e-5, "0.2951 ± <0.0001"),
        (1.0, 0.0, "1.000 ± 0"),
        (2.8, 2.6e-16, "2.800 ± 0"),
        (math.nan, math.nan, "not a number"),
    ],
)
def test_a_mean_has_the_digits_its_spread_supports(mean: float, spread: float | None, text: str) -> None:
    """The table promises no digit that the seeds do not settle, and rounding noise is no spread."""
    assert mean_and_spread(mean, spread) == text


def test_a_column_has_one_precision() -> None:
    """That of its least spread; what has no plain digits is written as it is by itself."""
    assert means_and_spreads([(0.635, 0.0), (0.6094, 0.0009), (-0.71, 0.02), (0.5, None)]) == [
        "0.6350 ± 0.0000", "0.6094 ± 0.0009", "−0.7100 ± 0.0200", "0.500",
    ]  # fmt: skip
    assert means_and_spreads([(1.0, 0.0), (2.0, 0.0)]) == ["1.000 ± 0", "2.000 ± 0"]
    assert means_and_spreads([(2e6, 3e5), (0.6094, 0.0009)]) == ["2e+06 ± 300,000", "0.6094 ± 0.0009"]
    assert means_and_spreads([]) == []


@pytest.mark.parametrize("name", NASTY)
def test_shown_leaves_nothing_that_steers_a_reader(name: str) -> None:
    """No control or direction character survives, so that a name can't garble the page or break the XML."""
    assert not [char for char in shown(name) if unicodedata.category(char) in ("Cc", "Cf", "Cs")]


def test_shown_keeps_what_people_can_read() -> None:
    """Greek, Japanese and pictures are names like others."""
    assert shown("λ=½ 日本 🔥") == "λ=½ 日本 🔥"
    assert shown("a\x00b\u202ec") == "a\\x00b\\u202ec"


def test_shown_cuts_a_name_that_would_flood_the_page() -> None:
    """A name of ten thousand letters takes one line, and says that it goes on."""
    assert len(shown("x" * 10_000)) == 200
    assert shown("x" * 10_000).endswith("…")


def test_prose_is_one_paragraph() -> None:
    """An error message of three lines reads as sentences, not as escaped line breaks."""
    assert prose("what\n  why\n  fix") == "what why fix"


def test_listing_and_counting_are_grammatical() -> None:
    """One seed is no "1 seeds", and a long list is cut with a count."""
    assert (counted(1, "seed"), counted(3, "seed")) == ("1 seed", "3 seeds")
    assert [listing(["a"] * n) for n in range(4)] == ["", "a", "a and a", "a, a and a"]
    assert listing(list("abcdef"), most=2) == "a, b and 4 more"


@pytest.mark.parametrize(("value", "text"), [(0.5, "+0.500"), (-0.5, "−0.500"), (0.0, "0"), (math.inf, "+infinite")])
def test_a_difference_has_its_sign(value: float, text: str) -> None:
    """Plus and a true minus: which way something went is what a difference says."""
    assert number(value, signed=True) == text


@pytest.mark.parametrize("value", [10.0, 0.1, 0.123456789, 1e-5, 1e300, 1 / 3, -2.5, math.inf])
def test_a_number_as_typed_loses_no_digit(value: float) -> None:
    """What is printed can be typed again, and means the same."""
    assert float(spelled(value)) == value and len(spelled(value)) <= len(repr(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (0.3149, "31.5 %"), (2e-6, "0.0002 %"), (0.99999, "> 99.9 %"), (1.0, "100 %"), (9.0, "900 %")],
)
def test_percent_tells_something_near_both_ends(value: float, text: str) -> None:
    """A rounded 100 % would say that nothing is left, and a rounded 0 % that nothing happened."""
    assert percent(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.34, "34 %"), (7.2345, "7.23 times"), (math.inf, "never")])
def test_more_than_all_is_times(value: float, text: str) -> None:
    """A half-life of 723 % of the run is 7.23 times the run."""
    assert share(value) == text


@pytest.mark.parametrize(("steps", "text"), [(0.5, "0.5"), (69.3147, "69.3"), (34567.8, "34,568"), (math.inf, "never")])
def test_steps_are_counted_without_an_exponent(steps: float, text: str) -> None:
    """However many there are."""
    assert step_count(steps) == text


def test_an_error_of_others_is_one_line() -> None:
    """Its type says something also where its text says nothing; where it was raised, if that is asked."""
    try:
        raise KeyError("a\nb")
    except KeyError as error:
        assert describe_error(error) == r"KeyError: 'a\nb'"
        assert describe_error(error, where=True).startswith(r"KeyError: 'a\nb' (at " + __file__)
    assert describe_error(StopIteration()) == "StopIteration"
    assert describe_error(ValueError("what\n  why"), where=True) == "ValueError: what why"
    assert describe_error(ValueError("what\n  why")) == "ValueError: what"
    assert describe_error(TaskError("what", "why")) == "what\n  why"
