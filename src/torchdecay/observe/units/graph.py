"""Every unit in which decay is said: its equation, what it needs, and the way to a common one."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torchdecay.observe.fractions import fraction_of_half_life, half_life, timescale
from torchdecay.observe.units.context import LOSSES, Context


class Node(enum.Enum):
    """What a unit is converted through; each edge between them needs something of its own."""

    COUPLED = "λ of ½λΣw² in the loss"
    DECOUPLED = "λ of w ← w − lr·λ·w"
    FRACTION = "the fraction of each weight that a step removes"
    L1 = "λ of λΣ|w| in the loss"
    PAIR = "(l1, l2) of l1·Σ|w| + ½·l2·Σw² in the loss"


class L1L2(NamedTuple):
    """An elastic net as `td.elastic_net` takes it: l1·Σ|w| + ½·l2·Σw², so that l2 is a weight_decay."""

    l1: float
    l2: float


class Net(NamedTuple):
    """An elastic net as scikit-learn's ElasticNet takes it."""

    alpha: float
    l1_ratio: float


Value = Any
"""A number, or a pair for the units of node PAIR."""


@dataclass(frozen=True)
class Unit:
    """One way to say how hard.

    Attributes:
        name: what `convert` calls it.
        node: what it is converted through.
        equation: what it means.
        needs: the context by which it is converted to its node.
        to_node: value and context → the node's number.
        from_node: the inverse.
        is_time: whether more of it is less decay, so that 0 is refused and ∞ is not.
        losses: which `loss` it stands beside; empty where it asks for none.
        pair: the type of its value, where that is two numbers.
    """

    name: str
    node: Node
    equation: str
    needs: tuple[str, ...]
    to_node: Callable[[Value, Context], Value]
    from_node: Callable[[Value, Context], Value]
    is_time: bool = False
    losses: tuple[str, ...] = ()
    pair: type[Any] | None = None


def _times(
    name: str, node: Node, equation: str, *needs: str, factor: Callable[[Context], float], losses: Any = ()
) -> Unit:
    """A unit whose node is `factor` times as large."""
    return Unit(
        name, node, equation, needs, lambda v, c: v * factor(c), lambda v, c: v / factor(c), losses=tuple(losses)
    )  # fmt: skip


def _same(name: str, node: Node, equation: str) -> Unit:
    return Unit(name, node, equation, (), lambda v, c: v, lambda v, c: v)


def _time(name: str, equation: str, need: str, *, halves: bool) -> Unit:
    """A half-life or time scale, counted in so many steps, or by the tokens of a step."""

    def steps(c: Context) -> float:
        counted = float(c[need]) if need else 1.0
        return 1.0 / counted if need == "tokens_per_step" else counted

    return Unit(
        name,
        Node.FRACTION,
        equation,
        (need,) if need else (),
        lambda v, c: fraction_of_half_life(v * steps(c)) if halves else 1.0 / (v * steps(c)),
        lambda v, c: (half_life(v) if halves else timescale(v)) / steps(c),
        is_time=True,
    )


def _k(c: Context) -> float:
    return LOSSES[c["loss"]]


_REGRESSION = ("half_mse", "mse")
_ANY = tuple(LOSSES)

