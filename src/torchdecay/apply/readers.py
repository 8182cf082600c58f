"""Tables whose rows pay late, as the model reads them: rows that are about to be read catch up before."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torchdecay.apply.row_pulls import RowPulls

_TABLES = (nn.Embedding, nn.EmbeddingBag)


def watch(model: nn.Module | None, rows: RowPulls) -> list[RemovableHandle]:
    """Hooks by which rows catch up before a module reads them; all, where a table is tied to another."""
    late = {id(param) for param in rows.lazy_params()}
    modules = () if model is None or not late else model.modules()
    readers = [(one, [id(p) for p in one._parameters.values() if id(p) in late]) for one in modules]
    held = Counter(key for _, keys in readers for key in keys)
    return [
        module.register_forward_pre_hook(
            _CatchUp(rows, whole=not isinstance(module, _TABLES) or any(held[key] > 1 for key in keys)),
            with_kwargs=True,
        )
        for module, keys in readers
        if keys
    ]


class _CatchUp:
    """What a module of the model calls before it reads rows that pay late: all, where it reads more than it is told.

    It is saved and copied with the model, and is then nobody's: the optimizer and its plan are no part of a model.
    """

    def __init__(self, rows: RowPulls | None = None, *, whole: bool = False) -> None:
        self._rows, self._whole = rows, whole

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._rows is None:
            return
        read = args[0] if args else kwargs.get("input")
        for weight in module._parameters.values():
            if weight is not None:
                self._rows.catch_up(weight, None if self._whole or not isinstance(read, Tensor) else read)

    def __reduce__(self) -> tuple[type[_CatchUp], tuple[()]]:
        return _CatchUp, ()
