"""From trials to members: data and initial weights for each seed, decays and groups for each trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from torchdecay.errors import RAISED
from torchdecay.lab.engines.stacked.members import NotStackable, StackedMember, read_member
from torchdecay.lab.tasks.task import Data, Task, data_of, model_of
from torchdecay.lab.training.results import Failure
from torchdecay.lab.training.setup import Setup
from torchdecay.lab.training.train import watched_weights
from torchdecay.lab.training.trial import Trial


@dataclass(eq=False)
class Prepared:
    """What a stack is built from: data and initial models by seed, members that can begin, and who can't and why.

    `watched` names the weights that norms are about.
    """

    members: list[StackedMember] = field(default_factory=list)
    data: dict[int, Data] = field(default_factory=dict)
    models: dict[int, nn.Module] = field(default_factory=dict)
    failures: dict[Trial, Failure] = field(default_factory=dict)
    watched: tuple[str, ...] = ()


def prepare(task: Task, trials: Sequence[Trial]) -> Prepared:
    """Everything that a stack needs; what goes wrong for a single trial is its own failure.

    Data and initial weights are those of `train`: the model is made right after `torch.manual_seed(seed)`.
    """
    made = Prepared()
    read: dict[tuple[str, float], StackedMember] = {}
    with torch.random.fork_rng(devices=[]):
        for trial in trials:
            try:
                _add_seed(made, task, trial)
                key = (f"{trial.contender!r} {trial.values!r}", trial.lr_scale)
                if key not in read:
                    # The same for every seed but for the weights.
                    model = made.models[trial.seed]
                    setup = Setup.make(task, model, trial.contender, lr_scale=trial.lr_scale)
                    read[key] = read_member(task, trial, setup)
                made.members.append(replace(read[key], trial=trial))
            except NotStackable:
                raise
            except RAISED as error:
                made.failures[trial] = Failure.of(trial.contender.label, trial.seed, error)
    return made


def _add_seed(made: Prepared, task: Task, trial: Trial) -> None:
    if trial.seed in made.models:
        return
    data, model = data_of(task, trial.seed), model_of(task, trial.seed)
    model.train()
    if not made.watched:
        names = {id(param): name for name, param in model.named_parameters()}
        made.watched = tuple(dict.fromkeys(names[id(one)] for one in watched_weights(task, model).values()))
    made.data[trial.seed], made.models[trial.seed] = data, model
