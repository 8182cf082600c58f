"""What a sweep's page says in words: the first sentence, what to be wary of, what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchdecay.reports.sweep.points import curve_name, lr_scales, name_of
from torchdecay.text import counted, listing, number, prose, shown, spelled

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.choice import Chosen
    from torchdecay.lab.sweeps.result import Sweep
    from torchdecay.lab.training.results import Failure

_MOST_NAMES = 8


@dataclass(frozen=True)
class Notice:
    """Something to be wary of; a traceback can be unfolded."""

    head: str
    text: str
    traceback: str = ""


@dataclass(frozen=True)
class Next:
    """What to run next, and why."""

    why: str
    command: str


def headline(sweep: Sweep) -> tuple[str, str]:
    """What to take, and how sure that is: said only as strongly as the seeds allow."""
    chosen = sweep.best
    if chosen is None:
        return "No value can be chosen: no run ended with a finite number.", ""
    if sweep.noise:
        return "Nothing can be learned here, so no value is right.", "The labels are noise."
    name = name_of(sweep, chosen.point)
    own = f"{curve_name(sweep, chosen.measure)} {number(chosen.mean)}{_interval(chosen.low, chosen.high)}"
    if chosen.point.is_bare:
        if len(chosen.tied) and chosen.num_seeds > 1:
            return f"No measurable gain from decay: none did better than no decay ({own}).", _tied(sweep, chosen)
        return f"Best without decay: {own}.", _once(chosen)
    if chosen.num_seeds == 1:
        return f"{name} did best: {own}.", _once(chosen)
    against = chosen.against
    if against is None or against.better is None:
        return f"No measurable difference: {name} did best, at {own}.", _test(sweep, chosen)
    if against.better:
        return f"Take {name}: {own}.", _test(sweep, chosen)
    return f"{name} did best in validation, but on the test rows no decay is better.", _test(sweep, chosen)


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    if number(low) == number(high):
        return ", the same with every seed"
    return f", 95 % interval {number(low)} to {number(high)}"


def _once(chosen: Chosen) -> str:
    return "" if chosen.num_seeds > 1 else "One seed: this happened once and is not a measured difference."


def _tied(sweep: Sweep, chosen: Chosen) -> str:
    names = [name_of(sweep, sweep.point(label)) for label in chosen.tied]
    return f"{counted(chosen.num_seeds, 'seed')} can’t tell it from {listing(names, most=_MOST_NAMES)}."


def _test(sweep: Sweep, chosen: Chosen) -> str:
    head = f"On test rows, {curve_name(sweep, chosen.test_measure)} {number(chosen.test_mean)}"
    one = chosen.against
    if one is None or one.mean is None or one.low is None or one.high is None:
        return f"{head}."
    base = chosen.test_mean - one.mean
    seeds = counted(len(one.differences), "seed")
    luck = f"A larger difference than {seeds} explain by luck"
    sure = f"{seeds} can’t show a difference" if one.better is None else luck
    return (
        f"{head}, against {number(base)} without decay. {sure} (95 % interval of the difference "
        f"{_signed(one.low)} to {_signed(one.high)})."
    )


def notices(sweep: Sweep) -> tuple[Notice, ...]:
    """What is missing, failed or at the edge."""
    from torchdecay.lab.sweeps.words import at_edge

    made = []
    chosen = sweep.best
    edge = None if chosen is None else at_edge(sweep, chosen.point)
    if chosen is not None and edge is not None:
        way = "beyond" if edge == "upper" else "below"
        made.append(
            Notice(
                f"The choice lies at the {edge} end of what was tried",
                f"What lies {way} {name_of(sweep, chosen.point)} is not known: widen the range before taking it.",
            )
        )
    missing = _missing(sweep)
    if sweep.interrupted or missing:
        head = "Stopped before all runs were done" if sweep.interrupted else "Not all runs were finished"
        kept = f" What is finished is kept in {shown(sweep.store)}; --resume goes on." if sweep.store else ""
        lost = f" Missing: {listing(missing, most=_MOST_NAMES)}." if missing else ""
        made.append(Notice(head, f"{counted(len(sweep.runs), 'run')} finished, and only they count.{lost}{kept}"))
    diverged = [name_of(sweep, one.point) for one in sweep.curve if one.diverged]
    if diverged:
        made.append(Notice("Some runs diverged", f"{listing(diverged, most=_MOST_NAMES)}: out of the choice."))
    return (*made, *_failures(sweep))


def _failures(sweep: Sweep) -> list[Notice]:
    """Failed runs, those with the same message together."""
    alike: dict[str, list[Failure]] = {}
    for failure in sweep.failures:
        alike.setdefault(failure.message, []).append(failure)
    names = {point.label: name_of(sweep, point) for point in sweep.points}
    made = []
    for message, some in alike.items():
        who = [f"{names.get(one.label, shown(one.label))}, seed {one.seed}" for one in some]
        head = f"A run failed: {who[0]}" if len(who) == 1 else f"{len(who)} runs failed"
        names_all = f" These are {listing(who, most=_MOST_NAMES)}." if len(who) > 1 else ""
        made.append(Notice(head, prose(message) + names_all, _lines(some[0].traceback)))
    return made


def _missing(sweep: Sweep) -> list[str]:
    made = []
    for point in sweep.points:
        known = {run.seed for run in sweep.of(point.label, whole=False)}
        known |= {failure.seed for failure in sweep.failures if failure.label == point.label}
        seeds = [str(seed) for seed in sweep.seeds if seed not in known]
        if seeds:
            made.append(f"{name_of(sweep, point)} (seed{'s' if len(seeds) > 1 else ''} {listing(seeds, most=5)})")
    return made


def _lines(text: str) -> str:
    """A traceback with its lines, each made safe to show; of a very long one the end, which says most."""
    return "\n".join(shown(line, most=400) for line in text.splitlines()[-60:])


def nexts(sweep: Sweep) -> tuple[Next, ...]:
    """What to run next: the command that the sweep itself gives, and a finer look around the best."""
    from torchdecay.lab.sweeps.words import at_edge

    chosen = sweep.best
    if chosen is None:
        return ()
    edge = at_edge(sweep, chosen.point)
    made = []
    # Without the command that was typed, that of a map would lack its second axis.
    typed = sweep.next_command if sweep.command or not (sweep.groups or len(lr_scales(sweep)) > 1) else ""
    if typed:
        why = {"sweep": "The same with more seeds", "compare": "The chosen value beside no decay, with more seeds"}
        words = shlex.split(typed)
        wider = words[1] == "sweep" and words[-2:] == ["--seeds", str(len(sweep.seeds))]
        told = "A wider range, as the choice lies at its end" if wider else why.get(words[1], "Next")
        made.append(Next(told, shown(typed, most=4000)))
    if edge is None and chosen.point.value is not None and len(lr_scales(sweep)) == 1:
        around = _around(sweep, chosen.point.value)
        if around is not None:
            made.append(Next("A finer look around the best", _ranged(sweep, *around)))
    if edge is not None and not typed:
        factor = (1.0, 100.0) if edge == "upper" else (0.01, 1.0)
        made.append(Next("A wider range", _ranged(sweep, sweep.low * factor[0], sweep.high * factor[1])))
    return tuple(made)


def _around(sweep: Sweep, value: float) -> tuple[float, float] | None:
    values: Sequence[float] = sorted({point.value for point in sweep.points if point.value is not None})
    place = values.index(value)
    if not 0 < place < len(values) - 1:
        return None
    low, high = values[place - 1], values[place + 1]
    # A step of a fifth is less than seeds can tell.
    return None if high < 2 * low else (low, high)


def _ranged(sweep: Sweep, low: float, high: float) -> str:
    low, high = (float(f"{value:.6g}") for value in (low, high))
    if sweep.task_words and not sweep.groups and len(lr_scales(sweep)) == 1:
        return shown(
            f"torchdecay sweep {sweep.task_words} --form {shlex.quote(sweep.form)} --from {spelled(low)} "
            f"--to {spelled(high)} --points 8 --seeds {len(sweep.seeds)}",
            most=4000,
        )
    form = "form" if sweep.form.startswith("function ") else repr(sweep.form)
    groups = ", groups=groups" if sweep.groups else ""
    groups += ", lr_scales=lr_scales" if len(lr_scales(sweep)) > 1 else ""
    return shown(
        f"sweep(task, {form}, low={spelled(low)}, high={spelled(high)}, points=8, seeds={len(sweep.seeds)}{groups})",
        most=4000,
    )


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)
