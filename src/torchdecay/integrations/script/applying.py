"""Another decay in place of an optimizer's own, before its first step: what can't be done is refused there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from torchdecay.apply.attach import attach
from torchdecay.apply.handle import Handle, handle_of
from torchdecay.apply.lowering import lower
from torchdecay.encoding import Callables
from torchdecay.errors import ApplyError, LoadError, PlanError, TorchdecayError
from torchdecay.integrations.asked import refuse_penalties
from torchdecay.integrations.script.finding import look_around, model_of
from torchdecay.integrations.script.options import Options
from torchdecay.observe.groups import decay_of
from torchdecay.optimizers.cards import has_trait
from torchdecay.plans.census import census
from torchdecay.plans.groups import MARK
from torchdecay.plans.plan import Plan
from torchdecay.plans.planning import plan
from torchdecay.plans.policies import BY_NAME
from torchdecay.plans.spelling import parse_decay
from torchdecay.plans.tree import Models, one_model
from torchdecay.text import listing, nearest, repr_quoted


def check(options: Options) -> None:
    """Refuse, before the script begins, what no optimizer could be given or be compared with.

    Raises:
        DecayError: a decay that means nothing.
        PlanError: unknown rules.
        LoadError: a file that is no plan.
    """
    if options.plan:
        load(options.plan, "describe")
    if options.rules not in BY_NAME:
        raise PlanError(
            f"there are no rules {repr_quoted(options.rules)}.",
            f"Known: {', '.join(BY_NAME)}.",
            nearest(options.rules, BY_NAME),
        )
    if is_file(options.apply):
        load(options.apply)
    elif options.apply:
        parse_decay(options.apply)


def is_file(text: str) -> bool:
    """Whether a plan's file is meant, and not a decay as people type it."""
    return text.endswith(".json")


def load(path: str, callables: Callables = "import") -> Plan:
    """The plan of a file; a function that it names is imported where it is to be carried out.

    Raises:
        LoadError: no such file, or no plan.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            f"the plan {repr_quoted(path)} can't be read: {error}.", fix="Write one: torchdecay plan ... --save."
        ) from error
    return Plan.from_json(text, callables=callables)


def names_in(named: str) -> list[str]:
    """The classes and numbers that were given with commas between."""
    return [name.strip() for name in named.split(",") if name.strip()]


def met_by(number: int, optimizer: Optimizer, named: str) -> set[str]:
    """Which of the names that were given are this optimizer's."""
    return {str(number), *(base.__name__ for base in type(optimizer).__mro__)} & set(names_in(named))


def apply(optimizer: Optimizer, model: nn.Module | None, options: Options, scheduler: Any) -> tuple[str, str]:
    """Give an optimizer another decay.

    Returns:
        What it was given, and what stood there.

    Raises:
        TorchdecayError: this optimizer can't be given it; nothing was changed.
    """
    model = _whole(optimizer, model)
    planned = _planned(optimizer, model, options)
    refuse_penalties(planned)
    before = standing(optimizer)
    # A checkpoint that was loaded already holds counters and peaks of the plan that it was written under.
    saved = optimizer.state_dict() if any(MARK in group for group in optimizer.param_groups) else None
    attach(optimizer, planned, model=model, scheduler=scheduler)
    if saved is not None:
        optimizer.load_state_dict(saved)
    return options.apply, before


def refusal(optimizer: Optimizer, model: nn.Module | None) -> str:
    """Why this optimizer can't be given a decoupled decay; "" where it can."""
    try:
        model = _whole(optimizer, model)
        lower(_planned(optimizer, model, Options(apply="decoupled:0.1")), optimizer, model=model)
    except TorchdecayError as error:
        return str(error)
    return ""


def follow(optimizer: Optimizer, options: Options) -> None:
    """Plan what was added or unfrozen since by the same rules; what can't be planned ends the plan, not the script.

    Raises:
        TorchdecayError: the optimizer decays by its own weight_decay from here on.
    """
    handle = handle_of(optimizer)
    try:
        _update(handle, optimizer, options)
    except Exception:
        if handle is not None:
            handle.remove()
        raise


