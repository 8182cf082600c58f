"""From what was measured on one slot to a verdict: whether that is right, and a sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from torchdecay.observe.verify.expected import Expectation, base_name
from torchdecay.observe.verify.explaining import Explanation
from torchdecay.observe.verify.result import SITES, Verdict
from torchdecay.observe.verify.slots import Slot
from torchdecay.optimizers.cards import base_card_of
from torchdecay.plans.decay import Scale, Site
from torchdecay.sharding import local
from torchdecay.text import dtype_name, percent

_VAGUE = 0.1
"""A relative error of what was measured beyond which no number is told."""

_CLOSE = 0.35
"""How far what is taken at a learning rate may be from what other ones foretell, as a part of the larger."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was measured on one slot.

    Attributes:
        one: what it should undergo.
        optimizer: the optimizer.
        slot: the parameter, and its group.
        lr: the group's learning rate as it stands.
        telling_lr: the learning rate that it was measured at.
        amounts: what the pull should take at `telling_lr` and at half of it; 0 when nothing should.
        multiple: how many times that much is taken, where `resolved`.
        is_visible: whether a wrong amount would have shown.
        state: "unmoved", when no step moves it; "ignored", when the pull makes no difference in them; "late", when it
            makes one in a later step only; "faint", when it makes too little to be told; "resolved", when it undergoes
            what it should; "open", when it does not.
        steps: how many were taken; of a late one, the first that shows it.
        shrink: the fraction that a step without gradient takes; 0 or NaN when that says nothing.
        shrink_now: the same at the learning rate as it stands.
        hidden: the fraction that it still takes when all decay is off.
        explanation: the plain pull that does what an open slot undergoes.
    """

    one: Expectation
    optimizer: Any
    slot: Slot
    lr: float | None
    telling_lr: float | None
    amounts: tuple[float, float]
    multiple: float
    is_visible: bool
    state: str
    steps: int
    shrink: float
    shrink_now: float
    hidden: float
    explanation: Explanation | None

    @property
    def group(self) -> Mapping[str, Any]:
        """Its parameter group."""
        group: Mapping[str, Any] = self.optimizer.param_groups[self.slot.group]
        return group

    @property
    def dtype(self) -> str:
        """In torch's spelling without the prefix."""
        return dtype_name(local(self.slot.param).dtype)

    @property
    def expected(self) -> float:
        """The amount at the learning rate as it stands."""
        return self.one.amount(1.0 if self.lr is None else self.lr) if any(self.amounts) else 0.0

    @property
    def wanted(self) -> Verdict:
        """What should have been measured: where the pull should enter, if that is known, and how much of it."""
        decay = self.one.decay if self.one.source != "group" else None
        return Verdict(expected_site=None if decay is None else decay.site, expected=self.expected)


def verdict_of(seen: Seen) -> Verdict:
    """The verdict of one slot."""
    if seen.state == "unmoved":
        fused = " with fused=True" if seen.group.get("fused") else ""
        left = f"{type(seen.optimizer).__name__}{fused} leaves {seen.dtype} weights where they are"
        return Verdict(fault="unmoved", why=f"{left}, in {seen.steps} steps.")
    if seen.state == "ignored":
        why = f"{wish(seen)}, but in {seen.steps} steps nothing shows of it."
        return replace(seen.wanted, measured=0.0, fault="ignored", why=why)
    if seen.state == "late":
        why = f"{wish(seen)}, and it shows first in step {seen.steps}: it does not come in each."
        return Verdict(why=why) if seen.one.source == "group" else replace(seen.wanted, fault="unexplained", why=why)
    if seen.state == "faint":
        why = f"{wish(seen)}, and so little of it is taken that {seen.dtype} does not show how much."
        return replace(seen.wanted, fault="unmeasured", why=why)
    if seen.state == "open":
        return _explained(seen, seen.explanation) if seen.explanation is not None else _unexplained(seen)
    return _as_expected(seen)


