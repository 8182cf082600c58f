"""What a conversion may need to know, gathered from keywords, a run and an optimizer; contradictions are refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torchdecay.arguments import check_count, check_number, check_word
from torchdecay.errors import UnitError
from torchdecay.observe.run import Run
from torchdecay.observe.units.coupling import Kind, kind_of
from torchdecay.text import nearest, printable, spelled

LOSSES = {"half_mse": 1.0, "mse": 2.0, "cross_entropy": 1.0}
"""Mean losses, as multiples of what scikit-learn means: ½·mean(r²), or the mean log-loss."""

HOW: Mapping[str, str] = {
    "lr": "lr=, the learning rate at which the decay is counted (or run=td.Run(lr=...), or optimizer=)",
    "max_lr": "max_lr=, the peak of the learning rate (or run=td.Run(lr=...))",
    "num_samples": "num_samples=, the rows of the training data",
    "batch_size": "batch_size=, the rows of a batch",
    "steps_per_epoch": "steps_per_epoch= (or num_samples= and batch_size=, or run=)",
    "tokens_per_step": "tokens_per_step= (or tokens_per_sample= and batch_size=, or run=)",
    "steps": "steps=, of the whole run (or epochs= and steps_per_epoch=, or run=)",
    "optimizer": 'optimizer=, such as "sgd" or your torch optimizer',
    "loss": f"loss=, the mean that the penalty stands beside: {', '.join(LOSSES)}",
}
"""Each thing that a unit may need, and how to give it."""

_COUNTS = ("batch_size", "num_samples", "tokens_per_sample", "accumulate", "steps")
_NUMBERS = ("lr", "max_lr", "steps_per_epoch", "tokens_per_step", "epochs")
KEYWORDS = (*_NUMBERS, *_COUNTS, "momentum", "loss", "optimizer", "run")


@dataclass(frozen=True)
class Context:
    """What is known, by the names in `HOW`; and the optimizer, where one is named."""

    known: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind | None = None

    def __getitem__(self, name: str) -> Any:
        return self.known[name]

    def __contains__(self, name: str) -> bool:
        return self.kind is not None if name == "optimizer" else name in self.known


def gather(given: Mapping[str, Any]) -> Context:
    """The context that these keywords make, with what follows from them.

    Raises:
        UnitError: an unknown keyword, a number outside its range, or two that contradict each other.
    """
    for name in given:
        if name not in KEYWORDS:
            raise UnitError(
                f'there is no context "{printable(name)}".', fix=nearest(name, KEYWORDS) or f"Known: {KEYWORDS}."
            )
    known = {name: _checked(name, value) for name, value in given.items() if value is not None}
    run, optimizer = known.pop("run", None), known.pop("optimizer", None)
    momentum = known.pop("momentum", None)
    kind = None if optimizer is None else kind_of(optimizer, momentum)
    start = None if kind is None else kind.lr
    if run is not None:
        _from_run(known, run, start)
    if start is not None and (run is None or run.lr_schedule is None):
        _agree(known, "lr", start, "the optimizer")
    _follow(known)
    if "lr" in known and "max_lr" in known and known["lr"] > known["max_lr"] * (1 + 1e-12):
        raise UnitError(
            f"lr={known['lr']:g} is above max_lr={known['max_lr']:g}.", "max_lr is the peak.", "Correct one of them."
        )
    return Context(known, kind)


def _checked(name: str, value: Any) -> Any:
    if name in _COUNTS:
        return check_count(value, name, error=UnitError)
    if name in (*_NUMBERS, "momentum"):
        # Beyond this, products and quotients of them leave what a float can hold.
        least = 0.0 if name == "momentum" else 1e-30
        return check_number(value, name, minimum=least, maximum=1e30, error=UnitError)
    if name == "loss":
        check_word(value, "loss", LOSSES, error=UnitError)
    if name == "run" and not isinstance(value, Run):
        raise UnitError(f"run is {value!r}, of type {type(value).__name__}.", fix="Write run=td.Run(...).")
    return value


def _from_run(known: dict[str, Any], run: Run, start: float | None) -> None:
    """Add what a run knows; where it has a schedule, lr is the mean over the run, unless it is given."""
    told = {name: getattr(run, name) for name in (*_COUNTS, "steps_per_epoch")} | {"steps": run.num_steps}
    for name, value in told.items():
        if value is not None:
            _agree(known, name, value, "the run")
    start = run.lr if run.lr is not None else start
    if run.lr_schedule is None:
        if start is not None:
            _agree(known, "lr", start, "the run")
            known.setdefault("max_lr", start)
        return
    # A schedule may be torch's, so this loads torch.
    from torchdecay.observe.lr_curve import lr_curve

    optimizer = getattr(run.lr_schedule, "optimizer", None)
    curves = lr_curve(run, getattr(optimizer, "param_groups", ()) if start is None else [{"lr": start}])
    if curves and all(curve == curves[0] for curve in curves):
        known.setdefault("max_lr", max(curves[0]))
        known.setdefault("lr", math.fsum(curves[0]) / len(curves[0]))


def _follow(known: dict[str, Any]) -> None:
    """Add what follows; what is given must agree with it."""
    batch = known["batch_size"] * known.get("accumulate", 1) if "batch_size" in known else None
    if batch is not None and "num_samples" in known:
        per_epoch = known["num_samples"] / batch
        given = known.setdefault("steps_per_epoch", math.ceil(per_epoch))
        # Dropping the last incomplete batch is as common as keeping it.
        if not max(1, math.floor(per_epoch)) <= given <= math.ceil(per_epoch):
            raise UnitError(
                f"steps_per_epoch={spelled(given)} contradicts num_samples={known['num_samples']} in batches "
                f"of {batch}, which make {math.ceil(per_epoch)}.",
                fix="Leave one of them out, or correct it.",
            )
    if batch is not None and "tokens_per_sample" in known:
        _agree(known, "tokens_per_step", known["tokens_per_sample"] * batch, "tokens_per_sample and batch_size")
    if "epochs" in known and "steps_per_epoch" in known:
        steps = known["epochs"] * known["steps_per_epoch"]
        given = known.setdefault("steps", max(1, round(steps)))
        if abs(given - steps) > max(1.0, known["epochs"]):
            raise UnitError(
                f"steps={given} contradicts epochs={spelled(known['epochs'])} of {spelled(known['steps_per_epoch'])} "
                f"steps, which make {spelled(steps)}.",
                fix="Leave one of them out, or correct it.",
            )
    elif "epochs" in known and "steps" in known:
        known["steps_per_epoch"] = known["steps"] / known["epochs"]


def _agree(known: dict[str, Any], name: str, value: Any, source: str) -> None:
    given = known.setdefault(name, value)
    if not math.isclose(given, value, rel_tol=1e-9):
        raise UnitError(
            f"{name}={spelled(given)} contradicts {source}, where it is {spelled(value)}.",
            fix="Leave one of them out, or correct it.",
        )


def missing(what: str, needs: Iterable[str], how: Mapping[str, str], why: str) -> UnitError:
    """The error that names all that is lacking at once, and how to give each."""
    lacks = list(dict.fromkeys(needs))
    return UnitError(
        f"{what} needs {', '.join(lacks)}.", why, "Give " + "\n       ".join(how[one] for one in lacks) + "."
    )
