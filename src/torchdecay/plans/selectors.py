"""Who: selectors as values. Each says whether it picks a `Parameter`, and combines with `&`, `|` and `~`."""

from __future__ import annotations

import difflib
import fnmatch
import re
import types
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, TypeVar

from torchdecay.arguments import check_count, check_number
from torchdecay.errors import PlanError
from torchdecay.plans.parameters import KINDS, ROLES, WEIGHTS, Parameter
from torchdecay.text import listed, nearest, repr_quoted, spelled

A = TypeVar("A")


def kind_of(parameter: Parameter) -> Hashable:
    """What many parameters share: role, kind, evidence, classes, number of dimensions, exemption."""
    one = parameter
    return one.role, one.kind, one.evidence, one.classes, len(one.shape), one.exempt


def once_for_each_kind(ask: Callable[[Parameter], A], selectors: Iterable[Selector]) -> Callable[[Parameter], A]:
    """A question about parameters, asked once about all that none of the selectors can tell apart."""
    known: dict[Hashable, A] = {}

    def answer(parameter: Parameter) -> A:
        kind = kind_of(parameter)
        if kind not in known:
            known[kind] = ask(parameter)
        return known[kind]

    return answer if all(one.of_kinds for one in selectors) else ask


class Selector:
    """Picks parameters. Combine with `&` (both), `|` (either) and `~` (not).

    Example:
        >>> import torchdecay as td
        >>> td.ndim(2) & ~td.role("embedding")
        (ndim(2) & ~role("embedding"))
    """

    of_kinds: bool = False
    """Whether it looks at nothing but what many parameters share (`kind_of`), and is asked about them together."""

    def picks(self, parameter: Parameter) -> bool:
        raise NotImplementedError

    def why(self, parameter: Parameter) -> str:
        """Why a parameter that was picked was picked, for `plan.explain`."""
        return repr(self)

    def check(self, parameters: Sequence[Parameter], *, optional: bool) -> None:
        """Raise PlanError for what can't be right for this model, whatever the other rules are.

        `optional` says that the rule may match nothing.
        """

    def hint(self, parameters: Sequence[Parameter]) -> str:
        """What may have been meant, when nothing was picked."""
        return ""

    def __and__(self, other: object) -> Selector:
        return Both((self, as_selector(other)))

    def __rand__(self, other: object) -> Selector:
        return Both((as_selector(other), self))

    def __or__(self, other: object) -> Selector:
        return Either((self, as_selector(other)))

    def __ror__(self, other: object) -> Selector:
        return Either((as_selector(other), self))

    def __invert__(self) -> Selector:
        return Not((self,))

    def __bool__(self) -> NoReturn:
        raise PlanError(
            f"{self!r} is neither true nor false by itself.",
            "Python's and, or and not ask for that, and would drop half of what was meant.",
            "Write &, | and ~.",
        )


@dataclass(frozen=True, repr=False)
class _Combined(Selector):
    parts: tuple[Selector, ...]

    @property
    def of_kinds(self) -> bool:  # type: ignore[override]
        return all(part.of_kinds for part in self.parts)

    def check(self, parameters: Sequence[Parameter], *, optional: bool) -> None:
        for part in self.parts:
            part.check(parameters, optional=optional)

    def hint(self, parameters: Sequence[Parameter]) -> str:
        idle = (part for part in self.parts if not any(map(part.picks, parameters)))
        return " ".join(dict.fromkeys(filter(None, (part.hint(parameters) for part in idle))))


class Both(_Combined):
    def picks(self, parameter: Parameter) -> bool:
        return all(part.picks(parameter) for part in self.parts)

    def why(self, parameter: Parameter) -> str:
        return " and ".join(part.why(parameter) for part in self.parts)

    def __repr__(self) -> str:
        return f"({' & '.join(map(repr, self.parts))})"


class Either(_Combined):
    def picks(self, parameter: Parameter) -> bool:
        return any(part.picks(parameter) for part in self.parts)

    def why(self, parameter: Parameter) -> str:
        return next(part.why(parameter) for part in self.parts if part.picks(parameter))

    def __repr__(self) -> str:
        return f"({' | '.join(map(repr, self.parts))})"


