"""Schedules: from a step to a multiplier, exactly at the ends, and composed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import torchdecay as td
from plans.examples import LAMBDA, SCHEDULES, counts, numbers, schedules
from torchdecay.errors import DecayError
from torchdecay.plans.schedules import (
    Constant,
    Custom,
    Schedule,
    as_schedule,
    constant,
    cosine,
    follow_lr,
    inverse_time,
    linear,
    piecewise,
    warmup,
)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (constant(), {0: 1, 5: 1, 10**9: 1}),
        (linear(1, 0, 4), {0: 1, 1: 0.75, 2: 0.5, 4: 0, 5: 0, 10**9: 0}),
        (linear(0.5, 2, 3), {0: 0.5, 1: 1.0, 2: 1.5, 3: 2, 9: 2}),
        (cosine(1, 0, 4), {0: 1, 1: (1 + math.sqrt(0.5)) / 2, 2: 0.5, 4: 0, 7: 0}),
        (cosine(0.1, 1, 10), {0: 0.1, 5: 0.55, 10: 1, 11: 1}),
        (warmup(4), {0: 0, 1: 0.25, 3: 0.75, 4: 1, 99: 1}),
        (inverse_time(100), {0: 1, 100: 0.5, 300: 0.25}),
        (piecewise({10: 0.5, 20: 0}), {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 0, 10**6: 0}),
        (piecewise({20: 0, 10: 0.5}), {0: 1, 10: 0.5, 20: 0}),
        (piecewise({0: 3}), {0: 3}),
    ],
    ids=lambda case: repr(case) if isinstance(case, Schedule) else "",
)
def test_each_schedule_follows_its_equation(schedule: Schedule, expected: dict[int, float]) -> None:
    """The values at the start, on the way, at the end and long after it."""
    for step, value in expected.items():
        # One rounding of a cosine or a sum.
        assert schedule(step) == pytest.approx(value, rel=1e-12, abs=1e-15), step


@given(start=numbers, end=numbers, num_steps=counts)
def test_linear_and_cosine_end_exactly_and_never_leave_their_span(start: float, end: float, num_steps: int) -> None:
    """A multiplier that ended at 1e-17 in place of 0, or below it, would be a decay that nobody asked for."""
    low, high = min(start, end), max(start, end)
    room = 1e-12 * high
    for schedule in (linear(start, end, num_steps), cosine(start, end, num_steps)):
        values = [schedule(step) for step in (0, 1, num_steps // 2, num_steps, num_steps + 1)]
        assert values[0] == pytest.approx(start, abs=room)
        assert values[-1] == values[-2] == pytest.approx(end, abs=room)
        assert all(max(0.0, low - room) <= value <= high + room for value in values)
    assert linear(start, 0, num_steps)(num_steps) == 0
    assert cosine(start, end, num_steps)(num_steps) == end


@given(inner=schedules, num_steps=counts, step=st.integers(0, 20_000), lr_ratio=st.floats(0, 1))
def test_a_warmup_hands_over_where_the_next_one_starts(
    inner: Schedule, num_steps: int, step: int, lr_ratio: float
) -> None:
    """Composition: before `num_steps` a share of the next schedule's first value, then that schedule from its 0."""
    whole = warmup(num_steps, then=inner)
    if step < num_steps:
        assert whole(step, lr_ratio) == step / num_steps * inner(0, lr_ratio)
    else:
        assert whole(step, lr_ratio) == inner(step - num_steps, lr_ratio)
    assert whole.needs_lr == inner.needs_lr


