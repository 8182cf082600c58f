"""From candidates to runs: what a form of decay, groups and seeds make of a few numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from torch import nn

from torchdecay.errors import DecayError
from torchdecay.lab.sweeps.search import Candidate
from torchdecay.lab.tasks.task import Task
from torchdecay.lab.training.contenders import BARE, Contender, as_contender
from torchdecay.lab.training.groups import members_of
from torchdecay.lab.training.setup import Setup
from torchdecay.lab.training.trial import Trial
from torchdecay.plans.decay import Decay
from torchdecay.plans.plan import Plan
from torchdecay.plans.presets import PRESETS
from torchdecay.plans.spelling import parse_decay
from torchdecay.text import nearest, repr_quoted, spelled

FormLike: TypeAlias = "str | Callable[[float], Decay]"


@dataclass(frozen=True)
class Form:
    """A coefficient to a Decay, under the name that people write: "decoupled", "huber:delta=0.1".

    `place` is where a command takes the coefficient, "--wd {value}", which then names its points; "" elsewhere.
    """

    name: str
    make: Callable[[float], Decay]
    place: str = ""

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
    """A preset by name, with further arguments where it has some ("toward:initial"), or a function."""
    if callable(form):
        name = getattr(form, "__name__", type(form).__name__)
        return Form(name if name in PRESETS and PRESETS[name].make is form else f"function {name}", form)
    name, _, rest = str(form).strip().partition(":")
    if not isinstance(form, str) or name not in PRESETS:
        raise DecayError(
            f"there is no form of decay {form!r}.",
            f"Forms: {', '.join(PRESETS)}.",
            nearest(str(name), PRESETS),
        )
    head = f"{name}:{rest}{',' if rest else ''}"
    made = Form(form.strip(), lambda value: cast(Decay, parse_decay(f"{head}{value!r}")))
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
class TrialMaker:
    """Makes the trials of a sweep.

    With groups `members` has, in the order of a candidate's values, the parameters of each that the rules let decay,
    and `template` is a plan of the task's model in which all of them do; else it is empty, and there is none.
    """

    form: Form
    members: Mapping[str, tuple[str, ...]]
    template: Plan | None = None

    @classmethod
    def make(cls, task: Task, model: nn.Module, form: Form, groups: Mapping[str, Any] | None) -> TrialMaker:
        """Find out on a model of the task who is in which group: the first that picks a parameter has it."""
        if groups is None:
            return cls(form, {})
        with Setup.make(task, model, Contender(label="1e-3", what=form(1e-3))) as setup:
            decaying = [row.name for row in setup.plan.rows if row.decay is not None]
            return cls(form, members_of(model, decaying, groups), setup.plan)

    @property
    def num_values(self) -> int:
        """Coefficients of a candidate."""
        return len(self.members) or 1

    def contender(self, candidate: Candidate) -> Contender:
        """What is trained for it."""
        tail = "" if candidate.lr_scale == 1.0 else f" at lr x {spelled(candidate.lr_scale)}"
        if self.template is None or not candidate.values:
            value = candidate.values[0] if candidate.values else 0.0
            made = as_contender(self.form(value)) if candidate.values else BARE
            place = self.form.place.replace("{value}", spelled(value))
            return dataclasses.replace(made, label=place or made.label + tail)
        decays = [self.form(value) for value in candidate.values]
        decay_of = {name: decay for names, decay in zip(self.members.values(), decays, strict=True) for name in names}
        rows = tuple(
            dataclasses.replace(row, decay=decay_of[row.name]) if row.name in decay_of else row
            for row in self.template.rows
        )
        said = ", ".join(f"{name} {spelled(v)}" for name, v in zip(self.members, candidate.values, strict=True))
        plan = dataclasses.replace(self.template, decay=decays[0], rows=rows)
        return Contender(label=f"{self.form.name}: {said}{tail}", what=plan)

    def trials(self, candidate: Candidate, seeds: Sequence[int]) -> tuple[Trial, ...]:
        """One trial per seed."""
        contender, values = self.contender(candidate), candidate.values
        return tuple(
            Trial(
                contender=contender,
                seed=seed,
                value=values[0] if values and not self.members else None,
                values=tuple(zip(self.members, values, strict=True)) if values and self.members else (),
                lr_scale=candidate.lr_scale,
            )
            for seed in seeds
        )
