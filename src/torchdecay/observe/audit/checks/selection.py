"""WD1xx: who decays."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from torchdecay.findings.rule import Severity
from torchdecay.observe.audit.case import Case, Hit, Member, is_readable
from torchdecay.observe.audit.check import check
from torchdecay.observe.groups import DECAY_NAMES, as_number, decay_of, wiring_of
from torchdecay.optimizers.cards import card_of, has_trait
from torchdecay.plans.controllers import TouchedRows
from torchdecay.plans.parameters import WEIGHTS, Parameter
from torchdecay.plans.policies import BY_NAME, sparing
from torchdecay.plans.roles import usage
from torchdecay.text import counted

_BLUNTED = ("bias", "norm", "scale", "scalar")
_TABLES = {"embedding", "position", "token", "state_space"}


def _sensitive_by_shape(case: Case) -> Iterator[Hit]:
    """What looks like a bias or a norm beside matrices, where nobody knows the model and no plan decided."""
    if any(member.param.dim() > 1 for member in case.members):
        for member in case.pulled:
            if member.param.dim() <= 1 and member.param.requires_grad and member.group.handle is None:
                yield member.hit(f"a bias, norm or scale by its shape, decays by {member.pulled.means}")


@check("WD101", needs="model", guess=_sensitive_by_shape)
def sensitive_parameters(case: Case) -> Iterator[Hit]:
    """Biases, norms, scales and scalars that something pulls, and what the model itself wants spared."""
    around_one = _used_as_one_plus(case)
    for member in case.pulled:
        about = member.about
        if about is None or not about.trainable or case.is_explicit(member):
            continue
        if about.exempt:
            yield member.hit(f"decays by {member.pulled.means}, though the model asks for none: {about.exempt}")
        elif about.role in _BLUNTED and id(member.param) not in around_one:
            yield member.hit(f"role {about.role} decays by {member.pulled.means}")


@check("WD102", needs="model")
def tables(case: Case) -> Iterator[Hit]:
    """Embeddings, position tables, tokens and state-space parameters that something pulls."""
    for member in case.pulled:
        about = member.about
        if about is None or not about.trainable or about.exempt or case.is_explicit(member):
            continue
        # A tied one is told of by WD107.
        if set(about.roles) <= _TABLES:
            yield member.hit(f"role {about.role} decays by {member.pulled.means}")


@check("WD103", needs="model")
def spared_weights(case: Case) -> Iterator[Hit]:
    """Weights that nothing pulls while other weights are pulled."""
    if not any(_is_weight(member) for member in case.pulled):
        return
    for member in case.members:
        if member.decay is None and _is_weight(member) and not case.is_explicit(member):
            yield member.hit("a weight that nothing pulls")


@check("WD113", needs="recipe")
def against_recipe(case: Case) -> Iterator[Hit]:
    """Parameters that decay against the recipe that was named, or are spared against it."""
    name, rules = case.recipe or ("", ())
    spares = sparing(rules)
    for member in case.members:
        if member.about is not None and member.about.trainable:
            spared = spares(member.about)
            if spared == (member.decay is not None):
                yield member.hit(f"decays, and {name} spares it" if spared else f"is spared, and {name} decays it")


def nearest_recipe(case: Case) -> str:
    """Which policy decides nearly as these groups do, in words; "" where nothing tells."""
    members = [(one.about, one.decay is None) for one in case.members if one.about is not None and one.about.trainable]
    if case.recipe is not None or not case.pulled or any(group.handle is not None for group in case.groups):
        return ""
    # Who differs in more than the nearest so far is left at that one.
    least, same = len(members) // 4, list[str]()
    for name, rules in BY_NAME.items():
        spares = sparing(rules)
        differ = len([*islice((1 for about, spared in members if spares(about) != spared), least + 1)])
        if differ < least:
            least, same = differ, [name]
        elif differ == least:
            same.append(name)
    if not members or not same:
        return ""
    but = f", but for {counted(least, 'parameter')}" if least else ""
    return f"who decays is as in the recipe {' or '.join(same)}{but}"


@check("WD104", needs="model")
def forgotten(case: Case) -> Iterator[Hit]:
    """Trainable parameters that no optimizer has."""
    severity: Severity | None = "info" if _are_trained_otherwise(case) else None
    for parameter in _without_optimizer(case):
        yield Hit("model", "requires a gradient, and no optimizer has it", (parameter.name,), severity)


@check("WD105", needs="model")
def strangers(case: Case) -> Iterator[Hit]:
    """Parameters of optimizers that the model does not have: an error, unless all of the model's are trained too."""
    # A loss or another model may have some.
    meant = not _without_optimizer(case) or _are_trained_otherwise(case)
    for member in case.members:
        if member.about is None:
            shape = "x".join(map(str, member.param.shape)) or "scalar"
            names = (f"{member.name} ({shape})",)
            yield Hit(member.group.where, "not a parameter of this model", names, "info" if meant else None)


