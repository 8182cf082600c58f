"""How a plan is made: every trainable parameter is judged by the rules, and gets its row."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor, nn

from torchdecay.arguments import check_word
from torchdecay.errors import PlanError, UnknownRoleWarning
from torchdecay.plans.census import census
from torchdecay.plans.decay import Decay, as_decay
from torchdecay.plans.groups import groups_of
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.plan import Plan
from torchdecay.plans.policies import STANDARD, UNSURE, name_of
from torchdecay.plans.rows import Row
from torchdecay.plans.rules import DECAY, Rule, as_rules, rule
from torchdecay.plans.selectors import as_selectors, once_for_each_kind
from torchdecay.plans.tree import as_module
from torchdecay.text import listed, repr_quoted

Tied = Literal["spare", "first", "error"]


def plan(
    model: nn.Module | Mapping[str, Tensor] | Sequence[Parameter],
    decay: Decay | float | None,
    *,
    rules: Iterable[Any] = STANDARD,
    tied: Tied = "spare",
) -> Plan:
    """Decide for every trainable parameter what pulls it, and why; touches nothing.

    Rules are read in order: the first match that says a decay decides it, and for each option the first that names
    it; where no rule says a decay, it is `decay`. A rule of which the decay or an option wins nowhere is an error,
    because it is almost always a typo, unless it is optional.

    Args:
        model: a module, on any device, meta included; or names and tensors of a checkpoint.
        decay: a Decay, or a number for the optimizer's own weight_decay; None and 0 mean none.
        rules: `torchdecay.rule(...)`, pairs `(selector, decay)`, or a policy such as `torchdecay.STANDARD`.
        tied: what to do when the uses of a tied weight fall under rules that disagree: "spare" it if any of them
            does, go by its "first" name, or raise an "error".

    Returns:
        A `Plan`: every trainable parameter in exactly one row.

    Raises:
        PlanError: no trainable parameter, an uninitialized lazy parameter, a rule that matches nothing, or an
            unknown role or name.
        DecayError: a coefficient outside its range.

    Warns:
        UnknownRoleWarning: parameters whose role is unknown were spared.

    Example:
        >>> import torch, torchdecay as td
        >>> plan = td.plan(torch.nn.Linear(2, 1), td.decoupled(0.1))
        >>> plan["weight"].decay, plan["bias"].decay
        (decoupled(0.1), None)
    """
    return decide(model, decay, rules, tied)


def param_groups(
    model: nn.Module,
    wd: Decay | float | None,
    *,
    rules: Any = STANDARD,
    skip: Any = (),
    names: bool = True,
    keep: Iterable[Any] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Parameter groups that spare what should not decay, for any torch optimizer's constructor.

    The short way for `td.plan(model, wd, rules=...).param_groups(model, ...)`.

    Args:
        model: the model to train; frozen parameters are left out.
        wd: a number, the optimizer's own weight_decay, or a Decay (which then needs `torchdecay.attach`).
        rules: who decays; `torchdecay.STANDARD` or any rules.
        skip: more to spare: patterns, module classes or selectors, `"*.embed.*"` say; each must match something.
        names: False leaves `param_names` out.
        keep: groups of a framework that are kept and split, as in `Plan.param_groups`.
        options: keys for every group: lr, momentum, betas.

    Returns:
        A list of dicts with `params`, `param_names`, `weight_decay` and the options; none is empty. Beside named
        groups torch refuses unnamed ones: give `param_names` to a later `optimizer.add_param_group` as well, or say
        `names=False` here.

    Raises:
        PlanError: see `torchdecay.plan`.

    Example:
        >>> import torch, torchdecay as td
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
        >>> optimizer = torch.optim.AdamW(td.param_groups(model, 0.1), lr=1e-3)
        >>> [(group["weight_decay"], group["param_names"]) for group in optimizer.param_groups]
        [(0.1, ['0.weight']), (0.0, ['0.bias', '1.weight', '1.bias'])]
    """
    spared = tuple(rule(selector, None) for selector in as_selectors(skip))
    everyone = census(as_module(model))
    planned = decide(everyone, wd, (*spared, *as_rules(rules)), "spare")
    held = {name: one for one in everyone for name in one.names}
    return groups_of(planned.rows, held, options, names=names, keep=keep)