_ALL = (
    _same("coupled", Node.COUPLED, "g ← g + λw: weight_decay of torch's SGD and Adam"),
    _same("half_penalty", Node.COUPLED, "loss + λ/2·Σw²: td.penalized(λ)"),
    _times("penalty", Node.COUPLED, "loss + λ·Σw²: td.penalty(l2=λ)", factor=lambda c: 2.0),
    _times("textbook", Node.COUPLED, "loss + λ/(2m)·Σw² over m rows", "num_samples",
           factor=lambda c: 1.0 / c["num_samples"]),
    _times("keras_l2", Node.COUPLED, "loss + λ·Σw²: keras.regularizers.L2(λ)", factor=lambda c: 2.0),
    _times("ridge_alpha", Node.COUPLED, "Σr² + α·Σw²: scikit-learn's Ridge(α)", "num_samples", "loss",
           factor=lambda c: _k(c) / c["num_samples"], losses=_REGRESSION),
    _times("sgd_alpha", Node.COUPLED, "mean loss + α/2·Σw²: scikit-learn's SGDRegressor, SGDClassifier(alpha=α)",
           "loss", factor=_k, losses=_ANY),
    _times("mlp_alpha", Node.COUPLED, "mean loss + α/(2b)·Σw², b rows a batch: scikit-learn's MLPClassifier(alpha=α)",
           "batch_size", "loss", factor=lambda c: _k(c) / c["batch_size"], losses=_ANY),
    Unit("logistic_c", Node.COUPLED, "C·Σ loss + ½Σw²: scikit-learn's LogisticRegression(C=C)", ("num_samples",),
         lambda v, c: 1.0 / (v * c["num_samples"]), lambda v, c: 1.0 / (v * c["num_samples"]) if v else math.inf,
         is_time=True),
    _same("decoupled", Node.DECOUPLED, "w ← w − lr·λ·w: weight_decay of torch's AdamW"),
    _same("keras_weight_decay", Node.DECOUPLED, "w ← w − lr·λ·w: weight_decay of Keras's optimizers"),
    _times("independent", Node.DECOUPLED, "w ← w − lr/max_lr·λ·w, along the schedule: optimi's decouple_lr, Composer",
           "max_lr", factor=lambda c: 1.0 / c["max_lr"]),
    _times("corrected", Node.DECOUPLED, "w ← w − lr²/max_lr·λ·w", "lr", "max_lr",
           factor=lambda c: c["lr"] / c["max_lr"]),
    _times("palm", Node.DECOUPLED, "w ← w − lr²·λ·w: NVIDIA's \"palm\"", "lr", factor=lambda c: c["lr"]),
    _same("per_step", Node.FRACTION, "w ← w − λw, whatever the schedule: NVIDIA's \"independent\""),
    _time("half_life", "steps until a weight without gradient is half of itself: −ln 2/ln(1 − f)", "", halves=True),
    _time("half_life_epochs", "the same in epochs", "steps_per_epoch", halves=True),
    _time("half_life_tokens", "the same in tokens", "tokens_per_step", halves=True),
    _time("timescale", "τ = 1/f: how many steps of updates the weights average", "", halves=False),
    _time("timescale_epochs", "the same in epochs", "steps_per_epoch", halves=False),
    _time("timescale_tokens", "the same in tokens", "tokens_per_step", halves=False),
    _time("timescale_runs", "the same as a share of the whole run", "steps", halves=False),
    _same("l1", Node.L1, "loss + λ·Σ|w|: td.l1(λ), td.penalty(l1=λ), keras.regularizers.L1(λ)"),
    _times("lasso_alpha", Node.L1, "Σr²/(2n) + α·Σ|w|: scikit-learn's Lasso(α)", "loss", factor=_k,
           losses=_REGRESSION),
    Unit("l1_l2", Node.PAIR, "loss + l1·Σ|w| + l2/2·Σw²: td.elastic_net(l1=, l2=)", (),
         lambda v, c: v, lambda v, c: v, pair=L1L2),
    Unit("elastic_net", Node.PAIR, "Σr²/(2n) + α·ρ·Σ|w| + α(1 − ρ)/2·Σw²: scikit-learn's ElasticNet(α, l1_ratio=ρ)",
         ("loss",), lambda v, c: L1L2(_k(c) * v[0] * v[1], _k(c) * v[0] * (1.0 - v[1])),
         lambda v, c: Net((v[0] + v[1]) / _k(c), v[0] / (v[0] + v[1]) if v[0] + v[1] else 0.0), losses=_REGRESSION,
         pair=Net),
)  # fmt: skip

UNITS: Mapping[str, Unit] = {unit.name: unit for unit in _ALL}
"""All but "native", which is coupled or decoupled as the optimizer has it."""
