"""Loops that sort parameters into lists, and in which of them one ends whose name or dimensions are known."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from torchdecay.integrations.lint.code import COMPREHENSIONS, Code, names_in
from torchdecay.integrations.lint.layers import Kind, kinds
from torchdecay.integrations.lint.outcomes import Outcome, Passage
from torchdecay.integrations.lint.parameters import Loop, parameter_loops, reaching

_KEEPS = re.compile(r"\.(append|add|extend|insert|update)\(|\+= |\] = |^\S+ = ")
"""Statements that may keep a parameter."""
MATRIX, BIAS = Kind("?.weight", 2), Kind("?.bias", 1, "bias")
"""What a layer of any model has, whatever it is called."""


@dataclass(frozen=True, eq=False)
class Sort:
    """Loops of one function that together sort the parameters of a model.

    Attributes:
        node: the first test.
        loops: one `for`, or comprehensions beside each other.
        is_whole: whether no other loop over the same model takes what these leave.
    """

    code: Code
    node: ast.expr
    loops: tuple[Loop, ...]
    is_whole: bool

    @property
    def model(self) -> str:
        """Its text."""
        return ast.unparse(self.loops[0].model)

    @property
    def is_loop(self) -> bool:
        """Whether it is one `for`."""
        return not isinstance(self.loops[0].node, ast.comprehension)

    def outcome(self, kind: Kind) -> Outcome | None:
        """What becomes of a parameter; None where that can't be told."""
        each = [Passage(self.code, one, kind).outcome() for one in self.loops]
        if any(one is None for one in each):
            return None
        return tuple(
            text if self.is_loop else f"list {n} += {text}" for n, one in enumerate(each) for text in one or ()
        )

    def matrix(self) -> Kind | None:
        """A matrix that ends in some list: of any model, else of this file."""
        built = (one for one in kinds(self.code) if one.part == "matrix")
        return next((one for one in (MATRIX, *built) if self.is_kept(one)), None)

    def is_kept(self, kind: Kind) -> bool | None:
        """Whether a parameter ends in any list; None where that can't be told."""
        found = self.outcome(kind)
        return None if found is None else any(_KEEPS.search(one) for one in found)


@functools.lru_cache(maxsize=8)
def sorts(code: Code) -> tuple[Sort, ...]:
    """All that sort parameters which reach an optimizer."""
    return tuple(_sorts(code))


def _sorts(code: Code) -> Iterator[Sort]:
    reached, every = reaching(code), list(parameter_loops(code))
    families: dict[tuple[ast.AST, str], list[Loop]] = {}
    for loop in every:
        if isinstance(code.parents[loop.node], ast.DictComp) and not _tests(code.parents[loop.node]):
            # Names and parameters of all that is trained, for other loops to go through.
            continue
        families.setdefault((code.function_of(loop.node), ast.unparse(loop.model)), []).append(loop)
    for family in families.values():
        made = [one for one in family if isinstance(one.node, ast.comprehension)]
        taken = [one for one in made if code.parents[one.node] in reached and not _is_generator_of_text(code, one)]
        tests = [test for one in taken for test in _tests(code.parents[one.node])]
        if tests:
            tested = all(_tests(code.parents[one.node]) for one in taken)
            yield Sort(code, tests[0], tuple(taken), len(family) == len(taken) > 1 and tested)
        loops = [one for one in family if one not in made]
        for loop in loops:
            tests = [one.test for one in ast.walk(loop.node) if isinstance(one, ast.If) and one.test in reached]
            tests += [one.test for one in ast.walk(loop.node) if isinstance(one, ast.IfExp) and one in reached]
            if tests:
                yield Sort(code, tests[0], (loop,), len(loops) == 1 and not taken)


def _is_generator_of_text(code: Code, loop: Loop) -> bool:
    """Whether a comprehension only names parameters."""
    made = code.parents[loop.node]
    return not isinstance(made, ast.DictComp) and loop.parameter not in names_in(getattr(made, "elt", None))


def _tests(made: ast.AST) -> list[ast.expr]:
    """What a comprehension asks, other than whether something is trained."""
    asked = [one for part in made.generators for one in part.ifs] if isinstance(made, COMPREHENSIONS) else []
    chosen = [one.test for one in ast.walk(made) if isinstance(one, ast.IfExp)]
    return [one for one in (*asked, *chosen) if not ast.unparse(one).endswith("requires_grad")]