def decide(model: Any, decay: Any, rules: Any, tied: Tied) -> Plan:
    """`plan`, which documents it, for the public functions; warnings point at the line that called those."""
    check_word(tied, "tied", get_args(Tied), error=PlanError)
    default, ordered = as_decay(decay), as_rules(rules)
    is_census = isinstance(model, Sequence) and all(isinstance(item, Parameter) for item in model)
    everyone: Sequence[Parameter] = model if is_census else census(model)
    trainable = [parameter for parameter in everyone if parameter.trainable]
    frozen = tuple(name for parameter in everyone if not parameter.trainable for name in parameter.names)
    if not trainable:
        raise PlanError(
            "the model has no trainable parameter.",
            f"It has {len(everyone)} parameters, all frozen." if everyone else "It has no parameters at all.",
            "Unfreeze some with requires_grad_(True), or check that this is the model you meant.",
        )
    for one in ordered:
        one.selector.check(everyone, optional=one.optional)
    judge = _Judge(ordered, default)
    rows: list[Row] = []
    unsure: list[str] = []
    for parameter in trainable:
        verdict = judge.verdict(parameter) if len(parameter.names) == 1 else _agreed(judge, parameter, tied)
        rows.append(
            Row.of(
                parameter,
                decay=verdict.decay,
                reason=verdict.reason,
                options=verdict.options,
                explicit=verdict.by is not None and not ordered[verdict.by].label,
            )
        )
        if verdict.decay is None and verdict.by is not None and ordered[verdict.by] == UNSURE:
            unsure.append(parameter.name)
    _refuse_idle_rules(judge, everyone)
    if unsure and default is not None:
        warnings.warn(
            f"{len(unsure)} parameters of unknown role are spared: {listed(unsure)}. "
            'Say what they are: rules=[td.rule("pattern", td.DEFAULT), *td.STANDARD].',
            UnknownRoleWarning,
            stacklevel=3,
        )
    return Plan(rows=tuple(rows), decay=default, policy=name_of(ordered), frozen=frozen)


class _Verdict(NamedTuple):
    """What a parameter gets; `by` is the rule that decided its decay, None where none had a word about it."""

    decay: Decay | None
    options: tuple[tuple[str, Any], ...]
    by: int | None
    reason: str


class _Judge:
    """Reads the rules in their order, for one parameter after another, and notes which ever decided what."""

    def __init__(self, rules: Sequence[Rule], default: Decay | None) -> None:
        self.rules, self.default = rules, default
        self.said = [one.decides for one in rules]
        self.won: set[tuple[str, int]] = set()
        self.verdict = once_for_each_kind(self._verdict, [one.selector for one in rules])

    def _verdict(self, use: Parameter) -> _Verdict:
        """What this use of a parameter gets: the first match decides, for the decay and for each option apart."""
        found: dict[str, int] = {}
        for index, (one, said) in enumerate(zip(self.rules, self.said, strict=True)):
            if not said <= found.keys() and one.selector.picks(use):
                found |= dict.fromkeys(said - found.keys(), index)
        self.won.update(found.items())
        options = tuple((key, dict(self.rules[found[key]].options)[key]) for key in sorted(found) if key != DECAY)
        by = found.get(DECAY)
        if by is not None:
            decay, reason = self.rules[by].resolve(self.default), self._why(by, use)
        else:
            decay = self.default
            decided = any(DECAY in said for said in self.said)
            reason = f"no rule spares role {use.role}" if decided else "everything decays"
        for other in sorted({*found.values()} - {by}):
            keys = ", ".join(key for key, _ in options if found[key] == other)
            reason += f"; {keys} by {self._why(other, use)}"
        return _Verdict(decay, options, by, reason)

    def _why(self, index: int, use: Parameter) -> str:
        one = self.rules[index]
        return f"{one.label}: {one.selector.why(use)}" if one.label else f"rule {index + 1}, {one.selector.why(use)}"


