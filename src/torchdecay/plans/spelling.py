"""Decays as people write them: `decoupled(0.1)` in Python, `decoupled:0.1` on a command line; both ways."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, cast

from torchdecay.errors import DecayError
from torchdecay.plans import controllers
from torchdecay.plans.decay import Decay, Scale, Site
from torchdecay.plans.forms import PRESETS, as_decay
from torchdecay.plans.references import Average
from torchdecay.plans.regularizers import L1, L2, Deviation, ElasticNet, Huber, Spectral, SquaredNorm
from torchdecay.plans.schedules import Constant
from torchdecay.text import nearest, repr_quoted, spelled

# The axes that make each preset. A Decay has no name of its own: its name is what its axes add up to.
_FORMS: dict[tuple[Any, ...], str] = {
    # site, scale, regularizer, has a reference, proximal, what adapts
    (Site.NATIVE, Scale.ONE, L2, False, False, None): "native",
    (Site.GRADIENT, Scale.ONE, L2, False, False, None): "coupled",
    (Site.BEFORE, Scale.LR, L2, False, False, None): "decoupled",
    (Site.BEFORE, Scale.LR_RATIO, L2, False, False, None): "independent",
    (Site.BEFORE, Scale.ONE, L2, False, False, None): "per_step",
    (Site.BEFORE, Scale.LR_SQUARED, L2, False, False, None): "corrected",
    (Site.BEFORE, Scale.LR, L2, False, False, controllers.Cautious): "cautious",
    (Site.AFTER, Scale.LR, L1, False, True, None): "l1",
    (Site.AFTER, Scale.LR, ElasticNet, False, True, None): "elastic_net",
    (Site.BEFORE, Scale.LR, L2, True, False, None): "toward",
    (Site.LOSS, Scale.ONE, L2, False, False, None): "penalized",
    (Site.AFTER, Scale.LR_RATIO, L2, False, True, None): "proximal",
    (Site.AFTER, Scale.LR, Huber, False, True, None): "huber",
    (Site.AFTER, Scale.ONE, L2, True, False, controllers.Projection): "projected",
    (Site.BEFORE, Scale.LR, L2, False, False, controllers.Stable): "stable",
    (Site.GRADIENT, Scale.ONE, L2, False, False, controllers.GradientNormRatio): "adaptive",
    (Site.GRADIENT, Scale.ONE, L2, False, False, controllers.GradientSigmoid): "ada_decay",
    (Site.AFTER, Scale.ONE, SquaredNorm, False, False, controllers.Multiplier): "constrained",
    (Site.AFTER, Scale.ONE, L1, False, False, controllers.Multiplier): "constrained",
    (Site.AFTER, Scale.ONE, Huber, False, False, controllers.Multiplier): "constrained",
    (Site.AFTER, Scale.ONE, Deviation, False, False, controllers.Multiplier): "constrained",
    (Site.AFTER, Scale.LR, L2, False, False, controllers.NormRatio): "norm_control",
    (Site.BEFORE, Scale.LR, Spectral, False, False, None): "spectral",
    (Site.BEFORE, Scale.LR, L2, False, False, controllers.BySpectrum): "by_spectrum",
}


_WITH_ROWS = ("decoupled", "independent", "per_step", "corrected")
"""Presets that take `rows=`."""


def form_of(decay: Decay) -> str:
    """The name of the preset that these axes add up to, or "custom"."""
    by_rows = isinstance(decay.gate, controllers.RowGate)
    adapts = [type(one) for one in (None if by_rows else decay.gate, decay.controller) if one is not None]
    if len(adapts) > 1:
        return "custom"
    signature = (
        decay.site,
        decay.scale,
        type(decay.regularizer),
        decay.reference is not None,
        decay.proximal,
        adapts[0] if adapts else None,
    )
    form = _FORMS.get(signature, "custom")
    if by_rows and form not in _WITH_ROWS:
        return "custom"
    return "toward_average" if form == "toward" and isinstance(decay.reference, Average) else form


def spell(decay: Decay) -> str:
    """The call that makes this Decay, as people write it; defaults are left out."""
    form = form_of(decay)
    parts = _arguments(form, decay)
    takes_peak = form in ("independent", "corrected", "proximal", "custom")
    peak = "" if decay.max_lr is None else f"max_lr={spelled(decay.max_lr)}"
    parts += [peak] if peak and takes_peak else []
    parts += [] if decay.schedule == Constant() else [f"schedule={decay.schedule!r}"]
    parts += [] if decay.mask is None else [f"mask={decay.mask!r}"]
    call = f"{'Decay' if form == 'custom' else form}({', '.join(parts)})"
    return f"{call}.replace({peak})" if peak and not takes_peak else call


def _arguments(form: str, decay: Decay) -> list[str]:
    if form == "custom":
        axes = ("regularizer", "reference", "gate", "controller")
        return [
            f"coefficient={spelled(decay.coefficient)}",
            f"site={decay.site}",
            f"scale={decay.scale}",
            *(f"{axis}={getattr(decay, axis)!r}" for axis in axes if getattr(decay, axis) is not None),
            *(["proximal=True"] if decay.proximal else []),
        ]
    if isinstance(decay.regularizer, ElasticNet):
        net = decay.regularizer
        return [f"l1={spelled(decay.coefficient * net.l1)}", f"l2={spelled(decay.coefficient * net.l2)}"]
    if isinstance(decay.controller, controllers.Multiplier):
        return _constraint(decay, decay.controller)
    parts = [spelled(decay.coefficient)]
    if isinstance(decay.reference, Average):
        parts.append(f"beta={spelled(decay.reference.beta)}")
    elif decay.reference is not None:
        parts.insert(0, repr(decay.reference))
    if isinstance(decay.regularizer, Huber):
        parts.append(f"delta={spelled(decay.regularizer.delta)}")
    if isinstance(decay.gate, controllers.RowGate):
        return [*parts, f"rows={decay.gate.spelling!r}"]
    adapts = decay.gate or decay.controller
    if adapts is not None:
        parts += [f"{f.name}={getattr(adapts, f.name)!r}" for f in fields(cast(Any, adapts))
                  if getattr(adapts, f.name) != f.default]  # fmt: skip
    return parts


def _constraint(decay: Decay, bound: controllers.Multiplier) -> list[str]:
    key = {"fixed": "kappa", "initial": "kappa_initial", "warmup": "warmup_steps"}[bound.kind]
    parts = [f"{key}={bound.warmup_steps if bound.kind == 'warmup' else spelled(bound.bound)}"]
    measure = {L1: "l1", Huber: "huber", Deviation: "std"}.get(type(decay.regularizer))
    parts += [] if measure is None else [f"measure={measure!r}"]
    return parts + ([] if bound.per_element else [f"rho={spelled(decay.coefficient)}"])


def parse_decay(text: str) -> Decay | None:
    """The Decay that `NAME:VALUE[,KEY=VALUE...]` spells; a bare number is the optimizer's own weight_decay.

    Args:
        text: "none", "0.1", "decoupled:0.1", "independent:1e-4,max_lr=1e-3", "elastic_net:l1=1e-4,l2=0.1",
            "toward:initial,0.1".

    Raises:
        DecayError: an unknown name, a missing or unknown value, or a number outside its range.

    Example:
        >>> parse_decay("coupled:0.1")
        coupled(0.1)
    """
    text = text.strip()
    if text.lower() in ("none", ""):
        return None
    name, colon, rest = text.partition(":")
    name = name.strip()
    if not colon:
        number = _number(name)
        if isinstance(number, float):
            return as_decay(number)
    if name not in PRESETS:
        raise DecayError(
            f"unknown decay {repr_quoted(text)}.",
            f"Known: none, a number, {', '.join(PRESETS)}.",
            nearest(name, PRESETS) or 'Write NAME:VALUE, such as "decoupled:0.1".',
        )
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        key = key.strip()
        if equals and key in named:
            raise DecayError(f"the decay {repr_quoted(text)} says {key} twice.", fix="Say it once.")
        if equals:
            named[key] = _number(value)
        else:
            positional.append(_number(part))
    preset = PRESETS[name]
    try:
        inspect.signature(preset).bind(*positional, **named)
    except TypeError as error:
        late = ("schedule", "mask", "rows")
        usage = ", ".join(key for key in inspect.signature(preset).parameters if key not in late)
        raise DecayError(
            f"the decay {repr_quoted(text)} does not fit {name}({usage}): {error}.",
            fix=f"Write it as {name}:VALUE, or {name}:KEY=VALUE,KEY=VALUE.",
        ) from error
    return preset(*positional, **named)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()
