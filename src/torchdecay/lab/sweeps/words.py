"""A sweep in plain words, and the command to type next."""

from __future__ import annotations

import math
import shlex

from torchdecay.lab.comparisons.statistics import number
from torchdecay.lab.sweeps.choice import Chosen
from torchdecay.lab.sweeps.result import Point, Sweep
from torchdecay.lab.sweeps.search import rounded
from torchdecay.plans.forms import PRESETS
from torchdecay.text import spelled

RULES = {
    "best": "the best mean",
    "one_se": "the largest within one standard error of the best mean",
}
MOST_TIES = 6
MORE_SEEDS = 5


def verdict(sweep: Sweep) -> str:
    """`Sweep.verdict`, which documents it."""
    chosen = sweep.best
    if chosen is None:
        return "\n".join(
            [*_unfinished(sweep), "No point has a finished run with finite numbers, so nothing is chosen."]
        )
    return "\n".join(
        [
            *_unfinished(sweep),
            _choice(sweep, chosen),
            *_test(sweep, chosen),
            *_ties(sweep, chosen),
            *_meaning(sweep, chosen.point),
            *_edge(sweep, chosen),
            *_lost(sweep),
            *_limits(sweep, chosen),
            *sweep.direction,
        ]
    )


def _unfinished(sweep: Sweep) -> list[str]:
    lines = []
    if sweep.interrupted:
        kept = f" They are kept in {sweep.store}: --resume goes on." if sweep.store else ""
        lines.append(f"Stopped early, with {len(sweep.runs)} runs finished; only they count here.{kept}")
    if sweep.failures:
        labels = list(dict.fromkeys(failure.label for failure in sweep.failures))
        lines.append(f"{len(sweep.failures)} runs failed ({_listed(labels)}); they are listed with their messages.")
    return lines


def _choice(sweep: Sweep, chosen: Chosen) -> str:
    named = "no decay" if chosen.point.is_bare else chosen.point.label
    tried = len([one for one in sweep.points if not one.is_bare])
    span = _span(chosen.low, chosen.high, chosen.num_seeds)
    line = (
        f"Chosen: {named}, by {RULES[chosen.rule]} on the validation rows: {_name(sweep, chosen.measure)} "
        f"{number(chosen.mean)}{span}, of {tried} values and no decay."
    )
    if chosen.leader != chosen.point.label:
        line += f" The best mean itself is that of {chosen.leader}."
    return line


def _test(sweep: Sweep, chosen: Chosen) -> list[str]:
    head = f"On the test rows, which took no part in the choice: {_name(sweep, chosen.test_measure)} "
    head += f"{number(chosen.test_mean)}{_span(chosen.test_low, chosen.test_high, chosen.num_seeds)}"
    one = chosen.against
    if one is None or one.mean is None:
        return [f"{head}."]
    base = sweep.comparison(one.baseline).mean_and_spread(one.baseline, one.measure)[0]
    head += f", against {number(base)} without decay"
    if one.low is None or one.high is None:
        return [f"{head}; one seed, so this is what happened once, not a measured difference."]
    tail = (
        f"paired difference over {len(one.differences)} seeds {number(one.mean, signed=True)}, interval "
        f"{number(one.low, signed=True)} to {number(one.high, signed=True)}"
    )
    if one.better is None:
        return [f"{head}: no measurable difference ({tail})."]
    return [f"{head}: {'better' if one.better else 'worse'}, and by more than the seeds explain ({tail})."]


def _ties(sweep: Sweep, chosen: Chosen) -> list[str]:
    tied = [label for label in chosen.tied if label != chosen.point.label]
    if chosen.num_seeds < 2 or not tied:
        return []
    if len(tied) == len([one for one in sweep.curve if one.num_runs == chosen.num_seeds]) - 1:
        return ["On the validation rows none differs measurably from the best: as far as this shows, any would do."]
    return [f"On the validation rows these can't be told from the best: {_listed(tied)}."]


def _meaning(sweep: Sweep, point: Point) -> list[str]:
    found = next((one for one in sweep.meanings if one.label == point.label), None)
    if found is None or point.is_bare or not found.half_life or not math.isfinite(found.half_life):
        return []
    assert found.share_of_run is not None
    share = found.share_of_run
    part = f"{many(share)} times" if share >= 1 else f"{share:.2%} of" if share < 0.01 else f"{share:.0%} of"
    steps = f"{many(found.half_life)} steps"
    return [
        f"What it means: a weight that no gradient moves is halved in {steps}, {part} this run. In a run of another "
        "length or learning rate, another value means that."
    ]


def _edge(sweep: Sweep, chosen: Chosen) -> list[str]:
    edge = _open_end(sweep, chosen)
    if not edge:
        return []
    return [f"The choice lies at the {edge} end of what was tried: a wider range may hold a better one."]


