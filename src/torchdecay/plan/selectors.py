"""Who: selectors as values. Each says whether it picks a `Parameter`, and combines with `&`, `|` and `~`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torchdecay.errors import PlanError, listed, nearest, repr_quoted
from torchdecay.plan.parameters import KINDS, ROLES, Parameter


class Selector:
    """Picks parameters. Combine with `&` (both), `|` (either) and `~` (not).

    Example:
        >>> import torchdecay as td
        >>> td.ndim(2) & ~td.role("embedding")
        (ndim(2) & ~role("embedding"))
    """

    def picks(self, parameter: Parameter) -> bool:
        raise NotImplementedError

    def why(self, parameter: Parameter) -> str:
        """Why a parameter that was picked was picked, for `plan.explain`."""
        return repr(self)

    def check(self, parameters: Iterable[Parameter]) -> None:
        """Raise PlanError for what can't be right for this model, whatever the other rules are."""

    def __and__(self, other: object) -> Selector:
        return Both(self, as_selector(other))

    def __or__(self, other: object) -> Selector:
        return Either(self, as_selector(other))

    def __invert__(self) -> Selector:
        return Not(self)


@dataclass(frozen=True)
class Both(Selector):
    left: Selector
    right: Selector

    def picks(self, parameter: Parameter) -> bool:
        return self.left.picks(parameter) and self.right.picks(parameter)

    def why(self, parameter: Parameter) -> str:
        return f"{self.left.why(parameter)} and {self.right.why(parameter)}"

    def check(self, parameters: Iterable[Parameter]) -> None:
        self.left.check(parameters)
        self.right.check(parameters)

    def __repr__(self) -> str:
        return f"({self.left!r} & {self.right!r})"


@dataclass(frozen=True)
class Either(Selector):
    left: Selector
    right: Selector

    def picks(self, parameter: Parameter) -> bool:
        return self.left.picks(parameter) or self.right.picks(parameter)

    def why(self, parameter: Parameter) -> str:
        return (self.left if self.left.picks(parameter) else self.right).why(parameter)

    def check(self, parameters: Iterable[Parameter]) -> None:
        self.left.check(parameters)
        self.right.check(parameters)

    def __repr__(self) -> str:
        return f"({self.left!r} | {self.right!r})"


@dataclass(frozen=True)
class Not(Selector):
    inner: Selector

    def picks(self, parameter: Parameter) -> bool:
        return not self.inner.picks(parameter)

    def check(self, parameters: Iterable[Parameter]) -> None:
        self.inner.check(parameters)

    def __repr__(self) -> str:
        return f"~{self.inner!r}"


@dataclass(frozen=True)
class Glob(Selector):
    """Any of a parameter's canonical names matches a shell pattern: `*`, `?`, `[ab]`; case counts."""

    pattern: str

    @cached_property
    def _matches(self) -> re.Pattern[str]:
        return re.compile(fnmatch.translate(self.pattern))

    def picks(self, parameter: Parameter) -> bool:
        return any(self._matches.match(name) for name in parameter.names)

    def __repr__(self) -> str:
        return repr_quoted(self.pattern)


@dataclass(frozen=True)
class OfClass(Selector):
    """The module that owns the parameter is of a class, or of a class derived from it."""

    qualname: str

    def picks(self, parameter: Parameter) -> bool:
        return self.qualname in parameter.classes

    def __repr__(self) -> str:
        return self.qualname.rpartition(".")[2]


@dataclass(frozen=True)
class OfRole(Selector):
    roles: tuple[str, ...]

    def picks(self, parameter: Parameter) -> bool:
        return parameter.role in self.roles or parameter.kind in self.roles

    def why(self, parameter: Parameter) -> str:
        evidence = f" ({parameter.evidence[0]})" if parameter.evidence else ""
        return f"role {parameter.role}{evidence}"

    def __repr__(self) -> str:
        return f"role({', '.join(map(repr_quoted, self.roles))})"


@dataclass(frozen=True)
class Named(Selector):
    exact: tuple[str, ...]

    def picks(self, parameter: Parameter) -> bool:
        return any(name in self.exact for name in parameter.names)

    def check(self, parameters: Iterable[Parameter]) -> None:
        known = {name for parameter in parameters for name in parameter.names}
        missing = [name for name in self.exact if name not in known]
        if missing:
            raise PlanError(
                f"names() lists {listed(missing)}, which the model does not have.",
                "A name that selects nothing is almost always a typo.",
                nearest(missing[0], known),
            )

    def __repr__(self) -> str:
        return f"names({', '.join(map(repr_quoted, self.exact))})"


@dataclass(frozen=True)
class OfNdim(Selector):
    counts: tuple[int, ...]

    def picks(self, parameter: Parameter) -> bool:
        return len(parameter.shape) in self.counts

    def why(self, parameter: Parameter) -> str:
        return f"{len(parameter.shape)}-D"

    def __repr__(self) -> str:
        return f"ndim({', '.join(map(str, self.counts))})"