def follow_load(optimizer: Optimizer, options: Options) -> None:
    """The same before a checkpoint is loaded; what can't be planned is left to the next step, and loaded without."""
    handle = handle_of(optimizer)
    try:
        _update(handle, optimizer, options)
    except Exception:
        # Hooks can't be taken away while they run.
        for hooks in (optimizer._optimizer_load_state_dict_pre_hooks, optimizer._optimizer_load_state_dict_post_hooks):
            mine = [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is handle]
            hooks.update(dict.fromkeys(mine, lambda *given: None))


def _update(handle: Handle | None, optimizer: Optimizer, options: Options) -> None:
    """Plan the parameters that the optimizer has by now, where they are not those that were planned."""
    if handle is not None and handle.is_outdated():
        if handle.model is not None:
            handle.model = widened(handle.model, optimizer)
        handle.update(_planned(optimizer, handle.model, options, later=True))


def widened(model: nn.Module, optimizer: Optimizer) -> nn.Module:
    """Beside the model that owned the first parameters the one that owns those of now: a backbone trained later, say.

    Counters and references are known by names, so what was planned keeps its own.
    """
    held = {id(param) for param in model.parameters()}
    if all(id(param) in held for group in optimizer.param_groups for param in group["params"]):
        return model
    whole = model_of(optimizer, look_around().modules)
    return model if whole is None or whole is model else _Grown({"model": model, "whole": whole})


class _Grown(Models):
    """A model and the larger one that it is a part of: its parameters keep the names that they had."""

    def whose(self, params: Iterable[Any]) -> nn.Module:
        return self


def _whole(optimizer: Optimizer, model: nn.Module | None) -> nn.Module | None:
    """The model, and beside it what the optimizer has and no module owns: a temperature, weights of losses.

    Nothing tells what such a parameter is for, so by the standard rules it is spared.
    """
    if model is None:
        return None
    held = {id(param) for param in model.parameters()}
    params = [param for group in optimizer.param_groups for param in group["params"] if id(param) not in held]
    if not params or not all(isinstance(param, nn.Parameter) for param in params):
        return model
    strays = {f"of no module {number}": param for number, param in enumerate(params, 1)}
    return one_model({"model": model, "strays": nn.ParameterDict(strays)})


def _require_single_pass(optimizer: Optimizer) -> None:
    """Refuse what attach would let through as a penalty only, which a script from outside is never given."""
    if has_trait(optimizer, "reevaluating"):
        raise ApplyError(
            f"{type(optimizer).__name__} takes no decay from outside.",
            "It evaluates the closure many times a step, and every evaluation must see the same function.",
            "Add a penalty to the loss inside the script's closure: loss + td.penalty(model, l2=0.05). Or name by "
            "--optimizer those that are to get it.",
        )


def _planned(optimizer: Optimizer, model: nn.Module | None, options: Options, *, later: bool = False) -> Plan:
    """The plan for the parameters that the optimizer has; later on, those that a file does not name are spared."""
    _require_single_pass(optimizer)
    held = {id(param) for group in optimizer.param_groups for param in group["params"]}
    if model is None:
        raise ApplyError(
            f"no module is known to own the parameters of {type(optimizer).__name__}.",
            "Who decays is read from the model.",
            "Keep a reference to the model, and call gc.freeze() after the first step only; or name by --optimizer "
            "those that are to get it.",
        )
    mine = [one for one in census(model) if id(one.tensor) in held]
    if not is_file(options.apply):
        return plan(mine, parse_decay(options.apply), rules=BY_NAME[options.rules])
    whole, names = load(options.apply), {name for one in mine for name in one.names}
    rows = tuple(row for row in whole.rows if not names.isdisjoint(row.names))
    unknown = [one for one in mine if one.trainable and not any(name in whole for name in one.names)]
    return Plan(
        rows=rows + (plan(unknown, None, rules=()).rows if later and unknown else ()),
        decay=whole.decay,
        policy=whole.policy,
        frozen=whole.frozen,
    )


def standing(optimizer: Optimizer) -> str:
    """What the groups' own decay is, in words."""
    said = []
    for group in optimizer.param_groups:
        name, value = decay_of(optimizer, group)
        said.append(f"{name}={float(value):g}" if name else "no weight_decay")
    return listing(list(dict.fromkeys(said)))
