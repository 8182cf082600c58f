"""`%%decay` over a cell: the table, what was found, and the page in place."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch

import torchdecay


class Shell:
    """As much of IPython's shell as the extension asks for."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"torch": torch}
        self.magics: dict[str, Callable[[str, str], None]] = {}

    def register_magic_function(self, function: Callable[[str, str], None], kind: str) -> None:
        self.magics[f"{kind} {function.__name__}"] = function

    def ev(self, text: str) -> Any:
        return eval(text, self.names)

    def run_cell(self, cell: str) -> Shell:
        self.error_in_exec: Exception | None
        self.error_before_exec, self.error_in_exec = None, None
        try:
            exec(cell, self.names)
        except Exception as error:
            self.error_in_exec = error
        return self

    def raise_error(self) -> None:
        if self.error_in_exec is not None:
            raise self.error_in_exec


def test_a_cell_shows_who_decays_and_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cell makes stays in the notebook's own names."""
    shown: list[Any] = []
    package = types.ModuleType("IPython")
    package.version_info = (9, 0)  # type: ignore[attr-defined]
    display = types.ModuleType("IPython.display")
    display.display = shown.append  # type: ignore[attr-defined]
    display.HTML = lambda text: text  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    shell = Shell()
    torchdecay.load_ipython_extension(shell)
    shell.magics["cell decay"](
        "every_steps=1",
        "model = torch.nn.Linear(3, 2)\n"
        "optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)\n"
        "for _ in range(3):\n    model(torch.ones(1, 3)).sum().backward(); optimizer.step()\n",
    )
    table, audit, page = shown
    assert "decoupled(0.1)" in table._repr_html_() and audit.codes == ("WD101",)
    assert page.startswith("<div><iframe srcdoc=") and "3 steps of AdamW" in page
    assert isinstance(shell.names["optimizer"], torch.optim.AdamW)
    with pytest.raises(ValueError, match="mine"):
        shell.magics["cell decay"]("", "raise ValueError('mine')")