@check("WD106")
def twice(case: Case) -> Iterator[Hit]:
    """Parameters that the optimizers have more than once."""
    counts = Counter(id(member.param) for member in case.members)
    for member in {id(member.param): member for member in reversed(case.members)}.values():
        if counts[id(member.param)] > 1:
            yield member.hit(f"there {counts[id(member.param)]} times")


@check("WD107", needs="model")
def tied(case: Case) -> Iterator[Hit]:
    """Tied weights that decay though one of their uses is of a role that is spared."""
    for member in case.pulled:
        about = member.about
        if about is None or case.is_explicit(member):
            continue
        if set(about.roles) & set(WEIGHTS) and not set(about.roles) <= set(WEIGHTS):
            uses = ", ".join(f"{name} is {role}" for name, role in zip(about.names, about.roles, strict=True))
            yield member.hit(f"tied ({uses}), and decays by {member.pulled.means}")


@check("WD108")
def frozen_but_moving(case: Case) -> Iterator[Hit]:
    """Parameters that require no gradient, but still have one: optimizers ask for the gradient only."""
    for member in case.members:
        if not member.param.requires_grad and member.param.grad is not None:
            # A plan's hook passes over what is frozen; the optimizer's own decay does not.
            pulls = f", and decays by {member.pulled.means}" if member.decay and not member.pulled.hooked else ""
            yield member.hit(f"frozen with a gradient left{pulls}")


@check("WD109", needs="model")
def unknown_roles(case: Case) -> Iterator[Hit]:
    """Parameters whose role could not be read."""
    for parameter in case.parameters:
        if parameter.trainable and parameter.role == "unknown":
            yield Hit("model", "role unknown", (parameter.name,))


@check("WD110", needs="model", reads=True)
def idle_rows(case: Case) -> Iterator[Hit]:
    """Embeddings that are pulled while the last backward pass left whole rows without a gradient."""
    for member in case.pulled:
        grad = member.param.grad
        if member.about is None or "embedding" not in (member.about.role, *member.about.roles):
            continue
        if grad is None or not is_readable(grad) or grad.dim() < 2:
            continue
        assert member.decay is not None
        if member.decay.mask is not None or isinstance(member.decay.gate, TouchedRows):
            continue
        idle = int((torch.count_nonzero(grad, dim=tuple(range(1, grad.dim()))) == 0).sum())
        if idle:
            yield member.hit(f"{idle} of {grad.shape[0]} rows idle, and decay by {member.pulled.means}")


@check("WD111")
def nothing_decays(case: Case) -> Iterator[Hit]:
    """Setups in which weights are trained and none of them decays; worse where somebody asked for it."""
    able = [one for one in case.members if not has_trait(one.group.optimizer, "no decay")]
    weights = [one for one in able if (_is_weight(one) if case.model else one.param.requires_grad)]
    broken = any(one.misfit or wiring_of(one.values, one.handle) not in ("", "attached") for one in case.groups)
    if not weights or broken or any(member.decay is not None or member.pulled.error for member in weights):
        return
    if case.penalized:
        return
    if any(as_number(group.values.get(getattr(card_of(group.optimizer), "shrinks_by", ""))) for group in case.groups):
        # WD211 tells of ASGD's.
        return
    where = "all optimizers" if len(case.optimizers) > 1 else case.groups[0].where.partition(",")[0]
    asked = _asked(case, weights)
    yield Hit(where, f"none of {counted(len(weights), 'weight')} has a decay{asked}", (), "warning" if asked else None)