def _open_end(sweep: Sweep, chosen: Chosen) -> str:
    """The end of the range beyond which something better may lie, or ""; below what changes nothing lies nothing."""
    edge = at_edge(sweep, chosen.point)
    better = chosen.against is not None and chosen.against.better is True
    return "upper" if edge == "upper" else "lower" if edge == "lower" and better else ""


def at_edge(sweep: Sweep, point: Point) -> str | None:
    """Tell "upper" or "lower" where a point holds the largest or smallest coefficient that was tried, else None."""
    values = [value for one in sweep.points for value in _values(one)]
    own = _values(point)
    if not own or len(set(values)) < 2:
        return None
    return "upper" if max(own) == max(values) else "lower" if min(own) == min(values) else None


def _values(point: Point) -> list[float]:
    return [value for _, value in point.values] or ([] if point.value is None else [point.value])


def _lost(sweep: Sweep) -> list[str]:
    curve = sweep.curve
    diverged = [one.point.label for one in curve if one.diverged]
    stopped = sum(len(one.stopped) for one in curve)
    lines = [f"Diverged, and out of the choice: {_listed(diverged)}."] if diverged else []
    if stopped:
        lines.append(
            f"Successive halving stopped {stopped} of {len(sweep.runs)} runs early, maybe before a slow decay had "
            "acted; they do not compete."
        )
    return lines


def _limits(sweep: Sweep, chosen: Chosen) -> list[str]:
    lines = []
    if sweep.noise:
        lines.append("The labels are noise: there is nothing to learn, and no value is right.")
    if chosen.num_seeds == 1:
        lines.append("One seed can't tell luck from effect: repeat with --seeds 3 or more before believing the choice.")
    else:
        lines.append(
            "The validation number of the winner of many is a little too good; the test number is not. Intervals are "
            "95 % t intervals and cover the seeds' randomness on this task, nothing beyond it."
        )
    return lines


def next_command(sweep: Sweep) -> str:
    """`Sweep.next_command`, which documents it."""
    chosen, words = sweep.best, sweep.task_words
    name = sweep.form.partition(":")[0]
    if chosen is None or not words or name not in PRESETS:
        return ""
    if not sweep.command and (sweep.groups or len({point.lr_scale for point in sweep.points}) > 1):
        # Selectors and learning rates that were given in Python have no spelling that is sure to mean the same.
        return ""
    head = f"torchdecay sweep {words} --form {sweep.form}"
    edge = _open_end(sweep, chosen)
    if edge and not sweep.groups:
        low, high = (sweep.low, sweep.high * 100) if edge == "upper" else (sweep.low / 100, sweep.high)
        return f"{head} --from {spelled(low)} --to {spelled(high)} --seeds {len(sweep.seeds)}"
    unsure = chosen.against is not None and chosen.against.better is None
    if (unsure or chosen.num_seeds == 1) and len(sweep.seeds) < MORE_SEEDS:
        return _with_more_seeds(sweep, head)
    if chosen.point.value is None:
        return ""
    colon = f"{sweep.form}," if ":" in sweep.form else f"{sweep.form}:"
    return f"torchdecay compare {words} --decay none --decay {colon}{spelled(chosen.point.value)} --seeds {MORE_SEEDS}"


def _with_more_seeds(sweep: Sweep, head: str) -> str:
    """The command as it was typed, with more seeds; without one, the same range."""
    resume = " --resume" if sweep.store else ""
    if not sweep.command:
        store = f" --store {sweep.store}" if sweep.store else ""
        return f"{head} --from {spelled(sweep.low)} --to {spelled(sweep.high)}{store} --seeds {MORE_SEEDS}{resume}"
    words = shlex.split(sweep.command)
    drop = {i + shift for i, word in enumerate(words) if word == "--seeds" for shift in (0, 1)}
    drop |= {i for i, word in enumerate(words) if word.startswith("--seeds=") or word == "--resume"}
    kept = shlex.join(word for i, word in enumerate(words) if i not in drop)
    return f"{kept} --seeds {MORE_SEEDS}{resume}"


def many(steps: float) -> str:
    """A number for people: three digits, no exponent."""
    return f"{rounded(steps):,.0f}" if steps >= 100 else f"{steps:.3g}"


def _name(sweep: Sweep, measure: str) -> str:
    part, _, kind = measure.partition("_")
    return f"{part} {sweep.score_name if kind == 'score' else 'loss'}"


def _span(low: float | None, high: float | None, count: int) -> str:
    if low is None or high is None:
        return " (one seed)"
    return f" (95 % interval {number(low)} to {number(high)} over {count} seeds)"


def _listed(labels: list[str]) -> str:
    more = f" and {len(labels) - MOST_TIES} more" if len(labels) > MOST_TIES else ""
    return ", ".join(labels[:MOST_TIES]) + more