def test_warmups_nest() -> None:
    """Three phases in a row count their steps one after the other."""
    schedule = warmup(2, then=piecewise({0: 1, 3: 0.5}))
    assert [schedule(step) for step in range(7)] == [0, 0.5, 1, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_only_follow_lr_reads_the_learning_rate(schedule: Schedule) -> None:
    """`needs_lr` decides whether the engine must know η_max: it may neither miss nor ask for nothing."""
    depends = any(schedule(step, 0.25) != schedule(step, 1.0) for step in (0, 1, 5, 50))
    assert depends == schedule.needs_lr


def test_follow_lr_is_the_ratio_to_the_peak() -> None:
    """Per step with follow_lr is `independent`; the ratio is passed on as it is."""
    assert [follow_lr()(7, ratio) for ratio in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]
    assert td.per_step(0.5, schedule=follow_lr()).coefficient_at(3, 0.5) == 0.25


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedules_are_values(schedule: Schedule) -> None:
    """Frozen, hashable, equal by content: a plan that holds one compares and travels."""
    assert schedule == schedule
    assert hash(schedule) == hash(schedule)
    with pytest.raises(AttributeError):
        schedule.num_steps = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if not isinstance(s, Custom)], ids=repr)
def test_a_schedule_prints_as_the_call_that_makes_it(schedule: Schedule) -> None:
    """What the table shows can be pasted into a script."""
    assert eval(repr(schedule), vars(td.schedules)) == schedule


@pytest.mark.parametrize(
    "make",
    [
        lambda: linear(-1, 0, 3),
        lambda: linear(1, float("nan"), 3),
        lambda: linear(1, "0", 3),
        lambda: linear(True, 0, 3),
        lambda: linear(1, 0, 0),
        lambda: linear(1, 0, 2.5),
        lambda: linear(1, 0, True),
        lambda: cosine(1, -0.1, 3),
        lambda: cosine(1, float("inf"), 3),
        lambda: cosine(1, 0, -3),
        lambda: warmup(0),
        lambda: warmup("10"),
        lambda: inverse_time(0),
        lambda: inverse_time(float("nan")),
        lambda: piecewise({}),
        lambda: piecewise({-1: 0.5}),
        lambda: piecewise({1.5: 0.5}),
        lambda: piecewise({1: -0.5}),
        lambda: piecewise({1: float("inf")}),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(make: Any) -> None:
    """A schedule that means nothing is refused when it is written, not after ten thousand steps."""
    with pytest.raises(DecayError):
        make()


def test_a_function_of_the_step_is_a_schedule() -> None:
    """Any callable will do, and is called with the step alone."""
    decay = td.decoupled(0.1, schedule=lambda step: step / 10)
    assert isinstance(decay.schedule, Custom)
    assert decay.coefficient_at(5) == pytest.approx(0.05)


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf"), -float("inf")])
def test_a_function_that_returns_nonsense_is_caught_at_that_step(bad: float) -> None:
    """A negative or non-finite multiplier would grow or destroy the weights: it stops before touching them."""
    decay = td.decoupled(0.1, schedule=lambda step: bad if step == 3 else 1.0)
    assert decay.coefficient_at(2) == 0.1
    with pytest.raises(DecayError, match="step 3"):
        decay.coefficient_at(3)


@pytest.mark.parametrize("value", [0.5, "cosine", object(), [1, 2]], ids=["number", "name", "object", "list"])
def test_what_is_no_function_is_no_schedule(value: Any) -> None:
    """A number in place of a schedule is a slip that must not pass."""
    with pytest.raises(DecayError, match="schedule"):
        as_schedule(value)


def test_none_is_constant_and_a_schedule_stays_itself() -> None:
    """`as_schedule` changes nothing that is a schedule already."""
    chosen = linear(1, 0, 3)
    assert as_schedule(None) == Constant()
    assert as_schedule(chosen) is chosen
    assert as_schedule(LAMBDA) == Custom(LAMBDA)


@pytest.mark.parametrize("function", [lambda: 1.0, lambda step, total: 1.0, lambda *, step: 1.0])
def test_a_function_that_does_not_take_a_step_alone_is_refused_at_once(function: Any) -> None:
    """Called in the middle of training it would raise torch's own TypeError there, which says nothing of schedules."""
    with pytest.raises(DecayError, match=r"can't be called with a step alone.*\n.*\n.*def schedule\(step\)"):
        td.decoupled(0.1, schedule=function)


def test_a_function_may_take_more_than_a_step_where_it_has_defaults() -> None:
    assert td.decoupled(0.1, schedule=lambda step, total=10: step / total).coefficient_at(5) == 0.05
    assert td.decoupled(0.1, schedule=abs).coefficient_at(2) == 0.2
