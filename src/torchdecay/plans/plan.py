"""The plan: a table with one row per trainable parameter."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torchdecay.encoding import Callables, described, encode, is_opaque, value_type
from torchdecay.errors import LoadError, PlanError
from torchdecay.plans.decay import Decay
from torchdecay.plans.diff import PlanDiff
from torchdecay.plans.rows import Row
from torchdecay.plans.table import PlanTable
from torchdecay.records import JsonRecord
from torchdecay.text import listed, nearest, printable, repr_quoted

if TYPE_CHECKING:
    from torch import nn


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
        if not isinstance(name, str):
            raise PlanError(f"plan[{name!r}] is no name of a parameter.", fix='Write plan["name"], or plan.rows[0].')
        if name in self._by_name:
            return self._by_name[name]
        if name in self.frozen:
            raise PlanError(
                f"{repr_quoted(name)} is frozen, so the plan has no row for it.",
                "A parameter that requires no gradient is left out.",
                "Unfreeze it before td.plan(model, ...).",
            )
        raise PlanError(
            f"the plan has no parameter {repr_quoted(name)}.", fix=nearest(name, [*self._by_name, *self.frozen])
        )

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

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
        return PlanTable(self.rows, len(self.frozen), group=len(self.rows) > 60 if group is None else group)

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
        return PlanDiff.between(self.rows, other.rows)

    @classmethod
    def from_json(cls, text: str, *, callables: Callables = "refuse") -> Plan:
        """The plan that `to_json` wrote; see `JsonRecord.from_json`."""
        made = super().from_json(text, callables=callables)
        if not all(row.names for row in made.rows):
            raise LoadError("the plan file has a row without a name.", fix=cls._kind.fix)
        seen = Counter(name for row in made.rows for name in row.names)
        seen.update(made.frozen)
        if twice := [name for name, count in seen.items() if count > 1]:
            raise LoadError(f"the plan file has {listed(twice)} twice.", fix=cls._kind.fix)
        return made

    def param_groups(
        self, model: nn.Module, *, names: bool = True, keep: Iterable[Any] | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Parameter groups for any torch optimizer's constructor.

        Rows with equal decay and options share a group; none is empty; each has `param_names`. A row whose decay is
        native and constant gets it as `weight_decay`. Any other decay needs `torchdecay.attach`: its group carries
        `weight_decay` 0.0 and a mark, by which `torchdecay.audit` can tell that it was never attached.

        Args:
            model: the model that the plan was made from, or one with the same parameter names.
            names: False leaves `param_names` out: torch refuses groups without names beside groups with them, and
                what adds groups in mid-run (Lightning's BackboneFinetuning, say) adds them without. `td.attach` then
                needs `model=`.
            keep: groups that a framework has made, with learning rates or scales of their own (timm's layer rates,
                fastai's splitters, discriminative learning rates): each is kept, with its options and in its order,
                and split where its rows decay apart. Their `weight_decay` gives way to the plan's.
            options: keys for every group (lr, momentum, ...); those of kept groups win, and a rule's over both.

        Raises:
            PlanError: the plan was made for another model, or the kept groups are not of this model's parameters,
                each of them once.

        Example:
            >>> import torch, torchdecay as td
            >>> model = torch.nn.Linear(2, 1)
            >>> groups = td.plan(model, 0.1).param_groups(model, lr=0.01)
            >>> [(group["param_names"], group["weight_decay"]) for group in groups]
            [(['weight'], 0.1), (['bias'], 0.0)]
        """
        from torchdecay.plans.groups import groups_of
        from torchdecay.plans.tree import occurrences_by_name

        return groups_of(self.rows, occurrences_by_name(model), options, names=names, keep=keep)

    def with_coefficients_of(self, other: Plan) -> Plan:
        """This plan with the coefficients, schedules and peaks of another plan, where the form is the same.

        A schedule or regularizer that the other plan can only describe stays as it is here.
        """

        def taken(mine: Decay | None, theirs: Decay | None) -> Decay | None:
            if mine is None or theirs is None or described(mine.form) != described(theirs.form):
                return mine
            schedule = mine.schedule if is_opaque(theirs.schedule) else theirs.schedule
            regularizer = mine.regularizer if is_opaque(theirs.regularizer) else theirs.regularizer
            return mine.replace(
                coefficient=theirs.coefficient, schedule=schedule, max_lr=theirs.max_lr, regularizer=regularizer
            )

        rows = (
            dataclasses.replace(row, decay=taken(row.decay, other[row.name].decay)) if row.name in other else row
            for row in self.rows
        )
        return dataclasses.replace(self, rows=tuple(rows), decay=taken(self.decay, other.decay))

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def __repr__(self) -> str:
        decayed = sum(row.decay is not None for row in self.rows)
        return f"<Plan: {decayed} of {len(self.rows)} parameters decay by {self.decay!r}, rules {self.policy}>"
