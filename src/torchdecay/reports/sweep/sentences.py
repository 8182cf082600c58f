"""A sweep in plain words: a headline that claims no more than the seeds allow, and the verdict in full."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torchdecay.lab.comparisons.statistics import FEWEST_SEEDS, LEVEL
from torchdecay.lab.sweeps.racing import FEWEST
from torchdecay.reports.comparison.sentences import ALONE, LUCK, ONCE, TOO_FEW, failures_of, paired
from torchdecay.reports.comparison.series import curve_name
from torchdecay.reports.sweep.advice import open_end, takes_seeds
from torchdecay.reports.sweep.points import Points
from torchdecay.text import capital, counted, listing, number, shown, spelled, step_count

if TYPE_CHECKING:
    from torchdecay.lab.sweeps.choice import Choice
    from torchdecay.lab.sweeps.points import Point
    from torchdecay.lab.sweeps.result import Sweep

RULES = {
    "best": "the best mean",
    "one_se": "the largest within one standard error of the best mean",
}
_MOST_NAMES = 8
_MOST_TIES = 6


def headline(points: Points) -> tuple[str, str]:
    """What to take, and how sure that is: said only as strongly as the seeds allow."""
    sweep = points.sweep
    chosen, leader = sweep.best, sweep.leader
    if leader is None:
        return "No value can be chosen: no run ended with a finite number.", ""
    if chosen is None:
        return "Stopped before all runs were done, so no value is chosen.", _so_far(sweep, leader)
    if sweep.noise:
        return "Nothing can be learned here, so no value is right.", "The labels are noise."
    name = shown(chosen.point.label, most=60)
    own = f"{points.curve_name(chosen.measure)} {number(chosen.mean)}{_interval(chosen.low, chosen.high)}"
    if chosen.point.is_bare:
        if len(chosen.tied) and chosen.num_seeds >= FEWEST_SEEDS:
            return f"No measurable gain from decay: none did better than no decay ({own}).", _tied(points, chosen)
        return f"Best without decay: {own}.", _once(chosen)
    if chosen.num_seeds == 1:
        return f"{name} did best: {own}.", _once(chosen)
    if chosen.num_seeds < FEWEST_SEEDS:
        return f"{name} did best: {own}.", _on_test(points, chosen)
    against = chosen.against
    if against is None or against.better is None:
        return f"No measurable difference: {name} did best, at {own}.", _on_test(points, chosen)
    if against.better:
        return f"Use {name}: {own}.", _on_test(points, chosen)
    if sweep.metric:
        return f"{name} did best, and is no better than no decay.", _on_test(points, chosen)
    return f"{name} did best in validation, but on the test rows no decay is better.", _on_test(points, chosen)


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    if number(low) == number(high):
        return ", the same with every seed"
    return f", 95 % interval {number(low)} to {number(high)}"


def _once(chosen: Choice) -> str:
    if chosen.num_seeds == 1:
        return ONCE
    return f"{capital(TOO_FEW)}." if chosen.num_seeds < FEWEST_SEEDS else ""


def _tied(points: Points, chosen: Choice) -> str:
    names = [points.names[label] for label in chosen.tied]
    return f"{counted(chosen.num_seeds, 'seed')} can’t tell it from {listing(names, most=_MOST_NAMES)}."


def _on_test(points: Points, chosen: Choice) -> str:
    where = "" if points.sweep.metric else "On test rows, "
    head = capital(f"{where}{points.curve_name(chosen.test_measure)} {number(chosen.test_mean)}")
    one = chosen.against
    if one is None or one.mean is None or one.low is None or one.high is None:
        return f"{head}."
    base = chosen.test_mean - one.mean
    seeds = counted(len(one.differences), "seed")
    none = capital(TOO_FEW) if len(one.differences) < FEWEST_SEEDS else f"{seeds} can’t show a difference"
    sure = none if one.better is None else f"{LUCK} {seeds} can explain"
    level = "95 %" if one.level == LEVEL else "95 % for all values together"
    return (
        f"{head}, against {number(base)} without decay. {sure} (interval of the difference "
        f"{number(one.low, signed=True)} to {number(one.high, signed=True)}, {level})."
    )


def verdict(sweep: Sweep) -> str:
    """What these runs show and what they do not, in plain words: one paragraph per line."""
    chosen, leader = sweep.best, sweep.leader
    lines = _unfinished(sweep)
    if leader is None:
        lines += ["No point has a finished run with finite numbers, so nothing is chosen.", *_lost(sweep)]
    elif chosen is None:
        lines.append(f"Nothing is chosen before all are done. {_so_far(sweep, leader)}")
    else:
        lines += [
            _choice(sweep, chosen),
            *_test(sweep, chosen),
            *_ties(sweep, chosen),
            *_where(sweep),
            *_meaning(sweep, chosen.point),
            *_edge(sweep, chosen),
            *_lost(sweep),
            *_limits(sweep, chosen),
            *sweep.direction,
        ]
    return "\n".join(lines)


def _unfinished(sweep: Sweep) -> list[str]:
    kept = " Without a store the next try begins anew."
    if sweep.store:
        kept = f" They are kept in {sweep.store}: --resume goes on."
    under_way = sum(run.unfinished for run in sweep.runs)
    rest = f" Of {under_way} more there are the curves so far." if under_way else ""
    done = len(sweep.runs) - under_way
    stopped = f"Stopped early, with {done} runs finished; only they count here.{rest}{kept}"
    return [*([stopped] if sweep.interrupted else []), *failures_of(sweep)]


def _so_far(sweep: Sweep, leader: Choice) -> str:
    """The best of what there is, among as many as it can be set against."""
    named = "no decay" if leader.point.is_bare else shown(leader.point.label, most=60)
    able = len([one for one in sweep.compared if one.num_runs == leader.num_seeds])
    if able < 2:
        return "No two settings have finished runs with a seed in common, so nothing can be told yet."
    among = counted(able, "setting")
    measure = curve_name(leader.measure, sweep)
    return (
        f"Best so far: {named}, {measure} {number(leader.mean)} over {counted(leader.num_seeds, 'seed')}, of {among}."
    )


def _choice(sweep: Sweep, chosen: Choice) -> str:
    named = "no decay" if chosen.point.is_bare else chosen.point.label
    tried = len([one for one in sweep.curve if not one.point.is_bare and one.num_runs == chosen.num_seeds])
    span = _span(chosen.low, chosen.high, chosen.num_seeds)
    measure = curve_name(chosen.measure, sweep)
    where = "" if sweep.metric else " on the validation rows"
    line = (
        f"Chosen: {named}, by {RULES[chosen.rule]}{where}: {measure} {number(chosen.mean)}{span}, "
        f"of {'one value' if tried == 1 else counted(tried, 'value')} and no decay."
    )
    if chosen.leader != chosen.point.label:
        line += f" The best mean itself is that of {chosen.leader}."
    return line


def _test(sweep: Sweep, chosen: Choice) -> list[str]:
    head = f"On the test rows, which took no part in the choice: {curve_name(chosen.test_measure, sweep)} "
    head += f"{number(chosen.test_mean)}{_span(chosen.test_low, chosen.test_high, chosen.num_seeds)}"
    one = chosen.against
    if one is None or one.mean is None:
        return [] if sweep.metric else [f"{head}."]
    base = sweep.comparison(one.baseline).mean_and_spread(one.baseline, one.measure)[0]
    head = f"Against no decay ({number(base)})" if sweep.metric else f"{head}, against {number(base)} without decay"
    return [head + paired(one, "no measurable difference")]


def _ties(sweep: Sweep, chosen: Choice) -> list[str]:
    tied = [label for label in chosen.tied if label != chosen.point.label]
    if chosen.num_seeds < FEWEST_SEEDS or not tied:
        return []
    where = "" if sweep.metric else "on the validation rows "
    if len(tied) == len([one for one in sweep.curve if one.num_runs or one.stopped]) - 1:
        return [capital(f"{where}none differs measurably from the best: as far as this shows, any would do.")]
    return [capital(f"{where}these can't be told from the best: {listing(tied, most=_MOST_TIES)}.")]


def _where(sweep: Sweep) -> list[str]:
    found = sweep.optimum
    if found is None:
        return []
    if found.opens_down and found.opens_up:
        return ["Where the best value itself lies these runs don't tell: anywhere in what was tried, or beyond."]
    place = f"between {spelled(found.low)} and {spelled(found.high)}"
    if found.opens_down or found.opens_up:
        place = f"at {spelled(found.high)} or below" if found.opens_down else f"at {spelled(found.low)} or above"
    return [
        f"The best value itself lies {place}, at 95 % and if there is one hump, by a Gaussian process over "
        f"{found.num_values} values."
    ]


def _meaning(sweep: Sweep, point: Point) -> list[str]:
    found = next((one for one in sweep.meanings if one.label == point.label), None)
    if found is None or point.is_bare or not found.half_life or not math.isfinite(found.half_life):
        return []
    assert found.share_of_run is not None
    share = found.share_of_run
    part = f"{step_count(share)} times" if share >= 1 else f"{share:.2%} of" if share < 0.01 else f"{share:.0%} of"
    steps = f"{step_count(found.half_life)} steps"
    return [
        f"What it means: a weight that no gradient moves is halved in {steps}, {part} this run. In a run of another "
        "length or learning rate, another value means that."
    ]


def _edge(sweep: Sweep, chosen: Choice) -> list[str]:
    edge = open_end(sweep, chosen)
    if not edge:
        return []
    return [f"The choice lies at the {edge} end of what was tried: a wider range may hold a better one."]


def _lost(sweep: Sweep) -> list[str]:
    curve = sweep.curve
    diverged = [one.point.label for one in curve if one.diverged]
    stopped = sum(len(one.stopped) for one in curve)
    lines = [f"Diverged, and out of the choice: {listing(diverged, most=_MOST_TIES)}."] if diverged else []
    if stopped:
        lines.append(
            f"Successive halving stopped {stopped} of {len(sweep.runs)} runs early; they do not compete."
            + (f" {sweep.why_rungs}" if sweep.why_rungs else "")
        )
    if sweep.race and not sweep.interrupted:
        left, tried = sweep.left_race, len([one for one in curve if not one.point.is_bare])
        runs = counted(sum(len(sweep.seeds) - len(sweep.of(label)) for label in left), "run")
        lines.append(
            f"Raced: {len(left)} of {counted(tried, 'value')} were clearly worse than the best after {FEWEST} seeds or "
            f"more and got no further ones ({runs} saved); they do not compete."
        )
    return lines


def _limits(sweep: Sweep, chosen: Choice) -> list[str]:
    lines = []
    if sweep.noise:
        lines.append("The labels are noise: there is nothing to learn, and no value is right.")
    if chosen.num_seeds < FEWEST_SEEDS:
        again = f"repeat with --seeds {FEWEST_SEEDS} or more" if takes_seeds(sweep) else "give the command its {seed}"
        if sweep.alike_seeds:
            again = "let the seed change the run"
        few = ALONE if chosen.num_seeds == 1 else "Two seeds are too few to claim anything:"
        lines.append(f"{few} {again} before believing the choice.")
    else:
        good = "number is" if sweep.metric else "validation number is"
        less = "" if sweep.metric else "its test number less so, "
        lines.append(
            f"The winner of many had some luck: its {good} a little too good, {less}and what stands against no decay "
            "allows for it. Intervals are 95 % t intervals and cover the seeds' randomness on this task, nothing "
            "beyond it."
        )
    return lines


def _span(low: float | None, high: float | None, count: int) -> str:
    if low is None or high is None:
        return " (one seed)"
    return f" (95 % interval {number(low)} to {number(high)} over {count} seeds)"
