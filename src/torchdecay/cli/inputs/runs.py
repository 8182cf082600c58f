"""A run from what people type: options of a command, or `lr=1e-3,epochs=10,...`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torchdecay.cli.inputs.options import gathered, given, options_of
from torchdecay.cli.types import COUNT, NUMBER, Numbers
from torchdecay.errors import UnitError
from torchdecay.text import nearest, repr_quoted

if TYPE_CHECKING:
    from torchdecay.observe.run import Run

PARTS: dict[str, tuple[Any, str]] = {
    "steps": (COUNT, "Optimizer steps in all."),
    "epochs": (NUMBER, "Passes over the data."),
    "batch_size": (COUNT, "Samples per forward pass."),
    "num_samples": (COUNT, "Samples in the data."),
    "lr": (NUMBER, "Learning rate where it begins, or its peak for a schedule by name."),
    "lr_schedule": (str, "constant, linear or cosine, to 0 at the end of the run.  [default: constant]"),
    "warmup_steps": (COUNT, "Steps in which the learning rate first rises from 0."),
    "tokens_per_sample": (COUNT, "For language models."),
    "accumulate": (COUNT, "Forward passes per optimizer step."),
}
"""What a run is made of: its type and its help."""


run_options = gathered("run", given, *options_of(PARTS))
"""The options of which a `td.Run` is made; the command gets those that were given as `run`, for `run_from`."""


def run_from(told: dict[str, Any], own: Run | None = None) -> Run:
    """The run that some options make: a setup's own, where it brings one, but for what they say."""
    if own is not None:
        import dataclasses

        return dataclasses.replace(own, **_warmed(told, own.lr_schedule))
    if told.keys().isdisjoint(("steps", "epochs")):
        raise UnitError(
            "the run has neither steps nor epochs.",
            fix="Say --steps 10000, or --epochs 10 with --batch-size and --num-samples.",
        )
    return _make(told)


def read_run(text: str, *, also: Sequence[str] = ()) -> tuple[Run, dict[str, int]]:
    """The run that `lr=1e-3,epochs=10,batch_size=128,num_samples=50000` spells, and whole numbers named in `also`."""
    told: dict[str, Any] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        known = (*PARTS, *also)
        if not equals or name not in known:
            raise UnitError(
                f"{repr_quoted(part)} is no part of a run.",
                f"A run is written lr=1e-3,epochs=10,...; its parts are {', '.join(known)}.",
                nearest(name, known),
            )
        if name in told:
            raise UnitError(f"the run {repr_quoted(text)} says {name} twice.", fix="Say it once.")
        kind = COUNT if name in also else PARTS[name][0]
        told[name] = kind.read(value.strip(), name) if isinstance(kind, Numbers) else value.strip()
    more = {name: told.pop(name) for name in also if name in told}
    return _make(told), more


def _make(told: dict[str, Any]) -> Run:
    from torchdecay.observe.run import Run

    return Run(**_warmed(told))


def _warmed(told: dict[str, Any], schedule: Any = None) -> dict[str, Any]:
    """With the schedule that the help states as the default where a warm-up alone is said."""
    alone = told.get("warmup_steps") and "lr_schedule" not in told and schedule is None
    return told | {"lr_schedule": "constant"} if alone else told
