"""From candidates to runs: what a form of decay, groups and seeds make of a few numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from torchdecay.arguments import shown
from torchdecay.errors import DecayError, TaskError, listed, nearest, repr_quoted
from torchdecay.lab.sweeps.search import Candidate
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import Choice, as_choice
from torchdecay.lab.training.train import Setup
from torchdecay.lab.training.trial import Trial
from torchdecay.plans.decay import Decay
from torchdecay.plans.forms import PRESETS
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan as make_plan
from torchdecay.plans.rules import rule
from torchdecay.plans.selectors import as_selector
from torchdecay.plans.spelling import parse_decay

FormLike: TypeAlias = "str | Callable[[float], Decay]"
BARE = Choice(label="none", what=None)


@dataclass(frozen=True)
class Form:
    """A coefficient to a Decay.

    Attributes:
        name: as people write it: "decoupled", "huber:delta=0.1".
        make: the function.
    """

    name: str
    make: Callable[[float], Decay]

    def __call__(self, value: float) -> Decay:
        """The Decay with this coefficient."""
        made = self.make(value)
        if not isinstance(made, Decay):
            raise DecayError(
                f"the form {self.name} makes a {type(made).__name__} of {value:g}, not a Decay.",
                fix="Give a preset's name, or a function such as lambda value: td.decoupled(value, ...).",
            )
        return made


def as_form(form: FormLike) -> Form:
    """A preset by name, with further arguments where it has some ("toward:initial"), or a function.

    Raises:
        DecayError: an unknown name, or a preset that does not take a single value.
    """
    if callable(form):
        name = getattr(form, "__name__", type(form).__name__)
        return Form(name if name in PRESETS and PRESETS[name] is form else f"function {name}", form)
    name, _, rest = str(form).strip().partition(":")
    if not isinstance(form, str) or name not in PRESETS:
        raise DecayError(
            f"there is no form of decay {form!r}.",
            f"Forms: {', '.join(PRESETS)}.",
            nearest(str(name), PRESETS),
        )
    made = Form(form.strip(), _Spelled(f"{name}:{rest}{',' if rest else ''}"))
    try:
        made(1e-3)
    except DecayError as error:
        raise DecayError(
            f"the form {repr_quoted(form)} can't be swept by itself: {error.what}",
            "A sweep puts one number after it.",
            'Write the rest after a colon, "toward:initial" say, or give a function: lambda value: td.elastic_net('
            "l1=value, l2=0.1).",
        ) from error
    return made


@dataclass(frozen=True)
class _Spelled:
    head: str

    def __call__(self, value: float) -> Decay:
        made = parse_decay(f"{self.head}{value!r}")
        assert made is not None
        return made


@dataclass(frozen=True)
class TrialMaker:
    """Makes the trials of a sweep.

    Attributes:
        task: the task.
        form: the form under sweep.
        groups: names of the groups, in the order of a candidate's values; () sweeps one value for all.
        members: for each parameter that the rules let decay, the index of its group.
        template: a plan of the task's model with every such parameter decaying; None without groups.
    """

    task: Task
    form: Form
    groups: tuple[str, ...] = ()
    members: tuple[tuple[str, int], ...] = ()
    template: Plan | None = None

    @classmethod
    def make(cls, task: Task, form: Form, groups: Mapping[str, Any] | None) -> TrialMaker:
        """Find out who is in which group: the first that picks a parameter has it.

        Raises:
            TaskError: no groups, one that is empty, or parameters that decay and are in none.
            PlanError: something that is no selector, or that matches nothing.
        """
        if groups is None:
            return cls(task, form)
        if not groups:
            raise TaskError("groups is empty.", fix='Write groups={"body": "0.*", "head": "*"}, or leave it out.')
        with torch.random.fork_rng(devices=[]):
            setup = Setup.make(task, Choice(label="1e-3", what=form(1e-3)), 0)
            if setup.handle is not None:
                setup.handle.remove()
            rules = [rule(as_selector(selector), marker(i)) for i, selector in enumerate(groups.values())]
            marked = make_plan(setup.model, None, rules=rules)
        decaying = [row.name for row in setup.plan.rows if row.decay is not None]
        found = {row.name: int(row.decay.coefficient) - 1 for row in marked.rows if row.decay is not None}
        lost = [name for name in decaying if name not in found]
        if lost:
            raise TaskError(
                f"{len(lost)} parameters that decay are in no group: {listed(lost)}.",
                "Each needs a coefficient.",
                'Add a last group for the rest: groups={..., "rest": "*"}.',
            )
        members = tuple((name, found[name]) for name in decaying)
        for index, name in enumerate(groups):
            if index not in {group for _, group in members}:
                raise TaskError(
                    f"the group {repr_quoted(name)} has no parameter that decays.",
                    "Earlier groups have what it picks, or the task's rules spare it.",
                    "Correct its selector, or leave it out.",
                )
        return cls(task, form, tuple(groups), members, setup.plan)

    def choice(self, candidate: Candidate | None, lr_scale: float) -> Choice:
        """The contender; None is the one without decay."""
        tail = "" if lr_scale == 1.0 else f" at lr x {shown(lr_scale)}"
        if candidate is None:
            return dataclasses.replace(BARE, label=f"none{tail}")
        if self.template is None:
            made = as_choice(self.form(candidate.values[0]))
            return dataclasses.replace(made, label=made.label + tail)
        index_of = dict(self.members)
        decays = [self.form(value) for value in candidate.values]
        rows = tuple(
            dataclasses.replace(row, decay=decays[index_of[row.name]]) if row.name in index_of else row
            for row in self.template.rows
        )
        said = ", ".join(f"{name} {shown(v)}" for name, v in zip(self.groups, candidate.values, strict=True))
        plan = dataclasses.replace(self.template, decay=decays[0], rows=rows)
        return Choice(label=f"{self.form.name}: {said}{tail}", what=plan)

    def trials(self, candidate: Candidate | None, lr_scale: float, seeds: Sequence[int]) -> tuple[Trial, ...]:
        """One trial per seed."""
        choice = self.choice(candidate, lr_scale)
        single = candidate is not None and not self.groups
        return tuple(
            Trial(
                choice=choice,
                seed=seed,
                value=candidate.values[0] if candidate is not None and single else None,
                values=tuple(zip(self.groups, candidate.values, strict=True)) if candidate and self.groups else (),
                lr_scale=lr_scale,
            )
            for seed in seeds
        )


def marker(index: int) -> Decay:
    """A decay whose coefficient tells which rule matched; it is never carried out."""
    return PRESETS["coupled"](index + 1.0)