@check("WD112")
def without_gradient(case: Case) -> Iterator[Hit]:
    """Parameters that should decay, and had no gradient where others of their optimizer had one."""
    passed = {id(member.group.optimizer) for member in case.members if member.param.grad is not None}
    for member in case.pulled:
        if member.param.grad is None and member.param.requires_grad and id(member.group.optimizer) in passed:
            yield member.hit(f"no gradient, and should decay by {member.pulled.means}")


def _is_weight(member: Member) -> bool:
    """Whether it is a trained weight and nothing else: one tied to an embedding is spared for the embedding's sake."""
    about = member.about
    return about is not None and about.trainable and not about.exempt and set(about.roles) <= set(WEIGHTS)


def _used_as_one_plus(case: Case) -> set[int]:
    """Gains that are used as 1 + w: toward 0 lies the norm that scales nothing, and not a weaker one."""
    blunted = {id(one.param) for one in case.pulled if one.about is not None and one.about.role in _BLUNTED}
    own = [(module, name, param) for module in case.modules for name, param in module._parameters.items()]
    return {id(param) for module, name, param in own if id(param) in blunted and name in usage.of(module).from_one}


def _without_optimizer(case: Case) -> list[Parameter]:
    # An average of weights is written after each step, and requires gradients only as its model did when copied.
    averages = [module for module in case.modules if isinstance(module, AveragedModel)]
    held = {id(param) for module in averages for param in module.parameters()}
    held |= {id(member.param) for member in case.members}
    return [one for one in case.parameters if one.trainable and id(one.tensor) not in held]


def _are_trained_otherwise(case: Case) -> bool:
    """Whether what no optimizer has is stepped in backward, or in low precision and stepped as copies in float32."""
    missing = _without_optimizer(case)
    if all(getattr(one.tensor, "_post_accumulate_grad_hooks", None) for one in missing):
        return bool(missing)
    strangers = [member.param for member in case.members if member.about is None]
    copies = sum(param.numel() for param in strangers if param.dtype is torch.float32)
    low = all(one.dtype in ("bfloat16", "float16") for one in missing)
    return low and copies == sum(one.num_elements for one in missing)


def _asked(case: Case, weights: Sequence[Member]) -> str:
    """Who asked for decay, where somebody did: a plan, a group, or the constructor."""
    if case.plan is not None and any(one.planned in case.plan and case.plan[one.planned].decay for one in weights):
        return ", and the plan decays some"
    free = [group for group in case.groups if group.handle is None]
    for group in free:
        if group.weight_decay:
            return f", and {group.where} asks for {group.weight_decay:g}"
    for optimizer in {id(group.optimizer): group.optimizer for group in free}.values():
        name, asked = decay_of(optimizer, getattr(optimizer, "defaults", {}))
        usual = inspect.signature(type(optimizer)).parameters.get(name)
        if as_number(asked) and (usual is None or asked != usual.default):
            return f", and {type(optimizer).__name__} was given {name}={asked:g}"
    return next(filter(None, map(_in_options, case.modules)), "")


def _in_options(module: nn.Module) -> str:
    """What a module's options ask for, where it keeps them as Lightning's modules and many scripts do."""
    for place in ("hparams", "args"):
        kept = vars(module).get(f"_{place}", vars(module).get(place))
        options = kept if isinstance(kept, Mapping) else getattr(kept, "__dict__", {})
        for name in DECAY_NAMES:
            if as_number(options.get(name)):
                return f", and {type(module).__name__}.{place} asks for {name}={options[name]:g}"
    return ""
