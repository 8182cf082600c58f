"""Small comparisons with known numbers, made without training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torchdecay.lab.comparisons.comparison import Comparison
from torchdecay.lab.training.planned_and_measured import GroupCourse, PlannedAndMeasured
from torchdecay.lab.training.results import Failure, LineScan, PlannedRow, PlanSummary, TrainingRun
from torchdecay.observe.monitor.series import Event

NASTY = (
    "<script>document.title = 'owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "nul\x00 bell\x07 escape\x1b[31m",
    "λ=½ $x^2$ \u202edrow\u2069 日本 🔥",
    "{{ 7 * 7 }} {% raw %} &amp; ]]> --> </svg></style></title>",
)


def run(
    label: str, seed: int, *, decay: str = "", steps: int = 11, pull: float = 0.0, score: bool = True
) -> TrainingRun:
    """A run whose training loss falls, and whose test loss falls and then rises unless it is pulled."""
    grid = tuple(10 * i for i in range(steps))
    way = [i / (steps - 1) for i in range(steps)]
    shift = 0.01 * seed
    train = tuple(2.0 - 1.8 * w * (1 - 0.5 * pull) + shift for w in way)
    test = tuple(2.0 - 3 * w * (1 - w) + (1 - pull) * w + shift for w in way)
    alphas = tuple(round(0.1 * i, 2) for i in range(16))
    return TrainingRun(
        label=label,
        decay=decay or label,
        seed=seed,
        steps=grid,
        train_loss=train,
        test_loss=test,
        train_score=tuple(0.1 + 0.9 * w for w in way) if score else None,
        test_score=tuple(0.1 + (0.6 + 0.2 * pull) * w + shift for w in way) if score else None,
        weight_norm=tuple(10 + 5 * w * (1 - pull) for w in way),
        gradient_norm=tuple(math.exp(-4 * w) for w in way),
        seconds=1.5,
        line=LineScan(
            alphas=alphas,
            train_loss=tuple((a - 1.2) ** 2 + 0.1 for a in alphas),
            test_loss=tuple((a - 0.7) ** 2 + 0.4 for a in alphas),
            squared_norm=4.0,
            penalty=tuple(0.5 * a * a for a in alphas) if pull else None,
            note="" if pull else "No decay, so no penalty.",
        ),
        planned_and_measured=PlannedAndMeasured(groups=(course(label, pull=pull, last=grid[-1]),) if pull else ()),
    )


def course(decay: str, *, pull: float = 1.0, last: int = 100, name: str = "weight", text: str = "") -> GroupCourse:
    """Decay that takes a hundredth of `pull` per step, forecast and measured alike."""
    steps = (1, *(last * i // 10 for i in range(1, 11)))
    fraction = 0.01 * pull
    log = -math.log1p(-fraction)
    return GroupCourse(
        name=name,
        decay=decay,
        num_elements=12,
        prediction="exact",
        fraction=fraction,
        half_life=math.log(2) / log,
        timescale=1 / fraction,
        timescale_epochs=0.1 / fraction,
        remarks=(text or f"too weak: its time scale is long, and the run has {last}.",),
        steps=steps,
        planned=tuple(step * log for step in steps),
        realized=tuple(step * log for step in steps),
        measured="around its own pass",
        weight_norm=tuple(10 - 0.01 * step for step in steps),
    )


def plan(label: str, *, decay: str = "decoupled(0.1)", count: int = 2) -> PlanSummary:
    rows = tuple(
        PlannedRow(
            name=f"layers.{i}.weight" if i % 2 == 0 else f"layers.{i}.bias",
            shape=(4, 3) if i % 2 == 0 else (4,),
            role="weight" if i % 2 == 0 else "bias",
            decay=decay if i % 2 == 0 else "",
            reason="no rule spares role weight" if i % 2 == 0 else "STANDARD: a bias",
        )
        for i in range(count)
    )
    return PlanSummary(
        label=label, decay=decay, equation="w ← w − lr·λ·w", summary="1 of 2 parameters decays", rows=rows
    )


def comparison(
    labels: tuple[str, ...] = ("none", "coupled:0.1", "decoupled:0.1"),
    *,
    seeds: int = 3,
    score: bool = True,
    steps: int = 11,
    **changes: Any,
) -> Comparison:
    """A finished comparison; the first label has no decay."""
    runs = tuple(
        run(label, seed, decay="none" if i == 0 else "", pull=0.0 if i == 0 else 0.4 + 0.3 * i / len(labels),
            score=score, steps=steps)
        for i, label in enumerate(labels)
        for seed in range(seeds)
    )  # fmt: skip
    made = Comparison(
        task="toy",
        title="A toy task",
        step_name="step",
        score_name="accuracy" if score else "",
        labels=labels,
        runs=runs,
        plans={label: plan(label) for label in labels},
        seeds=tuple(range(seeds)),
        facts=(("train rows", "1,000"), ("optimizer", "AdamW, lr 0.001")),
        notes=("Rows are made up.",),
        command="torchdecay compare toy --decay none --decay decoupled:0.1 --seeds 3",
        versions={"torchdecay": "0.1.0", "torch": "2.13.0"},
        created="2030-01-02T03:04:05+00:00",
    )
    return replace(made, **changes)


def nasty() -> Comparison:
    """A comparison in which every text is hostile."""
    text = " ".join(NASTY)
    made = comparison(NASTY, seeds=2)
    alarm = Event(step=3, kind=text, group=text, what=text, why=text, fix=text)
    groups = (course(text, name=text, text=text), replace(course(text, name="b"), realized=None, measured=text))
    acting = PlannedAndMeasured(groups=groups, alarms=(alarm,), note=text)
    row = PlannedRow(name=text, shape=(2,), role=text, decay=text, reason=text)
    return replace(
        made,
        runs=tuple(replace(one, planned_and_measured=acting) for one in made.runs),
        task=NASTY[0],
        title=text,
        step_name=NASTY[0],
        score_name=NASTY[1],
        facts=((text, text),),
        notes=(text,),
        failures=(Failure(label=NASTY[0], seed=0, message=text),),
        plans={
            label: replace(plan(label), label=label, equation=text, summary=text, how=text, rows=(row,))
            for label in NASTY
        },
        command=text,
        versions={text: text},
        created=text,
    )


def diverged() -> Comparison:
    """One of three runs of the last decay goes to infinity and then to NaN."""
    made = comparison()
    last = made.labels[-1]

    def broken(one: TrainingRun) -> TrainingRun:
        bad = (1.0, 2.0, 1e9, math.inf, *[math.nan] * 7)
        return replace(one, train_loss=bad, test_loss=bad, weight_norm=bad, line=None)

    runs = tuple(broken(one) if one.label == last and one.seed == 0 else one for one in made.runs)
    return replace(made, runs=runs)


def stopped() -> Comparison:
    """Interrupted: the second seed lacks its last decay, the third has nothing."""
    made = comparison()
    kept = tuple(one for one in made.runs if one.seed == 0 or (one.seed == 1 and one.label != made.labels[-1]))
    return replace(made, runs=kept, interrupted=True)


def noise() -> Comparison:
    """Random labels, one seed, no score, a known chance level."""
    return replace(comparison(seeds=1, score=False), noise=True, chance_loss=0.693, step_name="epoch")