def wish(seen: Seen) -> str:
    """What should happen, as the beginning of a sentence."""
    one = seen.one
    assert one.decay is not None
    if one.source == "plan":
        return f"The plan says {one.spoken}"
    amount = f"weight_decay is {one.decay.coefficient:g}"
    if one.source == "group":
        return amount
    name = type(seen.optimizer).__name__
    of = name if one.source == "class" else f"{base_name(seen.optimizer)}, which {name} derives from"
    return f"{amount}, {SITES[one.decay.site]} in {of}"


def _as_expected(seen: Seen) -> Verdict:
    # Of what has no decay more can't be said than what the probe saw.
    besides = " None showed in the probed steps." if seen.one.decay is None and seen.one.source != "plan" else ""
    if seen.hidden == seen.hidden and seen.hidden:
        scale = seen.lr / seen.telling_lr if seen.lr is not None and seen.telling_lr else 1.0
        card = base_card_of(seen.optimizer)
        key = "" if card is None else card.shrinks_by
        if not key:
            return _hidden(seen, seen.hidden * scale)
        besides = f" Besides, {key}={seen.group.get(key):g} takes {percent(seen.hidden * scale)} per step."
    one = seen.one
    if one.decay is None or not any(seen.amounts):
        return Verdict(expected=0.0, measured=0.0, why=_spared(one) + besides)
    site = one.decay.site
    if not seen.is_visible:
        subject = one.spoken or f"a weight_decay of {one.decay.coefficient:g}"
        return replace(seen.wanted, fault="unmeasured", why=f"In {seen.dtype} {subject} does not show beside rounding.")
    measured = seen.multiple * seen.expected
    enters = site is Site.GRADIENT or one.decay.scale is not Scale.ONE or one.decay.schedule.needs_lr
    why = _said(one, site, measured) + besides
    return replace(seen.wanted, site=site, measured=measured, lr_enters=enters, why=why)


def _hidden(seen: Seen, extra: float) -> Verdict:
    """Decay that nothing switches off."""
    why = f"{percent(extra)} of each weight is taken off per step at a weight_decay of 0 too."
    if seen.one.source == "nothing":
        return Verdict(measured=extra, why=why)
    if seen.one.decay is None or not any(seen.amounts):
        return Verdict(expected=0.0, measured=extra, fault="hidden", why=why)
    site = seen.one.decay.site
    measured = seen.expected if site is Site.GRADIENT else seen.expected + extra
    return replace(seen.wanted, site=site, measured=measured, fault="hidden", why=f"{wish(seen)}. Besides, {why}")


def _unexplained(seen: Seen) -> Verdict:
    one = seen.one
    told = (
        f"; with no gradient it takes {percent(seen.shrink)} off" if seen.shrink == seen.shrink and seen.shrink else ""
    )
    told += f" at learning rate {seen.telling_lr:g}" if told and seen.telling_lr is not None else ""
    if one.unsayable:
        return Verdict(why=f"{one.unsayable}, so no number is expected; it moves the weights{told}.")
    why = f"No single pull toward zero explains its steps{told}."
    if one.source in ("group", "nothing"):
        return Verdict(why=why)
    about = f"{wish(seen)}. " if one.decay is not None else ""
    return replace(seen.wanted, fault="unexplained", why=about + why)


def _explained(seen: Seen, pull: Explanation) -> Verdict:
    """What an open slot undergoes, and what that means."""
    one = seen.one
    measured = pull.at_full
    if pull.site is not Site.GRADIENT and seen.lr is not None and seen.telling_lr:
        measured *= (seen.lr / seen.telling_lr) ** pull.power
    said = _said(one, pull.site, measured)
    enters = pull.site is Site.GRADIENT or pull.power != 0
    found = replace(seen.wanted, site=pull.site, measured=measured, lr_enters=enters, why=said)
    if one.unsayable:
        why = f"{one.unsayable}; at this step it takes {percent(measured)} off each weight."
        return replace(found, expected_site=None, expected=None, why=why)
    if one.source in ("group", "nothing") and pull.slack > _VAGUE:
        about = f"{wish(seen)}. " if one.decay is not None else ""
        return Verdict(why=f"{about}What decays is too little beside rounding to be told as a number.")
    if one.source in ("group", "nothing") and pull.site is not Site.GRADIENT and seen.telling_lr is not None:
        now, unsure = seen.shrink_now, torch.finfo(local(seen.slot.param).dtype).eps / 2
        if abs(now - measured) > _CLOSE * max(abs(now), abs(measured)) + unsure:
            return Verdict(
                site=pull.site,
                why=f"At learning rate {seen.telling_lr:g} it takes {percent(pull.at_full)} off each weight per step, "
                f"at its own, without gradient, {percent(now)}: that follows more than the learning rate, so no number "
                "is told.",
            )
    if one.decay is None:
        if one.source == "nothing":
            return replace(found, expected=None)
        return replace(found, fault="hidden", why=f"{_spared(one)} But it decays: {said}")
    if one.source == "group":
        return _by_amount(seen, found, pull)
    if pull.site is not one.decay.site:
        return replace(found, fault="site", why=f"{wish(seen)}. {said}")
    times, law = pull.times(seen.amounts)
    if times is None:
        how = "with another power of the learning rate" if found.lr_enters else "as strongly at half the rate"
        return replace(found, fault="learning rate", why=f"{wish(seen)}, but it pulls {how}. {said}")
    return _by_ratio(seen, _restated(seen, found, law(times * seen.expected)), times, pull.slack)