def _uses(parameter: Parameter) -> list[Parameter]:
    """A parameter under each of its names, with the role that it has there."""
    if len(parameter.names) == 1:
        return [parameter]
    roles = parameter.roles or (parameter.role,) * len(parameter.names)
    return [
        dataclasses.replace(parameter, names=(name,), role=role, roles=(role,))
        for name, role in zip(parameter.names, roles, strict=True)
    ]


def _agreed(judge: _Judge, parameter: Parameter, tied: Tied) -> _Verdict:
    """What a tied parameter gets, from what its uses would."""
    uses = _uses(parameter)
    verdicts = list(map(judge.verdict, uses))
    verdict = verdicts[0]
    if all((other.decay, other.options) == (verdict.decay, verdict.options) for other in verdicts[1:]):
        return verdict
    said = "; ".join(
        ", ".join([f"{use.name} ({use.role}): {one.decay!r}", *(f"{key}={value!r}" for key, value in one.options)])
        for use, one in zip(uses, verdicts, strict=True)
    )
    # The first name that says an option has the last word.
    options = {key: value for one in reversed(verdicts) for key, value in one.options}
    agree = all(one.decay == verdict.decay for one in verdicts) and all(
        options[key] == value for one in verdicts for key, value in one.options
    )
    if tied == "error" and not agree:
        raise PlanError(
            f"the uses of the tied weight {repr_quoted(parameter.name)} fall under rules that disagree: {said}.",
            "One tensor can have one decay and one value of each option only.",
            'Write tied="spare" or tied="first", or one rule that matches all its names.',
        )
    if tied == "spare":
        verdict = next((one for one in verdicts if one.decay is None), verdict)
    return verdict._replace(options=tuple(sorted(options.items())), reason=f"tied ({said}); {verdict.reason}")


def _refuse_idle_rules(judge: _Judge, everyone: Sequence[Parameter]) -> None:
    """Raise PlanError for a rule of which the decay, or an option, decides nothing anywhere."""
    rules = judge.rules
    for index, one in enumerate(rules):
        idle = {key for key in judge.said[index] if (key, index) not in judge.won}
        if not idle or one.optional:
            continue
        picked = [parameter for parameter in everyone if any(map(one.selector.picks, _uses(parameter)))]
        trainable = [parameter for parameter in picked if parameter.trainable]
        if trainable:
            uses = _uses(trainable[0])
            before = next(
                i for i, said in enumerate(judge.said) if said & idle and any(map(rules[i].selector.picks, uses))
            )
            what, fix = "never wins", "First match wins: put it before that rule"
            why = f"All it matches ({listed(p.name for p in trainable)}) is taken by earlier rules, such as rule "
            why += f"{before + 1}, {rules[before].selector!r}."
            if idle != judge.said[index]:
                lost = " and ".join(["decay"] * (DECAY in idle) + sorted(idle - {DECAY}))
                what = f"never wins for the {lost}"
                fix += f", leave the {lost} out"
        elif picked:
            what = f"matches only frozen parameters: {listed(p.name for p in picked)}"
            why, fix = "Frozen parameters are left out of the plan.", "Unfreeze them before planning"
        else:
            what, fix = "matches no parameter", "Correct the pattern"
            why = f"A rule that selects nothing is almost always a typo. {one.selector.hint(everyone)}".strip()
        raise PlanError(f"rule {index + 1}, {one.selector!r}, {what}.", why, f"{fix}, or say optional=True.")