@dataclass(frozen=True)
class ScaleInvariant(Selector):
    tolerance: float

    def picks(self, parameter: Parameter) -> bool:
        return (
            parameter.role == "weight" and parameter.radial is not None and parameter.radial < self.tolerance
        )

    def why(self, parameter: Parameter) -> str:
        return f"scale-invariant: |⟨w, g⟩|/(‖w‖‖g‖) = {parameter.radial:.1e} < {self.tolerance:g}"

    def check(self, parameters: Iterable[Parameter]) -> None:
        if all(parameter.radial is None for parameter in parameters):
            raise PlanError(
                "scale_invariant() found no gradient on any parameter.",
                "It is measured: a weight followed by a norm has a gradient at right angles to itself.",
                "Run one forward and backward pass on real data before td.plan(model, ...).",
            )

    def __repr__(self) -> str:
        return f"scale_invariant(tolerance={self.tolerance:g})"


@dataclass(frozen=True)
class Exempt(Selector):
    """The model itself asks for no decay: no_weight_decay(), its keywords, or a tag on the parameter."""

    def picks(self, parameter: Parameter) -> bool:
        return bool(parameter.exempt)

    def why(self, parameter: Parameter) -> str:
        return f"the model asks for no decay: {parameter.exempt}"

    def __repr__(self) -> str:
        return "exempt()"


def role(*roles: str) -> Selector:
    """Picks parameters by role or kind.

    Args:
        roles: roles ("weight", "bias", "norm", "scale", "embedding", "position", "token", "state_space", "scalar",
            "unknown") or kinds of weight ("matrix", "kernel", "recurrent", "expert", "adapter").

    Raises:
        PlanError: an unknown role.

    Example:
        >>> import torchdecay as td
        >>> td.role("bias", "norm")
        role("bias", "norm")
    """
    for name in roles:
        if name not in ROLES + KINDS:
            raise PlanError(
                f"unknown role {name!r}.",
                f"Roles: {', '.join(ROLES)}. Kinds of weight: {', '.join(KINDS)}.",
                nearest(str(name), ROLES + KINDS),
            )
    if not roles:
        raise PlanError("role() got no role.", fix='Write td.role("bias").')
    return OfRole(roles)


def names(*exact: str) -> Selector:
    """Picks parameters by exact name, any of a tied weight's names; a name that the model lacks is an error.

    Example:
        >>> import torchdecay as td
        >>> td.names("head.weight")
        names("head.weight")
    """
    if not exact or not all(isinstance(name, str) for name in exact):
        raise PlanError(f"names() got {exact!r}.", fix='Give one or more names: td.names("head.weight").')
    return Named(exact)


def ndim(*counts: int) -> Selector:
    """Picks parameters by number of dimensions: `ndim(0, 1)` is what most snippets spare.

    Example:
        >>> import torchdecay as td
        >>> td.ndim(0, 1)
        ndim(0, 1)
    """
    if not counts or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise PlanError(f"ndim() got {counts!r}.", fix="Give whole numbers, at least 0: td.ndim(0, 1).")
    return OfNdim(counts)


def scale_invariant(*, tolerance: float = 1e-4) -> Selector:
    r"""Picks weights whose length does not change the function, because a norm follows; measured, not guessed.

    $$\frac{|\langle w, g\rangle|}{\lVert w\rVert\,\lVert g\rVert} < \text{tolerance}$$

    g is the gradient that is there when the plan is made: run one backward pass before. Weights with a norm behind
    them gave at most 2e-5, others about 0.2.

    Args:
        tolerance: above 0.

    Raises:
        PlanError: (when the plan is made) no parameter has a gradient.

    Reference: Rotational Equilibrium: How Weight Decay Balances Learning Across Neural Networks, arXiv 2305.17212.
    """
    return ScaleInvariant(tolerance)


def exempt() -> Selector:
    """Picks what the model itself wants spared: `no_weight_decay()`, `no_weight_decay_keywords()`, parameter tags."""
    return Exempt()


def as_selector(value: Any) -> Selector:
    """A Selector as it is, a string as a glob, a module class as `OfClass`.

    Raises:
        PlanError: for anything else.
    """
    if isinstance(value, Selector):
        return value
    if isinstance(value, str) and value:
        return Glob(value)
    if isinstance(value, type):
        return OfClass(f"{value.__module__}.{value.__qualname__}")
    raise PlanError(
        f"{value!r} of type {type(value).__name__} is not a selector.",
        'A selector is a pattern such as "head.*", a module class, or one of td.role, td.names, td.ndim, '
        "td.scale_invariant, combined with &, | and ~.",
    )
