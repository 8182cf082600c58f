"""TD3xx: how hard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from torchdecay.observe.checks.base import Sighting, check
from torchdecay.observe.scene import Group, Scene, as_number, fraction
from torchdecay.plan.decay import Decay, Site

_HUGE = 0.01
"""A fraction per step above this leaves a weight less than half of itself after 70 steps."""


@check("TD301")
def unusable(scene: Scene) -> Iterator[Sighting]:
    """weight_decay that is negative, NaN, infinite, a string or the like."""
    for group in scene.groups:
        if "weight_decay" not in group.values:
            continue
        value: Any = group.values["weight_decay"]
        number = as_number(value)
        if number is None:
            yield Sighting(group.where, f"weight_decay={value!r} of type {type(value).__name__}")
        elif number < 0:
            yield Sighting(group.where, f"weight_decay={number:g} makes weights grow")


@check("TD302")
def huge(scene: Scene) -> Iterator[Sighting]:
    """Groups that lose more than a hundredth of each weight per step."""
    for group, decay, name in _fractions(scene):
        taken = fraction(decay, group.lr or 0.0)
        if taken is not None and _HUGE < taken < 1:
            yield Sighting(
                group.where, f"{decay!r} at lr {group.lr:g} removes {taken:.3g} of each weight per step", name
            )


@check("TD303")
def flips(scene: Scene) -> Iterator[Sighting]:
    """Groups that remove a whole weight or more per step, now or at the peak of their schedule."""
    for group, decay, name in _fractions(scene):
        curve = scene.curve(group) or [group.lr or 0.0]
        rates = {group.lr or 0.0: "now"} | {max(curve): f"at step {curve.index(max(curve))} of the run"}
        for lr, when in rates.items():
            taken = fraction(decay, lr)
            if taken is not None and taken >= 1 and not (taken == 1 and decay.scale.value == "1"):
                yield Sighting(group.where, f"{decay!r} removes {taken:.3g} of each weight per step, {when}", name)
                break


@check("TD304")
def rounded_away(scene: Scene) -> Iterator[Sighting]:
    """Native decay on bf16 or fp16 weights, too small for one step to show."""
    for group, member, decay in scene.pulled():
        if member.param.dtype not in (torch.bfloat16, torch.float16) or not _is_native(group, member.name):
            continue
        if decay.site is not Site.BEFORE or group.lr is None:
            continue
        taken = fraction(decay, group.lr)
        # Half the distance to the next number below 1, the hardest to leave of all.
        visible = torch.finfo(member.param.dtype).eps / 4
        if taken is not None and 0 < taken < visible:
            dtype = str(member.param.dtype).removeprefix("torch.")
            what = f"{taken:.2g} of each weight per step, and {dtype} shows no less than {visible:.2g}"
            yield Sighting(group.where, what, (member.name,))


@check("TD305", needs="run")
def hasty(scene: Scene) -> Iterator[Sighting]:
    """Groups whose weights forget faster than the data comes round."""
    assert scene.run is not None
    per_epoch = scene.run.steps_per_epoch
    for group, decay, name in _fractions(scene):
        scale = _timescale(scene, group, decay)
        if scale is not None and per_epoch is not None and scale < per_epoch:
            yield Sighting(group.where, f"{decay!r}: time scale {scale:,.0f} steps, an epoch has {per_epoch:,}", name)


@check("TD306", needs="run")
def idle(scene: Scene) -> Iterator[Sighting]:
    """Groups whose decay is too weak to act within the run."""
    assert scene.run is not None
    for group, decay, name in _fractions(scene):
        scale = _timescale(scene, group, decay)
        if scale is not None and scale > scene.run.num_steps:
            what = f"{decay!r}: time scale {scale:,.0f} steps, the run has {scene.run.num_steps:,}"
            yield Sighting(group.where, what, name)


@check("TD307")
def above_peak(scene: Scene) -> Iterator[Sighting]:
    """Groups whose learning rate is above the peak that their decay is scaled by."""
    for group, decay, name in _fractions(scene):
        if group.handle is None or not (decay.scale.needs_max_lr or decay.schedule.needs_lr):
            continue
        peak = decay.max_lr or group.handle.max_lr(group.index)
        if peak is not None and group.lr is not None and group.lr > peak * (1 + 1e-12):
            yield Sighting(group.where, f"lr={group.lr:g}, max_lr={peak:g} for {decay!r}", name)


def _fractions(scene: Scene) -> Iterator[tuple[Group, Decay, tuple[str, ...]]]:
    """Each different pull of each group, with the names of its parameters."""
    for group in scene.groups:
        found: dict[int, tuple[Decay, list[str]]] = {}
        for member in group.members:
            if member.decay is not None:
                found.setdefault(id(member.decay) if group.handle else 0, (member.decay, []))[1].append(member.name)
        for decay, names in found.values():
            yield group, decay, tuple(names)


def _timescale(scene: Scene, group: Group, decay: Decay) -> float | None:
    """1/(mean fraction per step) over the run, in steps."""
    curve = scene.curve(group)
    if not curve:
        return None
    taken = [one for lr in curve if (one := fraction(decay, lr)) is not None]
    mean = sum(taken) / len(taken) if taken else 0.0
    return 1 / mean if mean > 0 else None


def _is_native(group: Group, name: str) -> bool:
    return group.handle is None or group.handle.lowering[name].route == "native"
