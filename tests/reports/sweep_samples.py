"""Small sweeps with known numbers, made without training."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

from reports.samples import NASTY
from torchdecay import text
from torchdecay.lab.sweeps.meaning import Meaning
from torchdecay.lab.sweeps.points import Point
from torchdecay.lab.sweeps.result import Sweep
from torchdecay.lab.training.results import Failure, TrainingRun

STEPS = 90


def run(label: str, decay: str, seed: int, good: float, *, until: int = STEPS, score: bool = True) -> TrainingRun:
    """A run whose validation score ends at `good`, a little more with each seed."""
    grid = tuple(range(0, until + 1, 10))
    way = [step / STEPS for step in grid]
    end = good + 0.002 * seed
    up = tuple(0.1 + (end - 0.1) * w for w in way)
    return TrainingRun(
        label=label,
        decay=decay,
        seed=seed,
        steps=grid,
        train_loss=tuple(2.3 - 2.0 * w for w in way),
        test_loss=tuple(2.4 - 2.0 * u for u in up),
        validation_loss=tuple(2.3 - 2.0 * u for u in up),
        train_score=tuple(0.1 + 0.9 * w for w in way) if score else None,
        test_score=tuple(u - 0.01 for u in up) if score else None,
        validation_score=up if score else None,
        weight_norm=tuple(10.0 + w for w in way),
        gradient_norm=tuple(math.exp(-w) for w in way),
        seconds=1.5,
    )


def sweep(
    values: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0),
    *,
    seeds: int = 3,
    scales: tuple[float, ...] = (1.0,),
    groups: tuple[str, ...] = (),
    score: bool = True,
    peak: float = 1.0,
    **changes: Any,
) -> Sweep:
    """A finished sweep, best at `peak` (of lr · coefficient), where none is 0.8 and the best 0.95."""
    points, runs = [], []
    for scale in scales:
        tail = "" if scale == 1.0 else f" at lr x {scale:g}"
        points.append(Point(label=f"none{tail}", decay="none", lr_scale=scale))
        for some in itertools.product(values, repeat=max(1, len(groups))):
            spelled = ", ".join(f"{name} {value:g}" for name, value in zip(groups, some, strict=False))
            label = f"decoupled: {spelled}{tail}" if groups else f"decoupled({text.spelled(some[0])}){tail}"
            pairs = tuple(zip(groups, some, strict=True)) if groups else ()
            points.append(
                Point(label=label, decay=label, value=None if groups else some[0], values=pairs, lr_scale=scale)
            )
    for point in points:
        tried = [value for _, value in point.values] or ([point.value] if point.value is not None else [])
        off = [math.log10(value * point.lr_scale / peak) for value in tried]
        good = 0.95 - 0.05 * sum(one * one for one in off) / len(off) if off else 0.8
        runs += [run(point.label, point.decay, seed, good, score=score) for seed in range(seeds)]
    made = Sweep(
        task="toy",
        title="A toy task",
        step_name="step",
        score_name="accuracy" if score else "",
        form="decoupled",
        equation="θ ← θ − η·λ·θ",
        points=tuple(points),
        runs=tuple(runs),
        seeds=tuple(range(seeds)),
        num_steps=STEPS,
        low=min(values),
        high=max(values),
        lr=0.001,
        groups=tuple((name, f"{name}.*") for name in groups),
        search="grid",
        engine="stacked",
        why_engine="20 ms a step, against 50 for process",
        meanings=tuple(
            Meaning(label=one.label, why="each group has its own")
            if one.values
            else Meaning(label=one.label, fraction=one.value / 1000, half_life=693.0 / one.value,
                         share_of_run=693.0 / one.value / STEPS, total_shrink=min(1.0, one.value * STEPS / 1000))
            if one.value
            else Meaning(label=one.label, fraction=0.0, half_life=math.inf, share_of_run=math.inf, total_shrink=0.0)
            for one in points
        ),
        facts=(("train rows", "800"),),
        notes=("Rows are made up.",),
        command="torchdecay sweep toy --from 0.01 --to 100 --points 5 --seeds 3",
        task_words="toy",
        seconds=12.0,
        versions={"torchdecay": "0.1.0"},
        created="2030-01-02T03:04:05+00:00",
    )  # fmt: skip
    return replace(made, **changes)


def halving() -> Sweep:
    """Of five values one ran to the end, one was stopped at 30 and three at 10; no decay always goes on."""
    made = sweep()
    until = {"decoupled(0.01)": 10, "decoupled(0.1)": 30, "decoupled(10)": 10, "decoupled(100)": 10}
    runs = tuple(
        run(one.label, one.decay, one.seed, one.final("validation_score"), until=until.get(one.label, STEPS))
        for one in made.runs
    )
    return replace(made, runs=runs, search="halving")


def diverged() -> Sweep:
    """With 100 every loss is NaN or infinite."""
    made = sweep()

    def broken(one: TrainingRun) -> TrainingRun:
        bad = (2.3, *[math.inf] * 4, *[math.nan] * 5)
        none = (0.1, *[math.nan] * 9)
        return replace(one, train_loss=bad, validation_loss=bad, test_loss=bad, weight_norm=bad,
                       train_score=none, validation_score=none, test_score=none)  # fmt: skip

    return replace(made, runs=tuple(broken(one) if one.label == "decoupled(100)" else one for one in made.runs))


def failed() -> Sweep:
    """With 100 both of two seeds raised the same, and one seed of 10 something else."""
    made = sweep(seeds=2)
    lost = [("decoupled(100)", 0, "too strong"), ("decoupled(100)", 1, "too strong"), ("decoupled(10)", 1, "no memory")]
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: <b>'
    gone = {(label, seed) for label, seed, _ in lost}
    return replace(
        made,
        runs=tuple(one for one in made.runs if (one.label, one.seed) not in gone),
        failures=tuple(Failure(label=label, seed=seed, message=text, traceback=trace) for label, seed, text in lost),
    )


def nasty() -> Sweep:
    """A sweep in which every text is hostile."""
    text = " ".join(NASTY)
    made = sweep((0.1, 1.0), seeds=2, groups=(NASTY[0], NASTY[1]))
    label = made.points[-1].label
    return replace(
        made,
        task=NASTY[0],
        title=text,
        step_name=NASTY[0],
        score_name=NASTY[1],
        form=text,
        equation=text,
        engine=text,
        why_engine=text,
        search=text,
        store=text,
        command="torchdecay " + text.replace("'", ""),
        task_words="",
        facts=((text, text),),
        notes=(text,),
        failures=(Failure(label=label, seed=0, message=text, traceback=text),),
        versions={text: text},
        created=text,
        interrupted=True,
    )


def every() -> dict[str, Sweep]:
    """Sweeps of every kind, by name."""
    one = sweep((1.0,), seeds=1)
    return {
        "plain": sweep(),
        "loss": sweep(score=False),
        "one": one,
        "empty": replace(one, runs=(), interrupted=True),
        "bare": replace(one, points=one.points[:1], runs=one.runs[:1]),
        "map": sweep((0.1, 1.0, 10.0), scales=(0.1, 1.0, 10.0)),
        "groups": sweep((0.1, 1.0, 10.0), groups=("body", "head")),
        "three": sweep((0.1, 1.0), groups=("body", "neck", "head")),
        "single": sweep((0.1, 1.0), groups=("all",)),
        "wide": sweep(tuple(float(f"{10 ** (i / 6):.3g}") for i in range(-24, 24)), seeds=2),
        "halving": halving(),
        "diverged": diverged(),
        "failed": failed(),
        "nasty": nasty(),
        "noise": sweep(noise=True),
    }
