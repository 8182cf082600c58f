"""The plan: a table with one row per trainable parameter, and the function that makes it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from torchdecay.errors import LoadError, PlanError, UnknownRoleWarning, listed, nearest, printable, repr_quoted
from torchdecay.plans.census import census
from torchdecay.plans.decay import Decay
from torchdecay.plans.forms import as_decay
from torchdecay.plans.parameters import Parameter
from torchdecay.plans.policies import STANDARD, UNSURE, name_of
from torchdecay.plans.rules import Rule, as_rules
from torchdecay.records import Callables, JsonRecord, described, encode, is_opaque, read, value_type, write

if TYPE_CHECKING:
    from torchdecay.plans.diff import PlanDiff
    from torchdecay.plans.table import PlanTable

Tied = Literal["spare", "first", "error"]


@value_type
@dataclass(frozen=True, kw_only=True)
class Row:
    """What happens to one parameter, and why.

    Attributes:
        names: canonical names; more than one for a tied weight.
        shape: sizes.
        dtype: torch's spelling without the prefix.
        role: what the parameter is for (see `torchdecay.role`).
        kind: what sort of weight it is, or "".
        decay: its Decay, or None when it is spared.
        reason: the rule that decided, in words.
        evidence: what spoke for the role.
        options: other keys of its parameter group, as (key, value) pairs.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    role: str
    reason: str
    dtype: str = "float32"
    kind: str = ""
    decay: Decay | None = None
    evidence: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The name that the plan uses: the first one."""
        return self.names[0]

    @property
    def num_elements(self) -> int:
        """How many numbers the parameter holds."""
        return math.prod(self.shape)


@value_type
@dataclass(frozen=True, kw_only=True)
class Plan(JsonRecord, kind="plan"):
    """A table with one row per trainable parameter: who decays, how, toward what, how hard, and why.

    Made by `torchdecay.plan`; frozen. Read it with `table()`, `explain(name)`, `rows` or `plan[name]`; compare with
    `diff(other)`; keep it with `to_json()`; carry it out with `param_groups(model)` or `torchdecay.attach`.

    Attributes:
        rows: one `Row` per trainable parameter, in the model's order.
        decay: the plan's own decay, which rows get unless a rule says otherwise.
        policy: the name of the rules, or "custom".
        frozen: names of parameters that were frozen, and so have no row.
    """

    rows: tuple[Row, ...]
    decay: Decay | None = None
    policy: str = "custom"
    frozen: tuple[str, ...] = ()

    @cached_property
    def _by_name(self) -> dict[str, Row]:
        return {name: row for row in self.rows for name in row.names}

    def __getitem__(self, name: str) -> Row:
        if name in self._by_name:
            return self._by_name[name]
        if name in self.frozen:
            raise PlanError(
                f"{repr_quoted(name)} is frozen, so the plan has no row for it.",
                "A parameter that requires no gradient is left out.",
                "Unfreeze it before td.plan(model, ...).",
            )
        raise PlanError(
            f"the plan has no parameter {repr_quoted(name)}.",
            fix=nearest(name, [*self._by_name, *self.frozen]),
        )

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that change when any row's who or form changes, but not with how hard it pulls."""
        pulled = [(row.name, row.decay) for row in self.rows if row.decay is not None]
        # Most rows share one Decay, and its form is asked for once.
        forms = {id(decay): encode(decay.form, opaque=True) for decay in {id(d): d for _, d in pulled}.values()}
        rows = [(name, forms[id(decay)]) for name, decay in pulled]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]

    def table(self, *, group: bool | None = None) -> PlanTable:
        """The plan as a terminal table.

        Args:
            group: whether to fold repeated blocks into one line; None folds when there are more than 60 rows.
        """
        from torchdecay.plans.table import PlanTable

        return PlanTable(self, group=len(self.rows) > 60 if group is None else group)

    def explain(self, name: str) -> str:
        """What happens to one parameter, and the evidence, in a few lines of text.

        Raises:
            PlanError: the plan has no such parameter.
        """
        if name in self.frozen:
            said = "frozen: requires_grad is False, so nothing pulls it and the plan has no row for it."
            return f"{printable(name)}\n  {said}"
        row = self[name]
        shape = " x ".join(map(str, row.shape)) or "scalar"
        lines = [f"{row.name}  ({shape}, {row.dtype}, {row.num_elements:,} elements)"]
        if len(row.names) > 1:
            lines.append(f"  also called   {', '.join(row.names[1:])}")
        lines.append(f"  role          {row.role}{f', {row.kind}' if row.kind else ''}")
        lines += [f"  evidence      {sentence}" for sentence in row.evidence]
        lines.append(f"  decay         {row.decay!r}" if row.decay else "  decay         none: spared")
        if row.decay is not None:
            lines.append(f"  each step     {row.decay.equation}")
        lines.append(f"  because       {row.reason}")
        if row.options:
            lines.append(f"  group options {', '.join(f'{key}={value!r}' for key, value in row.options)}")
        return "\n".join(map(printable, lines))

    def diff(self, other: Plan) -> PlanDiff:
        """What is different in `other`: parameters added and removed, decays, options and roles changed."""
        from torchdecay.plans.diff import PlanDiff

        return PlanDiff.between(self, other)

    def to_json(self, *, opaque: bool = False) -> str:
        """The plan as JSON that `Plan.from_json` reads back to an equal plan.

        Args:
            opaque: write what cannot be read back (tensors in memory, a lambda) as its description in place of
                raising; such a plan can be shown and compared, but not carried out.

        Raises:
            LoadError: a reference made of tensors in memory, or a callable without a name of its own.
        """
        return write(self, opaque=opaque)

    @classmethod
    def from_json(cls, text: str, *, callables: Callables = "refuse") -> Plan:
        """The plan that `to_json` wrote.

        Args:
            text: the JSON.
            callables: what to do with a schedule that the file names as `module:qualname`: "refuse" it, "import" it,
                or "describe" it, which is enough to read and compare the plan.

        Raises:
            LoadError: not a plan, a newer version, or edited so that it means nothing.
        """
        made = read(cls, text, callables=callables)
        if not all(row.names for row in made.rows):
            raise LoadError("the plan file has a row without a name.", fix=cls._kind.fix)
        seen = Counter(name for row in made.rows for name in row.names)
        seen.update(made.frozen)
        if twice := [name for name, count in seen.items() if count > 1]:
            raise LoadError(f"the plan file has {listed(twice)} twice.", fix=cls._kind.fix)
        return made

    def param_groups(self, model: nn.Module, **options: Any) -> list[dict[str, Any]]:
        """Parameter groups for any torch optimizer's constructor.

        Rows with equal decay and options share a group; none is empty; each has `param_names`. A row whose decay is
        native and constant gets it as `weight_decay`. Any other decay needs `torchdecay.attach`: its group carries
        `weight_decay` 0.0 and a mark, by which `torchdecay.audit` can tell that it was never attached.

        Args:
            model: the model that the plan was made from, or one with the same parameter names.
            options: keys for every group (lr, momentum, ...); a rule's options win.

        Raises:
            PlanError: the plan was made for another model.

        Example:
            >>> import torch, torchdecay as td
            >>> model = torch.nn.Linear(2, 1)
            >>> groups = td.plan(model, 0.1).param_groups(model, lr=0.01)
            >>> [(group["param_names"], group["weight_decay"]) for group in groups]
            [(['weight'], 0.1), (['bias'], 0.0)]
        """
        from torchdecay.plans.groups import build

        return build(self, model, options)

    def with_coefficients_of(self, other: Plan) -> Plan:
        """This plan with the coefficients, schedules and peaks of another plan, where the form is the same.

        A schedule that the other plan can only describe stays as it is here.
        """

        def taken(mine: Decay | None, theirs: Decay | None) -> Decay | None:
            if mine is None or theirs is None or described(mine.form) != described(theirs.form):
                return mine
            schedule = mine.schedule if is_opaque(theirs.schedule) else theirs.schedule
            return mine.replace(
                coefficient=theirs.coefficient, schedule=schedule, max_lr=theirs.max_lr, regularizer=theirs.regularizer
            )

        rows = (
            dataclasses.replace(row, decay=taken(row.decay, other[row.name].decay)) if row.name in other else row
            for row in self.rows
        )
        return dataclasses.replace(self, rows=tuple(rows), decay=taken(self.decay, other.decay))

    def _repr_html_(self) -> str:
        return self.table().to_html()

    def __repr__(self) -> str:
        decayed = sum(row.decay is not None for row in self.rows)
        return f"<Plan: {decayed} of {len(self.rows)} parameters decay by {self.decay!r}, rules {self.policy}>"


