"""What a group dictionary says: WD503."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from torchdecay.integrations.lint.code import Code
from torchdecay.integrations.lint.optimizers import TORCH, optimizers_made
from torchdecay.integrations.lint.parameters import groups, owner_of_group, reaching
from torchdecay.integrations.lint.rule import Edit, Hit, rule

_FOREIGN = {"wd", "decay", "weight_decay_rate", "l2", "l2_reg", "weight_decay_coefficient", "wdecay", "w_decay"}


@rule(
    "WD503",
    "error",
    "group key that is ignored",
    why="torch ignores keys of a group that it does not know, misspelled ones too, and its default applies.",
    fix='Write "weight_decay".',
    example="""
        from torch.optim import AdamW

        groups = [{"params": decay, "weigth_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        optimizer = AdamW(groups, lr=1e-3)
    """,
    mends={"weigth_decay": "weight_decay"},
)
def ignored(code: Code) -> Iterator[Hit]:
    """Keys that nearly are weight_decay, and other libraries' words for it where a torch optimizer gets them."""
    known = frozenset[str]().union(*(card.keys for card in TORCH.values()))
    made = optimizers_made(code)
    only_torch = bool(made) and all(one.card.keys for one in made)
    for group in groups(code):
        for key in group.items.keys() - known:
            foreign = key in _FOREIGN and only_torch and group.node in reaching(code) and not _is_read(code, key)
            if _is_slip(key) or (foreign and "weight_decay" not in group.items):
                yield _hit(group.node, key)
    for node in code.all(ast.Subscript):
        said = node.slice.value if isinstance(node.slice, ast.Constant) else None
        is_slip = isinstance(said, str) and _is_written(node) and _is_slip(said) and not _is_read(code, said)
        if is_slip and owner_of_group(code, node.value):
            yield Hit(node.slice, _SAID.format(said), edits=(Edit(node.slice, '"weight_decay"'),))


_SAID = '"{}" is no option of an optimizer, "weight_decay" is'


def _is_slip(key: str) -> bool:
    """Whether somebody meant to write "weight_decay"; a word more, "old_weight_decay", is a key of their own."""
    plain, right = key.replace("-", "_").lower(), "weight_decay"
    near = key != right and key not in _FOREIGN and abs(len(plain) - len(right)) <= 2 and not plain[-1:].isdigit()
    return near and difflib.SequenceMatcher(None, plain, right).ratio() > 0.85


def _hit(group: ast.Dict | ast.Call, key: str) -> Hit:
    said = _SAID.format(key)
    if isinstance(group, ast.Call):
        return Hit(next(one for one in group.keywords if one.arg == key), said)
    node = next(one for one in group.keys if isinstance(one, ast.Constant) and one.value == key)
    return Hit(node, said, edits=(Edit(node, '"weight_decay"'),))


def _is_read(code: Code, key: str) -> bool:
    """Whether this text stands anywhere but as a key that is written: then somebody may read it."""
    return any(
        one.value == key and not isinstance(up := code.parents.get(one), ast.Dict) and not _is_written(up)
        for one in code.all(ast.Constant)
        if isinstance(one.value, str)
    )


def _is_written(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
