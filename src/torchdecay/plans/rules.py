"""Rules: a selector, the decay for what it picks, and options for the parameter group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torchdecay.arguments import check_number
from torchdecay.errors import PlanError
from torchdecay.plans.decay import Decay, as_decay
from torchdecay.plans.selectors import Selector, as_selector
from torchdecay.text import spelled


@dataclass(frozen=True)
class Times:
    """Stands for the plan's own decay with its coefficient multiplied; by 1 it is the plan's own."""

    multiplier: float

    def __repr__(self) -> str:
        return "DEFAULT" if self.multiplier == 1 else f"times({spelled(self.multiplier)})"


@dataclass(frozen=True)
class Unsaid:
    """Stands in a rule that leaves the decay to the other rules, and only sets options."""

    def __repr__(self) -> str:
        return "UNSAID"


DEFAULT = Times(1.0)
"""In a rule, the plan's own decay: `td.rule("head.*", td.DEFAULT)` decays what a later rule would spare."""
UNSAID = Unsaid()
"""In a rule, no word about decay: options without it leave the decay to the other rules."""
DECAY = "weight_decay"
"""What a rule decides that names a decay, beside its options; it is no option itself."""
RESERVED = ("params", "param_names", DECAY)
"""Keys of a parameter group that the plan decides, and that no option may set."""
Choice = Decay | Times | Unsaid | None


def times(multiplier: float) -> Times:
    """The plan's own decay with its coefficient multiplied, for a rule.

    Args:
        multiplier: at least 0.

    Example:
        >>> import torchdecay as td
        >>> td.rule("head.*", td.times(0.5))
        rule("head.*", times(0.5))
    """
    return Times(check_number(multiplier, "times multiplier"))


@dataclass(frozen=True)
class Rule:
    """Who, and what they get. Made by `torchdecay.rule`."""

    selector: Selector
    decay: Choice
    optional: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    label: str = ""

    @property
    def decides(self) -> frozenset[str]:
        """What the rule has a word about: `DECAY`, and the keys of its options."""
        said = () if isinstance(self.decay, Unsaid) else (DECAY,)
        return frozenset((*said, *(key for key, _ in self.options)))

    def resolve(self, default: Decay | None) -> Decay | None:
        """The decay that a picked parameter gets when the plan's own is `default`."""
        if not isinstance(self.decay, (Times, Unsaid)):
            return self.decay
        if default is None or isinstance(self.decay, Unsaid) or self.decay == DEFAULT:
            return default
        return default.times(self.decay.multiplier) if self.decay.multiplier else None

    def __repr__(self) -> str:
        parts = [repr(self.selector), *([] if isinstance(self.decay, Unsaid) else [repr(self.decay)])]
        parts += ["optional=True"] if self.optional else []
        parts += [f"{key}={value!r}" for key, value in self.options]
        return f"rule({', '.join(parts)})"


def rule(selector: Any, decay: Any = UNSAID, *, optional: bool = False, **options: Any) -> Rule:
    """One rule of a plan: what a selector picks gets this decay, and these options in its parameter group.

    Decay and options are matched apart. The first matching rule that says a decay decides the decay, and for each
    option the first that names it; a rule with options alone says nothing about who decays.

    Args:
        selector: a pattern such as "head.*", a module class, `td.role(...)` and so on, combined with `&`, `|`, `~`.
        decay: a Decay, a number (the optimizer's own weight_decay), None or 0 (spared), `td.DEFAULT` (the plan's own
            decay), or `td.times(0.5)`. Left out beside options it is up to the other rules; left out alone it is
            `td.DEFAULT`.
        optional: whether the rule may match nothing; otherwise that is an error.
        options: any other key of the parameter group, lr or momentum say.

    Raises:
        PlanError: a selector or decay that is none of these.

    Example:
        >>> import torchdecay as td
        >>> td.rule("backbone.*", td.decoupled(0.01), lr=1e-4)
        rule("backbone.*", decoupled(0.01), lr=0.0001)
        >>> td.rule("backbone.*", lr=1e-4)
        rule("backbone.*", lr=0.0001)
    """
    check_options(options, "a rule")
    if isinstance(decay, Unsaid) and not options:
        decay = DEFAULT
    chosen = decay if isinstance(decay, (Times, Unsaid)) else as_decay(decay)
    return Rule(as_selector(selector), chosen, optional, tuple(sorted(options.items())))


def check_options(options: Mapping[str, Any], who: str) -> None:
    """Raise PlanError for an option that the plan decides itself."""
    taken = [key for key in RESERVED if key in options]
    if taken:
        raise PlanError(
            f"{who} cannot set {taken[0]} as an option: the plan decides it.",
            fix="Give the decay to td.plan(model, decay), and what differs as a rule: td.rule(selector, 0.1).",
        )


def as_rules(rules: Any) -> tuple[Rule, ...]:
    """Rules from an iterable of rules and `(selector, decay)` pairs."""
    if isinstance(rules, Rule):
        return (rules,)
    if isinstance(rules, str) or not isinstance(rules, Iterable):
        raise PlanError(
            f"rules is {rules!r}, of type {type(rules).__name__}.",
            fix='Give a list, rules=[td.rule("head.*", 0.1), *td.STANDARD], or a policy, rules=td.policies.timm.',
        )
    made = []
    for number, item in enumerate(rules, 1):
        if isinstance(item, Rule):
            made.append(item)
        elif isinstance(item, tuple) and len(item) == 2:
            made.append(rule(item[0], item[1]))
        else:
            raise PlanError(
                f"rule {number} is {item!r}.", fix="Write td.rule(selector, decay) or a pair (selector, decay)."
            )
    return tuple(made)