def plan(
    model: nn.Module | Mapping[str, Tensor] | Sequence[Parameter],
    decay: Decay | float | None,
    *,
    rules: Iterable[Any] = STANDARD,
    tied: Tied = "spare",
) -> Plan:
    """Decide for every trainable parameter what pulls it, and why; touches nothing.

    Rules are read in order and the first match wins; what no rule matches gets `decay`. A rule that wins nowhere is
    an error unless it is optional, because it is almost always a typo.

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


def decide(model: Any, decay: Any, rules: Any, tied: Tied) -> Plan:
    """`plan`, which documents it, for the public functions; warnings point at the line that called those."""
    if tied not in ("spare", "first", "error"):
        raise PlanError(f"tied is {tied!r}.", fix='Write "spare", "first" or "error".')
    default, ordered = as_decay(decay), as_rules(rules)
    if isinstance(model, (nn.Module, Mapping)):
        everyone: Sequence[Parameter] = census(model)
    elif isinstance(model, Sequence) and all(isinstance(item, Parameter) for item in model):
        everyone = model
    else:
        raise PlanError(
            f"td.plan() got a {type(model).__name__} where a model belongs.",
            fix="Give a torch.nn.Module, or a mapping of names to tensors.",
        )
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
    wins: list[list[str]] = [[] for _ in ordered]
    made = tuple(_row(parameter, ordered, default, tied, wins) for parameter in trainable)
    _refuse_idle_rules(ordered, wins, everyone)
    done = Plan(rows=made, decay=default, policy=name_of(ordered), frozen=frozen)
    unsure = [name for one, names in zip(ordered, wins, strict=True) if one == UNSURE for name in names]
    unsure = [name for name in unsure if done[name].decay is None]
    if unsure and default is not None:
        warnings.warn(
            f"{len(unsure)} parameters of unknown role are spared: {listed(unsure)}. "
            'Say what they are: rules=[td.rule("pattern", td.DEFAULT), *td.STANDARD].',
            UnknownRoleWarning,
            stacklevel=3,
        )
    return done


@dataclass(frozen=True)
class _Verdict:
    decay: Decay | None
    options: tuple[tuple[str, Any], ...]
    reason: str = field(compare=False)


def _judge(parameter: Parameter, rules: Sequence[Rule], default: Decay | None, wins: list[list[str]]) -> _Verdict:
    for index, one in enumerate(rules):
        if one.selector.picks(parameter):
            wins[index].append(parameter.name)
            why = one.selector.why(parameter)
            reason = f"{one.label}: {why}" if one.label else f"rule {index + 1}, {why}"
            return _Verdict(one.resolve(default), one.options, reason)
    return _Verdict(default, (), f"no rule spares role {parameter.role}" if rules else "everything decays")


def _row(parameter: Parameter, rules: Sequence[Rule], default: Decay | None, tied: Tied, wins: list[list[str]]) -> Row:
    uses = [parameter]
    if len(parameter.names) > 1:
        roles = parameter.roles or (parameter.role,) * len(parameter.names)
        uses = [
            dataclasses.replace(parameter, names=(name,), role=role, roles=(role,))
            for name, role in zip(parameter.names, roles, strict=True)
        ]
    verdicts = [_judge(use, rules, default, wins) for use in uses]
    verdict = verdicts[0]
    if any(other != verdict for other in verdicts[1:]):
        said = "; ".join(f"{use.name} ({use.role}): {one.decay!r}" for use, one in zip(uses, verdicts, strict=True))
        if tied == "error":
            raise PlanError(
                f"the uses of the tied weight {repr_quoted(parameter.name)} fall under rules that disagree: {said}.",
                "One tensor can have one decay only.",
                'Write tied="spare" or tied="first", or one rule that matches all its names.',
            )
        if tied == "spare":
            verdict = next((one for one in verdicts if one.decay is None), verdict)
        verdict = dataclasses.replace(verdict, reason=f"tied ({said}); {verdict.reason}")
    return Row(
        names=parameter.names,
        shape=parameter.shape,
        dtype=parameter.dtype,
        role=parameter.role,
        kind=parameter.kind,
        decay=verdict.decay,
        reason=verdict.reason,
        evidence=parameter.evidence,
        options=verdict.options,
    )


def _refuse_idle_rules(rules: Sequence[Rule], wins: Sequence[list[str]], everyone: Sequence[Parameter]) -> None:
    for index, (one, won) in enumerate(zip(rules, wins, strict=True)):
        if won or one.optional:
            continue
        picked = [parameter for parameter in everyone if one.selector.picks(parameter)]
        trainable = [parameter for parameter in picked if parameter.trainable]
        where = f"rule {index + 1}, {one.selector!r},"
        if trainable:
            before = next(i for i, earlier in enumerate(rules) if earlier.selector.picks(trainable[0]))
            raise PlanError(
                f"{where} never wins.",
                f"All it matches ({listed(p.name for p in trainable)}) is taken by earlier rules, such as rule "
                f"{before + 1}, {rules[before].selector!r}.",
                "First match wins: put it before that rule, or say optional=True.",
            )
        if picked:
            raise PlanError(
                f"{where} matches only frozen parameters: {listed(p.name for p in picked)}.",
                "Frozen parameters are left out of the plan.",
                "Unfreeze them before planning, or say optional=True.",
            )
        raise PlanError(
            f"{where} matches no parameter.",
            f"A rule that selects nothing is almost always a typo. {one.selector.hint(everyone)}".strip(),
            "Correct the pattern, or say optional=True.",
        )
