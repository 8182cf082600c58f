"""What is known of optimizer classes without importing them, and the calls that make one."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.constants import UNKNOWN, constant, entry, items

Coupling = Literal["adaptive", "coupled", "decoupled", "none"]


@dataclass(frozen=True)
class Card:
    """An optimizer class.

    Attributes:
        name: of the class.
        default: its weight_decay where nobody says one.
        coupling: "adaptive": coupled L2 under an adaptive step size; "coupled", "decoupled"; "none": no weight_decay.
        position: of weight_decay among the arguments.
        keys: what a group may say; empty where that is not known.
    """

    name: str
    default: float
    coupling: Coupling
    position: int
    keys: frozenset[str] = frozenset()


_EVERY = "params param_names lr weight_decay foreach maximize differentiable capturable fused initial_lr name"
_ADAM = "betas eps amsgrad decoupled_weight_decay"
_TORCH = {
    # name: default, coupling, position, keys of its own
    "Adadelta": (0, "adaptive", 4, "rho eps"),
    "Adafactor": (0, "decoupled", 5, "beta2_decay eps d"),
    "Adagrad": (0, "adaptive", 3, "lr_decay initial_accumulator_value eps"),
    "Adam": (0, "adaptive", 4, _ADAM),
    "Adamax": (0, "adaptive", 4, "betas eps"),
    "AdamW": (0.01, "decoupled", 4, _ADAM),
    "ASGD": (0, "coupled", 5, "lambd alpha t0"),
    "LBFGS": (0, "none", -1, ""),
    "Muon": (0.1, "decoupled", 2, "momentum nesterov ns_coefficients eps ns_steps adjust_lr_fn"),
    "NAdam": (0, "adaptive", 4, _ADAM + " momentum_decay"),
    "RAdam": (0, "adaptive", 4, _ADAM),
    "RMSprop": (0, "adaptive", 4, "alpha eps momentum centered"),
    "Rprop": (0, "none", -1, ""),
    "SGD": (0, "coupled", 4, "momentum dampening nesterov"),
    "SparseAdam": (0, "none", -1, ""),
}
TORCH = {
    name: Card(name, float(default), coupling, at, frozenset(f"{_EVERY} {keys}".split()))  # type: ignore[arg-type]
    for name, (default, coupling, at, keys) in _TORCH.items()
}
"""torch's own; a test reads the same off torch."""

_ANY = frozenset(f"{_EVERY} {_ADAM} momentum correct_bias".split())
_BITSANDBYTES = {
    f"{paged}{name}{bits}": Card(name, 0.01 if name == "AdamW" else 0.0, "decoupled", 4, _ANY)
    for name in ("Adam", "AdamW")
    for paged in ("", "Paged")
    for bits in ("", "8bit", "32bit")
}
_OTHERS = {
    "bitsandbytes.optim": _BITSANDBYTES,
    "transformers": {
        "AdamW": Card("AdamW", 0.0, "decoupled", 4, _ANY),
        "Adafactor": Card("Adafactor", 0.0, "decoupled", 7),
    },
    "lion_pytorch": {"Lion": Card("Lion", 0.0, "decoupled", 3, _ANY)},
    "apex.optimizers": {
        "FusedAdam": Card("FusedAdam", 0.0, "decoupled", 6),
        "FusedLAMB": Card("FusedLAMB", 0.01, "decoupled", 5),
        "FusedSGD": Card("FusedSGD", 0.0, "coupled", 4),
    },
    "deepspeed.ops.adam": {
        "FusedAdam": Card("FusedAdam", 0.0, "decoupled", 6),
        "DeepSpeedCPUAdam": Card("DeepSpeedCPUAdam", 0.0, "decoupled", 5),
    },
    "muon": {"Muon": Card("Muon", 0.0, "decoupled", 2)},
}


def card(dotted: str) -> Card | None:
    """The class of this full name; `torch.optim.adamw.AdamW` and `torch.optim.AdamW` are one."""
    home, _, name = dotted.rpartition(".")
    if home == "torch.optim" or home.startswith("torch.optim."):
        return TORCH.get(name)
    for library, cards in _OTHERS.items():
        if home == library or home.startswith(library + "."):
            return cards.get(name)
    return None


@dataclass(frozen=True, eq=False)
class Made:
    """A call that makes an optimizer.

    Attributes:
        call: it.
        card: of the class.
        params: what it gets.
        options: the keyword arguments that are visible.
        is_open: whether there may be others, which can't be read.
    """

    call: ast.Call
    card: Card
    params: ast.expr | None
    options: dict[str, ast.expr]
    is_open: bool

    def coupling(self, code: Code) -> Coupling:
        """What its weight_decay means, with the switches that Adams of torch, apex and DeepSpeed have for it."""
        if constant(code, self.options.get("decoupled_weight_decay")) is True:
            return "decoupled"
        is_coupled = any(constant(code, self.options.get(name)) is False for name in ("adam_w_mode", "adamw_mode"))
        return "adaptive" if is_coupled else self.card.coupling

    def decay(self, code: Code) -> Any:
        """The weight_decay that it is given, or that its class has; UNKNOWN where that can't be told."""
        if "weight_decay" in self.options:
            return constant(code, self.options["weight_decay"])
        if self.card.coupling == "none":
            return 0.0
        return UNKNOWN if self.is_open else self.card.default

    def number(self, code: Code) -> float | None:
        """The same where it is a number."""
        found = self.decay(code)
        return float(found) if isinstance(found, int | float) else None

    def spoken_decay(self, code: Code) -> str:
        """The same for a message."""
        value = self.decay(code)
        return f"weight_decay={value:g}" + ("" if "weight_decay" in self.options else ", its default")


@functools.lru_cache(maxsize=8)
def optimizers_made(code: Code) -> tuple[Made, ...]:
    """Every call in a file that makes an optimizer of a known class."""
    return tuple(filter(None, (_made(code, call) for call in code.all(ast.Call))))


def _made(code: Code, call: ast.Call) -> Made | None:
    function, given = call.func, [*call.keywords]
    behind = code.value(function)
    if isinstance(behind, ast.Call) and code.dotted(behind.func) in ("functools.partial", "partial") and behind.args:
        function, given = behind.args[0], [*behind.keywords, *given]
    chosen = entry(code, function) if isinstance(function, ast.Subscript) else None
    found = card(code.dotted(chosen or function))
    if found is None:
        return None
    options, is_open = {}, any(isinstance(one, ast.Starred) for one in call.args)
    for one in given:
        if one.arg:
            options[one.arg] = one.value
        else:
            changes = ast.unparse(one.value) in code.changed
            inner = {} if changes else items(code, code.value(one.value))
            options |= inner
            is_open = is_open or not inner
    if found.coupling != "none" and len(call.args) > found.position and not is_open:
        options["weight_decay"] = call.args[found.position]
    params = options.pop("params", None) or (call.args[0] if call.args else None)
    return Made(call, found, params, options, is_open)


def assigned_to(code: Code, call: ast.Call) -> Iterator[str]:
    """The names, dotted ones too, to which a call's value is assigned."""
    up = code.parents.get(call)
    for target in up.targets if isinstance(up, ast.Assign) else [up.target] if isinstance(up, ast.AnnAssign) else ():
        if isinstance(target, ast.Name | ast.Attribute):
            yield ast.unparse(target)
