"""What is known of a value in the source of a module while it is read: whether parameters alone make it, and which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

NONE: frozenset[str] = frozenset()


class Value(NamedTuple):
    """One value of an expression.

    Attributes:
        raw: the attributes of self that it is a function of, where nothing else but constants entered.
        squashed: those of them that entered through softmax, exp and their like only.
        foreign: whether something else entered: an input, what a layer returned.
        path: the attribute that it is, untouched; "" for what was computed.
        trailing: how many axes of size one stand behind the axes of the attribute; None where that is not known.
        products: what was multiplied into it elementwise: attribute and its trailing axes; a sum over an axis of the
            attribute makes a dot product of that.
        items: the items of a tuple or list, where their number is known.
        target: what a call of it runs: a function, a class, a module, a lambda with its frame.
    """

    raw: frozenset[str] = NONE
    squashed: frozenset[str] = NONE
    foreign: bool = False
    path: str = ""
    trailing: int | None = 0
    products: frozenset[tuple[str, int | None]] = frozenset()
    items: tuple[Value, ...] | None = None
    target: Any = None

    @property
    def own(self) -> frozenset[str]:
        """The attributes of self that it is a function of, and of nothing else."""
        return self.raw | self.squashed


CONSTANT = Value()
FOREIGN = Value(foreign=True)


def attribute(path: str) -> Value:
    """An attribute of self."""
    return Value(raw=frozenset((path,)), path=path)


def mixed(values: Iterable[Value], products: frozenset[tuple[str, int | None]] = frozenset()) -> Value:
    """A function of several values."""
    raw, squashed = NONE, NONE
    foreign = bool(products)
    for one in values:
        raw, squashed, foreign = raw | one.raw, squashed | one.squashed, foreign or one.foreign
    if foreign:
        return FOREIGN._replace(products=products) if products else FOREIGN
    return Value(raw, squashed - raw, trailing=None) if raw or squashed else CONSTANT


def either(values: Iterable[Value]) -> Value:
    """One of several values: of parameters, if one of them is."""
    several = list(values)
    if len(several) == 1:
        return several[0]
    made = mixed([one for one in several if not one.foreign])
    products = frozenset().union(*(one.products for one in several))
    if not made.own and any(one.foreign for one in several):
        made = FOREIGN
    trailing = {one.trailing for one in several if one.own}
    paths = {one.path for one in several}
    return made._replace(
        products=products,
        trailing=trailing.pop() if len(trailing) == 1 else None,
        path=paths.pop() if len(paths) == 1 else "",
        target=next((one.target for one in several if one.target is not None), None),
    )


def together(items: Iterable[Value]) -> Value:
    """A tuple or list of several values."""
    several = tuple(items)
    return mixed(several)._replace(items=several)


def side_by_side(several: Sequence[Value]) -> list[tuple[Value, ...]] | None:
    """The first items of several tuples or lists, the second ones and so on; None where their numbers differ."""
    items = [one.items for one in several if one.items is not None]
    alike = len(items) == len(several) and len(set(map(len, items))) == 1
    return list(zip(*items, strict=True)) if alike else None


def squashed(value: Value) -> Value:
    """The value behind softmax, exp and their like."""
    return value if value.foreign else Value(NONE, value.own, trailing=value.trailing)


def viewed(value: Value, trailing: int | None) -> Value:
    """The same numbers in another shape."""
    return value._replace(path="", trailing=trailing, items=None, target=None)
