"""What a reader of a sweep should be wary of, and what to run next: a wider range, more seeds, a finer look."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchdecay.lab.comparisons.statistics import FEWEST_SEEDS
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
    if chosen is not None and (edge := open_end(sweep, chosen)):
        way = "beyond" if edge == "upper" else "below"
        made.append(
            Notice(
                f"The choice lies at the {edge} end of what was tried",
                f"What lies {way} {points.name(chosen.point)} is not known: widen the range before using it.",
            )
        )
    done = {label: {run.seed for run in runs} for label, runs in points.runs.items()}
    for failure in sweep.failures:
        done[failure.label].add(failure.seed)
    for label in sweep.left_race:
        done[label].update(sweep.seeds)
    kept = f" What is finished is kept in {shown(sweep.store)}; --resume goes on." if sweep.store else ""
    finished = counted(sum(not run.unfinished for run in sweep.runs), "run")
    count = f"{finished} finished, and only they count.{kept}".rstrip(".")
    made += unfinished(points.names, done, sweep.seeds, count, interrupted=sweep.interrupted)
    diverged = [points.name(one.point) for one in sweep.curve if one.diverged]
    if diverged:
        made.append(Notice("Some runs diverged", f"{listing(diverged, most=_MOST_NAMES)}: out of the choice."))
    return (*made, *failed(sweep.failures, points.names))


def nexts(points: Points) -> tuple[Next, ...]:
    """What to run next: the command that the sweep itself gives, and a finer look around the best."""
    sweep = points.sweep
    chosen = sweep.best
    made = []
    if typed := next_command(sweep):
        made.append(Next(_why(sweep), shown(typed, most=4000)))
    if chosen is None:
        return tuple(made)
    edge = open_end(sweep, chosen)
    if not edge and chosen.point.value is not None and len(points.scales) == 1:
        around = _around(sweep, chosen.point.value)
        if around is not None:
            made.append(Next("A finer look around the best", _ranged(sweep, *around)))
    if edge and not typed:
        made.append(Next("A wider range", _ranged(sweep, *_wider(sweep, edge))))
    return tuple(made)


def _why(sweep: Sweep) -> str:
    chosen = sweep.best
    if chosen is None:
        return "Finish what was stopped"
    if open_end(sweep, chosen):
        return "A wider range, as the choice lies at its end"
    return "The same with more seeds" if _is_unsure(sweep, chosen) else "The chosen value beside no decay"


def _around(sweep: Sweep, value: float) -> tuple[float, float] | None:
    values: Sequence[float] = sorted({point.value for point in sweep.points if point.value is not None})
    place = values.index(value)
    if not 0 < place < len(values) - 1:
        return None
    low, high = values[place - 1], values[place + 1]
    # A step of a fifth is less than seeds can tell.
    return None if high < 2 * low else (low, high)


def next_command(sweep: Sweep) -> str:
    """What to type next: the rest, a wider range, more seeds, or a comparison with the chosen value; "" for nothing."""
    chosen, name = sweep.best, sweep.form.partition(":")[0]
    if sweep.interrupted:
        # Where nothing was kept, the next try should keep what it finishes.
        return _again(sweep, keep=bool(sweep.command))
    if chosen is None:
        return ""
    if edge := open_end(sweep, chosen):
        return _again(sweep, _wider(sweep, edge))
    if _is_unsure(sweep, chosen):
        return _again(sweep, seeds=_MORE_SEEDS)
    if chosen.point.value is None or chosen.point.lr_scale != 1 or not sweep.task_words or name not in PRESETS:
        return ""
    colon = f"{sweep.form}," if ":" in sweep.form else f"{sweep.form}:"
    decays = f"--decay none --decay {colon}{spelled(chosen.point.value)}"
    return f"torchdecay compare {sweep.task_words} {decays} --seeds {_MORE_SEEDS}"


def _is_unsure(sweep: Sweep, chosen: Choice) -> bool:
    unclear = chosen.against is not None and chosen.against.better is None
    more = len(sweep.seeds) < _MORE_SEEDS and takes_seeds(sweep)
    return (unclear or chosen.num_seeds < FEWEST_SEEDS) and more


def takes_seeds(sweep: Sweep) -> bool:
    """Whether another seed makes another run: not where a command has no place for it, or it changed nothing."""
    return not sweep.alike_seeds and "{seed}" in dict(sweep.facts).get("command", "{seed}")


def _again(
    sweep: Sweep, ends: tuple[float, float] | None = None, seeds: int | None = None, *, keep: bool = False
) -> str:
    """The command as it was typed, with another range or more seeds, going on from the store where there is one.

    With `keep` one that has no store gets one. What is swept behind `--` stays behind it.

    For a sweep that was made in Python, what says the same; "" where nothing is sure to.
    """
    try:
        words = shlex.split(sweep.command)
    except ValueError:
        # A file can say anything.
        return ""
    if not words:
        scales = {point.lr_scale for point in sweep.points}
        if not sweep.task_words or sweep.groups or scales - {1.0} or sweep.form.partition(":")[0] not in PRESETS:
            return ""
        words = ["torchdecay", "sweep", *shlex.split(sweep.task_words), "--form", sweep.form]
        words += [] if sweep.search == "grid" else ["--search", sweep.search]
        words += ["--race"] if sweep.race else []
        words += ["--store", sweep.store] if sweep.store else []
        ends, seeds = ends or (sweep.low, sweep.high), seeds or len(sweep.seeds)
    drop = {"--resume"} | ({"--from", "--to", "--value"} if ends else set()) | ({"--seeds"} if seeds else set())
    kept, is_value = [], False
    place = words.index("--") if "--" in words else len(words)
    words, behind = words[:place], words[place:]
    for word in words:
        name, equals, _ = word.partition("=")
        if not is_value and name not in drop:
            kept.append(word)
        is_value = not is_value and name in drop - {"--resume"} and not equals
    if ends:
        kept += ["--from", spelled(ends[0]), "--to", spelled(ends[1])]
    kept += ["--seeds", str(seeds)] if seeds else []
    kept += ["--resume"] if sweep.store else ["--store", "sweep.db"] if keep else []
    return shlex.join([*kept, *behind])


def _ranged(sweep: Sweep, low: float, high: float) -> str:
    """Another range: the command, or what to write in Python."""
    if typed := _again(sweep, (low, high)):
        return shown(typed, most=4000)
    form = "form" if sweep.form.startswith("function ") else repr(sweep.form)
    groups = ", groups=groups" if sweep.groups else ""
    scales = ", lr_scales=lr_scales" if len({point.lr_scale for point in sweep.points}) > 1 else ""
    search = f"Search({spelled(low)}, {spelled(high)}, points=8{scales})"
    return shown(f"sweep(task, {form}, search={search}, seeds={len(sweep.seeds)}{groups})", most=4000)


def _wider(sweep: Sweep, edge: str) -> tuple[float, float]:
    """A range that goes on a hundredfold beyond an end, as far as a step leaves something of a weight."""
    if edge == "lower":
        return sweep.low / 100, sweep.high
    return sweep.low, min(sweep.high * 100, _most(sweep))


def _most(sweep: Sweep) -> float:
    """The largest coefficient, to one digit, that takes less than a whole weight in a step."""
    fractions = {one.label: one.max_fraction or 0.0 for one in sweep.meanings}
    each = [fractions.get(point.label, 0.0) / point.value for point in sweep.points if point.value]
    if not any(each):
        return math.inf
    most = 0.999 / max(each)
    unit = 10.0 ** math.floor(math.log10(most))
    return float(f"{math.floor(most / unit) * unit:.6g}")


def open_end(sweep: Sweep, chosen: Choice) -> str:
    """The end of the range beyond which something better may lie, or "".

    Nothing is looked for beyond what these seeds can't tell from no decay, nor where a step takes whole weights.
    """
    edge, against = _at_edge(sweep, chosen.point), chosen.against
    if edge == "upper" and (against is None or against.better) and _most(sweep) >= 1.5 * max(chosen.point.coefficients):
        return "upper"
    return "lower" if edge == "lower" and against is not None and against.better else ""


def _at_edge(sweep: Sweep, point: Point) -> str | None:
    """Tell "upper" or "lower" where a point holds the largest or smallest coefficient that was tried, else None."""
    values = [value for one in sweep.points for value in one.coefficients]
    own = point.coefficients
    if not own or len(set(values)) < 2:
        return None
    return "upper" if max(own) == max(values) else "lower" if min(own) == min(values) else None
