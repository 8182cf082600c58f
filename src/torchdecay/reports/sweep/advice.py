"""What a reader of a sweep should be wary of, and what to run next: a wider range, more seeds, a finer look."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchdecay.plans.presets import PRESETS
from torchdecay.reports.article import Next, Notice
from torchdecay.reports.comparison.notices import failed, unfinished
from torchdecay.reports.sweep.points import Points
from torchdecay.text import counted, listing, shown, spelled

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.choice import Choice
    from torchdecay.lab.sweeps.points import Point
    from torchdecay.lab.sweeps.result import Sweep

_MORE_SEEDS, _MOST_NAMES = 5, 8


def notices(points: Points) -> tuple[Notice, ...]:
    """What is missing, failed or at the edge."""
    sweep, made = points.sweep, []
    chosen = sweep.best
    edge = None if chosen is None else _at_edge(sweep, chosen.point)
    is_better = chosen is not None and (chosen.against is None or chosen.against.better is not None)
    if chosen is not None and edge is not None and is_better:
        way = "beyond" if edge == "upper" else "below"
        made.append(
            Notice(
                f"The choice lies at the {edge} end of what was tried",
                f"What lies {way} {points.name(chosen.point)} is not known: widen the range before taking it.",
            )
        )
    done = {label: {run.seed for run in runs} for label, runs in points.runs.items()}
    for failure in sweep.failures:
        done[failure.label].add(failure.seed)
    kept = f" What is finished is kept in {shown(sweep.store)}; --resume goes on." if sweep.store else ""
    count = f"{counted(len(sweep.runs), 'run')} finished, and only they count.{kept}".rstrip(".")
    made += unfinished(points.names, done, sweep.seeds, count, interrupted=sweep.interrupted)
    diverged = [points.name(one.point) for one in sweep.curve if one.diverged]
    if diverged:
        made.append(Notice("Some runs diverged", f"{listing(diverged, most=_MOST_NAMES)}: out of the choice."))
    return (*made, *failed(sweep.failures, points.names))


def nexts(points: Points) -> tuple[Next, ...]:
    """What to run next: the command that the sweep itself gives, and a finer look around the best."""
    sweep = points.sweep
    chosen = sweep.best
    if chosen is None:
        return ()
    edge = _at_edge(sweep, chosen.point)
    made = []
    # Without the command that was typed, that of a map would lack its second axis.
    typed = next_command(sweep) if sweep.command or not (sweep.groups or len(points.scales) > 1) else ""
    if typed:
        why = {"sweep": "The same with more seeds", "compare": "The chosen value beside no decay, with more seeds"}
        words = shlex.split(typed)
        wider = words[1] == "sweep" and words[-2:] == ["--seeds", str(len(sweep.seeds))]
        told = "A wider range, as the choice lies at its end" if wider else why.get(words[1], "Next")
        made.append(Next(told, shown(typed, most=4000)))
    if edge is None and chosen.point.value is not None and len(points.scales) == 1:
        around = _around(sweep, chosen.point.value)
        if around is not None:
            made.append(Next("A finer look around the best", _ranged(points, *around)))
    if edge is not None and not typed:
        factor = (1.0, 100.0) if edge == "upper" else (0.01, 1.0)
        made.append(Next("A wider range", _ranged(points, sweep.low * factor[0], sweep.high * factor[1])))
    return tuple(made)


def _around(sweep: Sweep, value: float) -> tuple[float, float] | None:
    values: Sequence[float] = sorted({point.value for point in sweep.points if point.value is not None})
    place = values.index(value)
    if not 0 < place < len(values) - 1:
        return None
    low, high = values[place - 1], values[place + 1]
    # A step of a fifth is less than seeds can tell.
    return None if high < 2 * low else (low, high)


def _ranged(points: Points, low: float, high: float) -> str:
    sweep = points.sweep
    low, high = (float(f"{value:.6g}") for value in (low, high))
    if sweep.task_words and not sweep.groups and len(points.scales) == 1:
        return shown(
            f"torchdecay sweep {sweep.task_words} --form {shlex.quote(sweep.form)} --from {spelled(low)} "
            f"--to {spelled(high)} --points 8 --seeds {len(sweep.seeds)}",
            most=4000,
        )
    form = "form" if sweep.form.startswith("function ") else repr(sweep.form)
    groups = ", groups=groups" if sweep.groups else ""
    scales = ", lr_scales=lr_scales" if len(points.scales) > 1 else ""
    search = f"Search({spelled(low)}, {spelled(high)}, points=8{scales})"
    return shown(f"sweep(task, {form}, search={search}, seeds={len(sweep.seeds)}{groups})", most=4000)


def next_command(sweep: Sweep) -> str:
    """What to type next: a wider range, more seeds, or the comparison that uses the chosen value; "" for nothing."""
    chosen, words = sweep.best, sweep.task_words
    name = sweep.form.partition(":")[0]
    if chosen is None or not words or name not in PRESETS:
        return ""
    if not sweep.command and (sweep.groups or len({point.lr_scale for point in sweep.points}) > 1):
        # Selectors and learning rates that were given in Python have no spelling that is sure to mean the same.
        return ""
    head = f"torchdecay sweep {words} --form {sweep.form}"
    edge = open_end(sweep, chosen)
    if edge and not sweep.groups:
        low, high = (sweep.low, sweep.high * 100) if edge == "upper" else (sweep.low / 100, sweep.high)
        return f"{head} --from {spelled(low)} --to {spelled(high)} --seeds {len(sweep.seeds)}"
    unsure = chosen.against is not None and chosen.against.better is None
    if (unsure or chosen.num_seeds == 1) and len(sweep.seeds) < _MORE_SEEDS:
        return _with_more_seeds(sweep, head)
    if chosen.point.value is None:
        return ""
    colon = f"{sweep.form}," if ":" in sweep.form else f"{sweep.form}:"
    return f"torchdecay compare {words} --decay none --decay {colon}{spelled(chosen.point.value)} --seeds {_MORE_SEEDS}"


def _with_more_seeds(sweep: Sweep, head: str) -> str:
    """The command as it was typed, with more seeds; without one, the same range."""
    resume = " --resume" if sweep.store else ""
    if not sweep.command:
        store = f" --store {sweep.store}" if sweep.store else ""
        return f"{head} --from {spelled(sweep.low)} --to {spelled(sweep.high)}{store} --seeds {_MORE_SEEDS}{resume}"
    words = shlex.split(sweep.command)
    drop = {i + shift for i, word in enumerate(words) if word == "--seeds" for shift in (0, 1)}
    drop |= {i for i, word in enumerate(words) if word.startswith("--seeds=") or word == "--resume"}
    kept = shlex.join(word for i, word in enumerate(words) if i not in drop)
    return f"{kept} --seeds {_MORE_SEEDS}{resume}"


def open_end(sweep: Sweep, chosen: Choice) -> str:
    """The end of the range beyond which something better may lie, or ""; below what changes nothing lies nothing."""
    edge = _at_edge(sweep, chosen.point)
    better = chosen.against is not None and chosen.against.better is True
    return "upper" if edge == "upper" else "lower" if edge == "lower" and better else ""


def _at_edge(sweep: Sweep, point: Point) -> str | None:
    """Tell "upper" or "lower" where a point holds the largest or smallest coefficient that was tried, else None."""
    values = [value for one in sweep.points for value in _values(one)]
    own = _values(point)
    if not own or len(set(values)) < 2:
        return None
    return "upper" if max(own) == max(values) else "lower" if min(own) == min(values) else None


def _values(point: Point) -> list[float]:
    return [value for _, value in point.values] or ([] if point.value is None else [point.value])
