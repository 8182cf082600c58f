"""`convert`: the same decay in another unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torchdecay.arguments import check_number
from torchdecay.errors import UnitError
from torchdecay.observe.units.context import HOW, Context, gather, missing
from torchdecay.observe.units.decays import unit_of
from torchdecay.observe.units.graph import UNITS, Net, Node, Unit, Value
from torchdecay.plans.decay import Decay, Site
from torchdecay.text import listed, nearest, repr_quoted

NATIVE = "native"


def convert(value: Value, source: str | None = None, target: str | None = None, **context: Any) -> Value:
    r"""The same decay in another unit: `convert(0.1, "decoupled", "half_life", lr=1e-3)`.

    With f the fraction of each weight that a step removes, and λ as each convention has it:

    $$f = \eta\,\lambda_{\text{decoupled}}
        = \frac{\eta}{\eta_{\max}}\,\lambda_{\text{independent}}
        = \lambda_{\text{per step}}, \qquad
      \tau = \frac1f, \qquad
      \text{half-life} = \frac{\ln 2}{-\ln(1 - f)}$$

    $$\lambda_{\text{coupled}} = 2\,\lambda_{\text{penalty}} = \lambda_{\text{textbook}}/m$$

    A coupled decay (in the gradient or the loss) is a decoupled one under plain SGD only: `optimizer=` must say so, and
    every other optimizer is refused with the reason. All units, with their equations: `torchdecay convert --list`.

    Args:
        value: a number; a pair for "elastic_net" (alpha, l1_ratio) and "l1_l2"; or a `Decay`, which knows its own unit:
            `convert(td.decoupled(0.1), "half_life", lr=1e-3)`.
        source: the unit of `value`.
        target: the unit to return.
        context: what the two units need, and no more is asked for: lr, max_lr, num_samples, batch_size, accumulate,
            steps, epochs, steps_per_epoch, tokens_per_sample, tokens_per_step; optimizer (a torch optimizer or a name)
            and momentum; loss ("mse", "half_mse" or "cross_entropy", each the mean) for scikit-learn's; or run, a
            `td.Run` that knows many of them. Under a schedule its lr is the mean over the run.

    Returns:
        A float, or a named pair.

    Raises:
        UnitError: an unknown unit; context that is missing, all of it in one message, or contradicts itself; a number
            outside its range; or units between which there is no exact conversion.

    Example:
        >>> import torchdecay as td
        >>> round(td.convert(0.1, "decoupled", "half_life_epochs", lr=1e-3, batch_size=128, num_samples=50_000), 2)
        17.73
        >>> td.convert(0.001, "penalty", "coupled")
        0.002
        >>> td.convert(td.decoupled(0.1), "independent", max_lr=1e-3)
        0.0001

    Reference: Decoupled Weight Decay Regularization, arXiv 1711.05101; How to set AdamW's weight decay as you scale
    model and dataset size, arXiv 2405.13698.
    """
    if isinstance(value, Decay):
        own, value, peak = unit_of(value)
        source, target = _names_of_decay(own, source, target)
        if peak is not None and context.setdefault("max_lr", peak) != peak:
            raise UnitError(f"max_lr={context['max_lr']} contradicts the decay, where it is {peak:g}.")
    if source is None or target is None:
        raise UnitError(
            f"convert({value!r}, {source!r}) lacks a unit.",
            fix='Name both: td.convert(0.1, "decoupled", "half_life", lr=1e-3).',
        )
    names = (NATIVE, *UNITS)
    for name in map(str, (source, target)):
        if name not in names:
            raise UnitError(
                f"there is no unit {repr_quoted(name)}.",
                f"Known: {', '.join(names)}.",
                _MEANT.get(name.lower()) or nearest(name, names),
            )
    known = gather(context)
    _require(_needs_of_names((source, target)), known, f"{source} to {target}")
    start, end = _unit(source, known), _unit(target, known)
    path = _path(start, end, known)
    number = _checked(value, start)
    if start is end:
        return number
    _require([*start.needs, *end.needs, *path], known, f"{source} to {target}")
    for unit in (start, end):
        if unit.losses and "loss" in known and known["loss"] not in unit.losses:
            raise UnitError(
                f"{unit.name} does not stand beside loss={known['loss']!r}.",
                f"It means {unit.equation}.",
                f"There it is one of {', '.join(unit.losses)}.",
            )
    said = f"{source} {number:g}" if isinstance(number, float) else source
    number = start.to_node(number, known)
    if start.node is Node.FRACTION:
        _refuse_flips(number, start, said)
    if "lr" in path:
        number = number * known["lr"] if end.node is Node.FRACTION else number / known["lr"]
    if end.node is Node.FRACTION:
        _refuse_flips(number, end, said)
    return end.from_node(number, known)


_MEANT = {
    **dict.fromkeys(
        ("weight_decay", "weight-decay", "wd", "l2"),
        "Write native, with optimizer=: what weight_decay means is the optimizer's to say.",
    ),
    **dict.fromkeys(("adamw", "lion", "muon", "adafactor"), "Its weight_decay is decoupled: write decoupled."),
    **dict.fromkeys(("adam", "sgd", "adagrad", "rmsprop"), "Its weight_decay is coupled: write coupled."),
}
"""What people write for a unit → what they mean."""


def _names_of_decay(own: str, source: str | None, target: str | None) -> tuple[str, str | None]:
    if target is None:
        return own, source
    if source not in (None, own):
        raise UnitError(
            f"the decay is {own}, not {source}.", "A Decay knows its own unit.", f"Leave it out, or write {own!r}."
        )
    return own, target


def _needs_of_names(names: Iterable[str]) -> list[str]:
    """What can be asked for before the optimizer is known, all at once."""
    needs = ["optimizer" for name in names if name == NATIVE]
    if needs:
        for unit in (UNITS[name] for name in names if name != NATIVE):
            needs += unit.needs
            needs += ["lr"] if unit.node is Node.FRACTION else []
    return needs


_OF = {
    "steps_per_epoch": ("num_samples", "batch_size", "accumulate", "steps", "epochs"),
    "tokens_per_step": ("tokens_per_sample", "batch_size", "accumulate"),
    "steps": ("epochs", "steps_per_epoch", "num_samples", "batch_size", "accumulate"),
    "optimizer": ("momentum",),
}
"""What is needed → what else it may be told by."""


def idle(source: str, target: str, context: Mapping[str, Any]) -> list[str]:
    """Those names of a context that do not enter the conversion between two units."""
    known = gather(context)
    start, end = _unit(source, known), _unit(target, known)
    needs = {"optimizer"} if NATIVE in (source, target) else set()
    if start is not end:
        needs |= {*start.needs, *end.needs, *_path(start, end, known)}
    enters = needs.union(*(_OF.get(need, ()) for need in needs))
    return [name for name in context if name not in enters]


def _unit(name: str, known: Context) -> Unit:
    """The unit of this name; "native" is what the optimizer makes of it."""
    if name != NATIVE:
        return UNITS[name]
    assert known.kind is not None
    if known.kind.site is None:
        raise UnitError(f"{known.kind.name} has no weight_decay of its own.", fix="Name the unit: coupled, decoupled.")
    return UNITS["coupled" if known.kind.site is Site.GRADIENT else "decoupled"]


_L2 = (Node.COUPLED, Node.DECOUPLED, Node.FRACTION)


def _path(start: Unit, end: Unit, known: Context) -> list[str]:
    """What the way between two nodes needs: plain SGD between the first two of `_L2`, lr between the last two."""
    if start.node is end.node:
        return []
    if start.node not in _L2 or end.node not in _L2:
        raise UnitError(
            f"{start.name} and {end.name} measure different things.",
            f"{start.name}: {start.equation}; {end.name}: {end.equation}.",
            _same_kind(start),
        )
    needs = []
    if Node.COUPLED in (start.node, end.node):
        _refuse_adaptive(known)
        needs.append("optimizer")
    if Node.FRACTION in (start.node, end.node):
        needs.append("lr")
    return needs


def _refuse_adaptive(known: Context) -> None:
    kind = known.kind
    if kind is None or kind.plain:
        return
    if kind.momentum:
        why = (
            f"Momentum {kind.momentum:g} goes on pulling by past weights, so that no number of one gives the steps of "
            f"the other; once the momentum has built up, a coupled λ acts about as λ/(1 − {kind.momentum:g})."
        )
    elif kind.site is None:
        why = f"{kind.name} has no weight_decay of its own."
    else:
        why = (
            f"{kind.name} scales a coupled decay as it scales the gradient, weight by weight and step by step; a "
            "decoupled one it leaves alone."
        )
    raise UnitError(
        f"under {kind.name} coupled and decoupled decay are different things, and no number turns one into the other.",
        why,
        "They agree under plain SGD; here choose one, and sweep it.",
    )


def _same_kind(unit: Unit) -> str:
    nodes = _L2 if unit.node in _L2 else (unit.node,)
    return f"{unit.name} converts to {listed((name for name in UNITS if UNITS[name].node in nodes), most=30)}."


def _require(needs: Iterable[str], known: Context, what: str) -> None:
    if lacks := [need for need in needs if need not in known]:
        raise missing(what, lacks, HOW, "A number in one unit is another in the other, depending on the training.")


def _checked(value: Value, unit: Unit) -> Value:
    if unit.node is Node.PAIR:
        return _checked_pair(value, unit)
    if unit.is_time and isinstance(value, float) and value == math.inf:
        return value
    return check_number(value, unit.name, open_minimum=unit.is_time, error=UnitError)


def _checked_pair(value: Value, unit: Unit) -> Value:
    is_net = unit.pair is Net
    try:
        first, second = map(float, value)
    except (TypeError, ValueError, OverflowError):
        first = second = math.nan
    if not (0 <= first < math.inf and 0 <= second < math.inf) or (is_net and second > 1):
        span = "(alpha, l1_ratio), alpha at least 0, l1_ratio from 0 to 1" if is_net else "(l1, l2), each at least 0"
        raise UnitError(f"{unit.name} is {value!r}.", fix=f"Give a pair {span}.")
    assert unit.pair is not None
    return unit.pair(first, second)


def _refuse_flips(fraction: float, unit: Unit, said: str) -> None:
    if fraction > 1 or (fraction == 1 and unit.name.startswith("half_life")):
        raise UnitError(
            f"{said} removes {fraction:.6g} of each weight per step.",
            "The whole of it is gone in one step." if fraction == 1 else "Above 1 each step flips every weight's sign.",
            "Lower the decay or the learning rate, so that their product stays far below 1.",
        )
