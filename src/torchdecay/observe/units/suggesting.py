"""`suggest`: which weight decay to start from, for this model, optimizer and run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

from torchdecay.arguments import check_count, check_word
from torchdecay.errors import UnitError
from torchdecay.observe.run import Run
from torchdecay.observe.units import sources
from torchdecay.observe.units.context import missing
from torchdecay.observe.units.coupling import kind_of
from torchdecay.observe.units.peak import lr_of_run
from torchdecay.observe.units.remarks import Case, general, of_power_law, of_timescale
from torchdecay.observe.units.rescaled import Rescaled
from torchdecay.observe.units.rescaling import facts_of, rescale
from torchdecay.observe.units.suggestion import Suggestion

if TYPE_CHECKING:
    from torch import nn


def suggest(
    model: nn.Module | int | None,
    *,
    run: Run,
    optimizer: Any = None,
    rule: str | None = None,
    known: tuple[Any, ...] | None = None,
) -> Suggestion:
    r"""A decoupled weight decay to start from, a range to sweep, and whose word that is.

    With η the peak learning rate, S the steps of the run, E those of an epoch, D/N the tokens per parameter:

    $$\text{timescale}: \ \frac{1}{\eta S} \le \lambda \le \frac{1}{\eta E}, \qquad
      \text{tokens per parameter}: \ \eta\lambda \propto \frac{(D/N)^{0.527}}{S}$$

    The first keeps the time scale 1/(ηλ) between one epoch and the whole run, and starts at the geometric middle; the
    second is a power law for language models that see their data once: it says how the best value goes from a good
    run of yours to this one, and not what it is. "inherit" scales what was good in another run as `td.rescale` does,
    by the first of tokens_per_parameter, timescale_epochs and timescale_runs of which both runs tell enough; its range
    is from the lowest to the highest of what all of its rules say.

    No formula knows your data: sweep the range.

    Args:
        model: the model, or how many parameters it has; None where the rule does not ask.
        run: how long, and with which learning rate; with `tokens_per_sample` it is a language model's.
        optimizer: a torch optimizer, whose learning rates then count, or a name such as "adamw".
        rule: "timescale", "tokens_per_parameter" or "inherit"; None takes the last that applies, and tells what the
            others say.
        known: (value, run), or (value, run, number of parameters), of a good run, for "inherit"; with the number
            also for "tokens_per_parameter".

    Returns:
        A `Suggestion`, with remarks where this case lies outside what the source looked at.

    Raises:
        UnitError: context that is missing, all of it in one message; or an unknown rule.

    Example:
        >>> import torchdecay as td
        >>> run = td.Run(steps=1000, batch_size=128, num_samples=1000, lr=1e-3)
        >>> made = td.suggest(None, run=run)
        >>> round(made.low, 1), round(made.value, 1), round(made.high, 1)
        (1.0, 11.2, 125.0)

    Reference: How to set AdamW's weight decay as you scale model and dataset size, arXiv 2405.13698; Power Lines:
    Scaling Laws for Weight Decay and Batch Size in LLM Pre-training, arXiv 2505.13738.
    """
    if not isinstance(run, Run):
        raise UnitError(f"run is {run!r}, of type {type(run).__name__}.", fix="Write run=td.Run(...).")
    if rule is not None:
        check_word(rule, "rule", RULES, error=UnitError)
    case = _case(model, run, optimizer, known)
    told = {*case.facts, *(["lr"] if case.lr > 0 else []), *(["known"] if case.known is not None else [])}
    if case.known is not None and case.known[2] is not None and case.known[1].tokens_per_step is not None:
        told.add("known_run")
    lacks = {name: [need for need in NEEDS[name] if need not in told] for name in RULES}
    # A good run of one's own says more than a law, and a law for this kind of model more than a bound.
    able = [name for name in RULES if not lacks[name]]
    chosen = rule or (able[-1] if able else "tokens_per_parameter" if "tokens_per_step" in told else "timescale")
    if lacks[chosen]:
        why = "Which decay is right depends on how long a run is, and on its learning rate."
        if "known_run" in lacks[chosen]:
            why = "The law says how the best decay goes with the tokens per parameter, from a good run; not what it is."
        raise missing(f"rule {chosen}", lacks[chosen], _HOW, why)
    made = RULES[chosen](case)
    others = tuple(RULES[name](case) for name in able if name != chosen) if rule is None else ()
    is_mixed = case.kind is not None and case.kind.lr is None and len(getattr(optimizer, "param_groups", ())) > 1
    remarks = (*made.remarks, *general(case, made.value, is_mixed=is_mixed))
    return dataclasses.replace(made, remarks=remarks, others=others)


def _case(model: Any, run: Run, optimizer: Any, known: Any) -> Case:
    kind = None if optimizer is None else kind_of(optimizer)
    curve = lr_of_run(run, getattr(optimizer, "param_groups", None))
    lr = max(curve, default=run.lr if run.lr is not None else kind.lr if kind is not None else None)
    num_params, share = _size(model)
    if known is not None:
        if not isinstance(known, tuple) or len(known) not in (2, 3) or not isinstance(known[1], Run):
            fix = "Give (value, td.Run(...)), or (value, td.Run(...), num_params)."
            raise UnitError(f"known is {known!r}.", fix=fix)
        its_size = check_count(known[2], "num_params of known", error=UnitError) if len(known) == 3 else None
        known = (known[0], known[1], its_size)
    facts = facts_of(run, num_params)
    return Case(run=run, lr=lr or 0.0, curve=curve, facts=facts, kind=kind, embedding_share=share, known=known)


def _size(model: Any) -> tuple[int | None, float]:
    """Trainable parameters, and the share of embeddings in them."""
    if model is None:
        return None, 0.0
    if isinstance(model, Integral):
        return check_count(model, "model", error=UnitError), 0.0
    from torch import nn

    from torchdecay.plans.census import census

    if isinstance(model, nn.Module):
        sizes = [(one.role, one.num_elements) for one in census(model) if one.trainable]
        total = sum(size for _, size in sizes)
        if not total:
            raise UnitError("the model has no parameter that trains.", fix="Unfreeze some, or give their number.")
        return total, sum(size for role, size in sizes if role == "embedding") / total
    raise UnitError(
        f"model is {model!r}, of type {type(model).__name__}.",
        fix="Give the nn.Module, its number of parameters, or None.",
    )


NEEDS = {
    "timescale": ("lr", "steps_per_epoch"),
    "tokens_per_parameter": ("lr", "tokens_per_step", "num_params", "known_run"),
    "inherit": ("lr", "known"),
}
_HOW = {
    "lr": "td.Run(lr=...), or optimizer= with one learning rate",
    "steps_per_epoch": "td.Run(batch_size=..., num_samples=...), or both steps= and epochs=",
    "tokens_per_step": "td.Run(tokens_per_sample=..., batch_size=...)",
    "num_params": "model=, or its number of parameters",
    "known": "known=(value, td.Run(...)) of a run that was good",
    "known_run": "known=(value, td.Run(..., tokens_per_sample=...), num_params) of a run that was good",
}


def _made(case: Case, value: float, low: float, high: float, **told: Any) -> Suggestion:
    steps = 1 / (case.lr * value) if case.lr * value > 0 else math.inf
    per_epoch = case.facts.get("steps_per_epoch")
    epochs = None if per_epoch is None else steps / per_epoch
    return Suggestion(value=value, low=low, high=high, timescale=steps, timescale_epochs=epochs, **told)


def _by_timescale(case: Case) -> Suggestion:
    steps, per_epoch = case.facts["steps"], case.facts["steps_per_epoch"]
    whole, epoch = 1 / (case.lr * steps), 1 / (case.lr * min(per_epoch, steps))
    return _made(
        case,
        math.sqrt(whole * epoch),
        whole,
        epoch,
        rule="timescale",
        formula=f"between 1/(lr·{steps:,.0f} steps) and 1/(lr·{min(per_epoch, steps):,.0f} steps of an epoch), "
        f"lr {case.lr:g}; their geometric mean",
        source=sources.TIMESCALE,
        remarks=tuple(of_timescale(case)),
    )


def _by_power_law(case: Case) -> Suggestion:
    value, said = _inherited(case, "tokens_per_parameter")
    return _made(
        case,
        value,
        value / 2,
        value * 2,
        rule="tokens_per_parameter",
        formula=f"{said}; {case.tokens_per_parameter:.3g} tokens per parameter, lr {case.lr:g}",
        source=sources.POWER_LINES,
        remarks=("half and twice the value is a first sweep; the source gives no interval", *of_power_law(case)),
    )


_INHERITED = ("tokens_per_parameter", "timescale_epochs", "timescale_runs")
"""Which rule of `rescale` says the value, in this order, as far as the runs tell what it needs."""


def _by_inheritance(case: Case) -> Suggestion:
    made = _rescaled(case)
    by_name = {one.rule: one for one in made.versions}
    first = next(by_name[name] for name in _INHERITED if name in by_name)
    assert first.source is not None
    remarks = [] if made.agree else ["the rules disagree here: td.rescale shows each"]
    remarks += of_power_law(case) if first.rule == "tokens_per_parameter" else []
    value, said = _inherited(case, first.rule)
    factor = first.value / value
    return _made(
        case,
        value,
        made.low / factor,
        made.high / factor,
        rule="inherit",
        formula=said,
        source=first.source,
        remarks=tuple(remarks),
    )


def _inherited(case: Case, rule: str) -> tuple[float, str]:
    """What a good run's value becomes here by one rule, as a decoupled one, and how."""
    made = _rescaled(case)
    version = next(one for one in made.versions if one.rule == rule)
    said = f"{made.form}({made.before:g}) of the known run, {version.remark}: {version.formula}"
    return version.value / (case.lr if made.form != "decoupled" else 1.0), said


def _rescaled(case: Case) -> Rescaled:
    assert case.known is not None
    value, run, params = case.known
    now = case.facts.get("num_params")
    both = (params, int(now)) if params is not None and now is not None else None
    after = dataclasses.replace(case.run, lr=case.lr, lr_schedule=None, warmup_steps=0)
    return rescale(value, before=run, after=after, num_params=both)


RULES: Mapping[str, Callable[[Case], Suggestion]] = {
    "timescale": _by_timescale,
    "tokens_per_parameter": _by_power_law,
    "inherit": _by_inheritance,
}