class Not(_Combined):
    def picks(self, parameter: Parameter) -> bool:
        return not self.parts[0].picks(parameter)

    def __repr__(self) -> str:
        return f"~{self.parts[0]!r}"


@dataclass(frozen=True)
class Glob(Selector):
    """Any of a parameter's canonical names matches a shell pattern: `*`, `?`, `[ab]`; case counts unless told."""

    pattern: str
    any_case: bool = False

    @cached_property
    def _matches(self) -> re.Pattern[str]:
        return re.compile(fnmatch.translate(self.pattern), re.IGNORECASE if self.any_case else 0)

    def picks(self, parameter: Parameter) -> bool:
        return any(self._matches.match(name) for name in parameter.names)

    def hint(self, parameters: Sequence[Parameter]) -> str:
        """The names that look most like the pattern, part by part: a `*` stands for whatever is there."""
        said = _without_indices(self.pattern.strip("*").strip("."))
        first = -len(said) if self.pattern.startswith("*") else 0
        last = None if first or not self.pattern.endswith("*") else len(said)
        alike: dict[str, list[str]] = {}
        for name in (name for parameter in parameters for name in parameter.names):
            alike.setdefault(".".join(_without_indices(name)[first:last]), []).append(name)
        closest = difflib.get_close_matches(".".join(said), alike, n=1)
        return f"Nearest: {listed(alike[closest[0]], most=1)}." if closest else ""

    def __repr__(self) -> str:
        return repr_quoted(self.pattern) + (" in any case" if self.any_case else "")


@dataclass(frozen=True)
class OfClass(Selector):
    """The module that owns the parameter is of a class, or of a class derived from it."""

    qualname: str
    of_kinds = True

    def picks(self, parameter: Parameter) -> bool:
        return self.qualname in parameter.classes

    def hint(self, parameters: Sequence[Parameter]) -> str:
        owners = dict.fromkeys(one.classes[0].rpartition(".")[2] for one in parameters if one.classes)
        return f"Modules with parameters here: {', '.join(owners)}." if owners else ""

    def __repr__(self) -> str:
        return self.qualname.rpartition(".")[2]


@dataclass(frozen=True)
class OfClassNamed(Selector):
    """The class of the module that owns the parameter has one of these texts in its name."""

    parts: tuple[str, ...]
    of_kinds = True

    def picks(self, parameter: Parameter) -> bool:
        owner = parameter.classes[0].rpartition(".")[2] if parameter.classes else ""
        return any(part in owner for part in self.parts)

    def __repr__(self) -> str:
        return f"a class named {' or '.join(self.parts)}"


@dataclass(frozen=True)
class OfRole(Selector):
    roles: tuple[str, ...]
    of_kinds = True

    def picks(self, parameter: Parameter) -> bool:
        return parameter.role in self.roles or parameter.kind in self.roles

    def why(self, parameter: Parameter) -> str:
        evidence = f" ({parameter.evidence[0]})" if parameter.evidence else ""
        return f"role {parameter.role}{evidence}"

    def hint(self, parameters: Sequence[Parameter]) -> str:
        return f"Roles here: {', '.join(dict.fromkeys(one.role for one in parameters))}."

    def __repr__(self) -> str:
        return f"role({', '.join(map(repr_quoted, self.roles))})"


@dataclass(frozen=True)
class Named(Selector):
    exact: tuple[str, ...]

    def picks(self, parameter: Parameter) -> bool:
        return any(name in self.exact for name in parameter.names)

    def check(self, parameters: Sequence[Parameter], *, optional: bool) -> None:
        known = {name for parameter in parameters for name in parameter.names}
        missing = [name for name in self.exact if name not in known]
        if missing and not optional:
            raise PlanError(
                f"names() lists {listed(missing)}, which the model does not have.",
                f"A name that selects nothing is almost always a typo. {nearest(missing[0], known)}".strip(),
                "Correct the name, or give optional=True to the rule.",
            )

    def __repr__(self) -> str:
        return f"names({', '.join(map(repr_quoted, self.exact))})"