def _by_amount(seen: Seen, found: Verdict, pull: Explanation) -> Verdict:
    """For a class that is not known: only what no convention does is a fault."""
    assert seen.one.decay is not None
    wd, lr = seen.one.decay.coefficient, seen.telling_lr
    if not found.lr_enters or pull.site is Site.GRADIENT or lr is None:
        times, _ = pull.times((wd, wd))
        return _by_ratio(seen, replace(found, expected=wd), times or pull.at_full / wd, pull.slack)
    times, law = pull.times((lr * wd, lr * wd / 2))
    if times is None:
        return replace(found, expected=None)
    now = (seen.lr or 0.0) * wd
    found = replace(_restated(seen, found, law(times * now)), expected=law(now))
    peaks = [seen.group.get(key) for key in ("max_lr", "initial_lr", "lr")]
    peaks.append(getattr(seen.optimizer, "defaults", {}).get("lr"))
    if any(abs(times * float(peak) - 1) <= pull.slack for peak in peaks if peak):
        return replace(found, expected=found.measured)
    return _by_ratio(seen, found, times, pull.slack)


def _by_ratio(seen: Seen, found: Verdict, ratio: float, slack: float) -> Verdict:
    if abs(ratio - 1) <= slack:
        return found
    if ratio < 0:
        why = f"{wish(seen)}, but it is applied with the wrong sign: weights grow."
        return replace(found, fault="sign", why=why)
    times = round(ratio)
    if times >= 2 and abs(ratio - times) <= max(0.02, slack * times):
        num_dtypes = len({local(param).dtype for param in seen.group["params"]})
        hint = f" Its group holds {times} dtypes: once for each?" if num_dtypes == times else ""
        return replace(found, fault="multiple", why=f"{wish(seen)}, but it is applied {times} times.{hint}")
    if seen.one.source == "group":
        return replace(found, expected=None, why=f"{found.why} That is {ratio:.4g} times its weight_decay.")
    return replace(found, fault="multiple", why=f"{wish(seen)}, but {ratio:.4g} times as much is applied.")


def _restated(seen: Seen, found: Verdict, measured: float) -> Verdict:
    assert found.site is not None
    return replace(found, measured=measured, why=_said(seen.one, found.site, measured))


def _said(one: Expectation, site: Site, measured: float) -> str:
    """What was measured, as a sentence."""
    if one.source == "plan" and not one.unsayable and one.decay is not None and not one.is_plain:
        return f"{one.spoken}, as it should be."
    if site is Site.GRADIENT:
        return f"Coupled: {measured:.4g} of each weight is added to its gradient."
    when = "Decoupled" if site is Site.BEFORE else "After the update"
    return f"{when}: {percent(measured)} of each weight is taken off per step."


def _spared(one: Expectation) -> str:
    if one.decay is not None and one.decay.site is Site.LOSS:
        return "Its decay is a penalty in the loss, which no step shows."
    if one.decay is not None:
        return "Its schedule is at 0 now."
    return "The plan spares it." if one.source == "plan" else "No weight decay is set."
