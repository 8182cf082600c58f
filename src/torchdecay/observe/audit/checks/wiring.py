"""WD2xx: does it happen."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from torchdecay.errors import ApplyError
from torchdecay.observe.audit.case import Case, Hit
from torchdecay.observe.audit.check import check
from torchdecay.observe.groups import as_number, wiring_of
from torchdecay.optimizers.cards import card_of, has_trait
from torchdecay.plans.decay import Decay, Site
from torchdecay.plans.groups import MARK
from torchdecay.text import listing

_SCHEDULER_KEYS = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"}
_ALWAYS = {"params", "param_names", "name", "group_name", "lr_scale", "lr_mult", MARK} | _SCHEDULER_KEYS
_MEANT = ("lr", "weight_decay", "momentum", "betas", "eps", "nesterov", "dampening", "amsgrad")
_NICKNAMES = {
    "weight_decay": "wd decay wdecay w_decay weight_decay_rate l2 l2_reg l2_penalty l2_regularization weight_reg reg "
    "regularization l2_lambda lambda_l2 weight_decay_coeff weight_decay_coef weight_decay_coefficient",
    "lr": "learning_rate learn_rate learningrate step_size stepsize",
    "eps": "epsilon",
    "betas": "beta",
}
_LABELS = ("params", "param_names", "name", "group_name", MARK)


@check("WD201")
def misspelled(case: Case) -> Iterator[Hit]:
    """Keys that the optimizer does not have, but nearly, and weight_decay where there is none."""
    for group in case.groups:
        known = set(getattr(group.optimizer, "defaults", ())) | set(_MEANT)
        if has_trait(group.optimizer, "no decay") and group.values.get("weight_decay"):
            name, found = type(group.optimizer).__name__, group.values["weight_decay"]
            yield Hit(group.where, f'"weight_decay"={found!r} is ignored; {name} has none')
        for key in group.values:
            meant = "" if key in known or key in _ALWAYS else _meant_by(str(key), known)
            # Other libraries have words of their own; where torch's is there too, theirs is a slip.
            if meant and not (meant == "weight_decay" and "weight_decay" not in group.values):
                found, instead = group.values[key], group.values.get(meant)
                yield Hit(group.where, f'"{key}"={found!r} is ignored; "{meant}" is {instead!r}')


@check("WD202")
def empty(case: Case) -> Iterator[Hit]:
    """Groups without a parameter."""
    for group in case.groups:
        if not group.members:
            yield Hit(group.where, "no parameters")


@check("WD203")
def needless_groups(case: Case) -> Iterator[Hit]:
    """Groups of one optimizer whose options are equal."""
    for optimizer in case.optimizers:
        groups = [group for group in case.groups if group.optimizer is optimizer]
        settings: list[dict[str, object]] = []
        for group in groups:
            options = {k: v for k, v in group.values.items() if k not in _LABELS}
            if not any(_same(options, other) for other in settings):
                settings.append(options)
        # Under a plan groups that say the same to the optimizer may decay differently; empty ones have a code.
        if len(settings) < len([group for group in groups if group.members]) and not any(g.handle for g in groups):
            yield Hit(type(optimizer).__name__, f"{len(groups)} groups, {len(settings)} settings")


@check("WD204")
def unapplied_scale(case: Case) -> Iterator[Hit]:
    """Groups with an lr_scale that their learning rate does not contain."""
    scaled = [(group, as_number(group.values.get("lr_scale", 1.0))) for group in case.groups if group.lr]
    for group, scale in scaled:
        if scale is None or scale == 1:
            continue
        # Applied scales give groups of one base different rates; the same rate under two scales means that none is.
        if any(group.lr == other.lr and another not in (None, scale) for other, another in scaled):
            yield Hit(group.where, f"lr_scale={scale:g}, but lr={group.lr:g} is that of groups with other scales")
        elif group.lr == as_number(getattr(group.optimizer, "defaults", {}).get("lr")):
            yield Hit(group.where, f"lr_scale={scale:g}, but lr={group.lr:g} is the optimizer's own")


@check("WD205")
def lost_hooks(case: Case) -> Iterator[Hit]:
    """Groups with the mark of an attached plan that no handle carries out."""
    for group in case.groups:
        if wiring_of(group.values, group.handle) == "hooks lost":
            yield group.hit(f'marked "{str(group.values[MARK]).partition(";")[0]}", but nothing is attached')


@check("WD206")
def never_attached(case: Case) -> Iterator[Hit]:
    """Groups from a plan that needs `attach` and never was."""
    for group in case.groups:
        if wiring_of(group.values, group.handle) == "not attached":
            yield group.hit(f'marked "{group.values[MARK]}"')


@check("WD207")
def double(case: Case) -> Iterator[Hit]:
    """Groups that decay by hook and have a weight_decay of their own."""
    for group in case.groups:
        if group.handle is None or not group.weight_decay:
            continue
        rows = [row for row in group.handle.lowering.rows if row.group == group.index]
        hooked = tuple(row.name for row in rows if row.route in ("hook", "loss"))
        if hooked:
            yield Hit(group.where, f"weight_decay={group.weight_decay:g} beside the plan's hook", hooked)


@check("WD208", needs="plan")
def other_than_planned(case: Case) -> Iterator[Hit]:
    """Groups whose weight_decay is not what the plan has for their parameters."""
    assert case.plan is not None
    held: set[str] = set()
    for group in case.groups:
        if not group.named:
            raise ApplyError(
                f"{group.where} has no param_names, so its parameters can't be found in the plan.",
                fix="Pass model=..., or build the optimizer from plan.param_groups(model).",
            )
        held.update(member.planned for member in group.members)
        if group.handle is None and MARK in group.values:
            continue
        for member in group.members:
            if member.planned not in case.plan:
                continue
            planned = case.plan[member.planned].decay
            if planned is not None and planned.site is Site.LOSS:
                continue
            if not _is_that(member.decay, planned):
                yield member.hit(f"the plan says {planned!r}, the group does {member.pulled.means}")
    if not case.model:
        # With the model at hand WD104 says so.
        for row in case.plan.rows:
            if held.isdisjoint(row.names):
                yield Hit("plan", "the plan has a row for it, and no optimizer has it", (row.name,))


@check("WD209")
def not_contiguous(case: Case) -> Iterator[Hit]:
    """Weights or gradients that a fused kernel on the CPU would misread."""
    for member in case.members:
        param, grad = member.param, member.param.grad
        fused = member.group.values.get("fused") and param.device.type == "cpu"
        if not fused or grad is None or grad.layout is not torch.strided:
            continue
        if not _is_dense(param) or _strides(grad) != _strides(param):
            yield member.hit(f"weight strides {tuple(param.stride())}, gradient strides {tuple(grad.stride())}, fused")


@check("WD210", needs="loss")
def penalty_too(case: Case) -> Iterator[Hit]:
    """Weights that a penalty in the loss and a decay both pull."""
    for member in case.pulled:
        if id(member.param) in case.penalized and member.pulled.site is not Site.LOSS:
            yield member.hit(f"a penalty in the loss, and {member.pulled.means}")


@check("WD211")
def hidden_lambd(case: Case) -> Iterator[Hit]:
    """ASGD's decay term that is not called weight_decay."""
    for group in case.groups:
        card = card_of(group.optimizer)
        key = "" if card is None else card.shrinks_by
        if as_number(group.values.get(key)):
            yield Hit(group.where, f"{key}={group.values[key]:g}, weight_decay={group.weight_decay:g}")