@dataclass(frozen=True)
class OfNdim(Selector):
    counts: tuple[int, ...]
    of_kinds = True

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
        return parameter.role in WEIGHTS and parameter.radial is not None and parameter.radial < self.tolerance

    def why(self, parameter: Parameter) -> str:
        return f"scale-invariant: |⟨w, g⟩|/(‖w‖‖g‖) = {parameter.radial:.1e} < {spelled(self.tolerance)}"

    def check(self, parameters: Sequence[Parameter], *, optional: bool) -> None:
        if all(parameter.radial is None for parameter in parameters):
            raise PlanError(
                "scale_invariant() found no gradient on any parameter.",
                "It is measured: a weight followed by a norm has a gradient at right angles to itself.",
                "Run one forward and backward pass on real data before td.plan(model, ...).",
            )

    def __repr__(self) -> str:
        return f"scale_invariant(tolerance={spelled(self.tolerance)})"


@dataclass(frozen=True)
class Exempt(Selector):
    """The model itself asks for no decay: no_weight_decay(), its keywords, or a tag on the parameter."""

    of_kinds = True

    def picks(self, parameter: Parameter) -> bool:
        return bool(parameter.exempt)

    def why(self, parameter: Parameter) -> str:
        return f"the model asks for no decay: {parameter.exempt}"

    def __repr__(self) -> str:
        return "exempt()"


def role(*roles: str) -> Selector:
    """Picks parameters by role or kind.

    Args:
        roles: roles ("weight", "router", "gate", "bias", "norm", "scale", "embedding", "position", "token",
            "state_space", "scalar", "unknown") or kinds of weight ("matrix", "kernel", "recurrent", "expert",
            "adapter"). A "router" sends tokens to experts, a "gate" computes what is let through: weights too, which
            "weight" does not pick.

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
    """Picks parameters by exact name, any of a tied weight's names; each must be there, unless the rule is optional.

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
    if not counts:
        raise PlanError("ndim() got no number.", fix="Write td.ndim(0, 1).")
    return OfNdim(tuple(check_count(count, "ndim", minimum=0, error=PlanError) for count in counts))


def scale_invariant(*, tolerance: float = 1e-4) -> Selector:
    r"""Picks weights whose length does not change the function, because a norm follows; measured, not guessed.

    $$\frac{|\langle w, g\rangle|}{\lVert w\rVert\,\lVert g\rVert} < \text{tolerance}$$

    g is the gradient that is there when the plan is made: run one backward pass before. Weights with a norm behind
    them gave at most 2e-5, others about 0.2. Of weights that are cut over processes the whole is measured, so all
    processes have to make the plan.

    Args:
        tolerance: above 0.

    Raises:
        DecayError: a tolerance that is not a number above 0.
        PlanError: (when the plan is made) no parameter has a gradient.

    Reference: Rotational Equilibrium: How Weight Decay Balances Learning Across Neural Networks, arXiv 2305.17212.
    """
    return ScaleInvariant(check_number(tolerance, "scale_invariant tolerance", open_minimum=True))


def exempt() -> Selector:
    """Picks what the model itself wants spared: `no_weight_decay()`, `no_weight_decay_keywords()`, parameter tags."""
    return Exempt()


def as_selector(value: Any) -> Selector:
    """A Selector as it is, a string as a glob, a module class (or a union of some) as `OfClass`."""
    if isinstance(value, Selector):
        return value
    if isinstance(value, str) and value:
        return Glob(value)
    if isinstance(value, type):
        return OfClass(f"{value.__module__}.{value.__qualname__}")
    if isinstance(value, types.UnionType):
        return Either(tuple(map(as_selector, value.__args__)))
    raise PlanError(
        f"{value!r} of type {type(value).__name__} is not a selector.",
        'A selector is a pattern such as "head.*", a module class, or one of td.role, td.names, td.ndim, '
        "td.scale_invariant, combined with &, | and ~.",
    )


def as_selectors(value: Any) -> list[Selector]:
    """One selector, or each of several."""
    alone = isinstance(value, (str, type, Selector)) or not hasattr(value, "__iter__")
    return list(map(as_selector, [value] if alone else value))


def _without_indices(name: str) -> list[str]:
    return ["*" if part.isdigit() else part for part in name.split(".")]