@check("WD212", needs="loss")
def missing_penalty(case: Case) -> Iterator[Hit]:
    """Rows that the plan pulls through the loss, and the loss does not."""
    for member in case.pulled:
        if member.pulled.site is Site.LOSS and id(member.param) not in case.penalized:
            yield member.hit(f"{member.pulled.means} is not in the loss")


@check("WD213")
def outgrown(case: Case) -> Iterator[Hit]:
    """Attached plans without a row for a parameter of their optimizer."""
    for group in case.groups:
        if group.misfit and group.index == 0:
            yield Hit(group.where.partition(",")[0], group.misfit.removesuffix("."))


@check("WD214")
def replaced_by_checkpoint(case: Case) -> Iterator[Hit]:
    """Optimizers whose own weight_decay no group has since a checkpoint was loaded."""
    for optimizer in case.optimizers:
        groups = [one for one in case.groups if one.optimizer is optimizer]
        made = getattr(optimizer, "defaults", {})
        given = as_number(made.get("weight_decay"))
        own = inspect.signature(type(optimizer)).parameters.get("weight_decay")
        # Groups that each have their own leave the class's default unused.
        if given is None or own is None or own.default == given or any(one.handle for one in groups):
            continue
        found = [one.weight_decay for one in groups]
        if given not in found and all(_is_loaded(one.values, made) for one in groups):
            said = listing([f"{value:g}" for value in dict.fromkeys(found)])
            yield Hit(
                groups[0].where.partition(",")[0],
                f"weight_decay is {said} in place of the {given:g} that it was made with",
            )


def _is_loaded(group: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether a group is a checkpoint's, where "params" stands behind the options; torch adds them behind it else."""
    keys = list(group)
    return max(map(keys.index, made.keys() & group.keys()), default=len(keys)) < keys.index("params")


def _meant_by(key: str, known: Iterable[str]) -> str:
    """The known key that a slip stands for, in other letters, by a nickname or misspelled; "" for what is none."""
    word = re.sub(r"[\W_]+", "_", key).strip("_").lower()
    for meant, nicknames in _NICKNAMES.items():
        if word == meant or word in nicknames.split():
            return meant
    # A known key with more words is one of a schedule of the user's own: weight_decay_end, momentum_mult.
    if any(f"_{name}_" in f"_{word}_" and name != word for name in known):
        return ""
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.75)), "")


def _strides(tensor: Tensor) -> tuple[int, ...]:
    """Strides of the dimensions that have any: along one of a single element nothing is ever walked."""
    return tuple(stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1)


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements lie side by side, in whatever order."""
    walked = sorted((stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1)
    return all(stride == math.prod(size for _, size in walked[:i]) for i, (stride, _) in enumerate(walked))


def _same(left: dict[str, object], right: dict[str, object]) -> bool:
    """Whether options are equal; tensors only if they are the same one."""
    either = [(left.get(key, MARK), right.get(key, MARK)) for key in {*left, *right}]
    return all(a is b if isinstance(a, Tensor) or isinstance(b, Tensor) else a == b for a, b in either)


def _is_that(found: Decay | None, planned: Decay | None) -> bool:
    if found is None or planned is None:
        return found is planned
    if planned.site is Site.NATIVE or found.site is Site.NATIVE:
        return found.coefficient == planned.coefficient
    return found == planned
