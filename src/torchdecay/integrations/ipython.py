"""IPython: `%load_ext torchdecay`, then `%%decay` over a cell that trains."""

from __future__ import annotations

import html
from typing import Any

from torchdecay.errors import need


def load_ipython_extension(ipython: Any) -> None:
    """Make `%%decay` known: it runs a cell, and shows in place who decayed, what was found, and the page.

    What stands behind it is what `torchdecay.watch` takes: `%%decay every_steps=10, apply="decoupled:0.1"`.

    Args:
        ipython: the shell, which calls this for `%load_ext torchdecay`.
    """
    ipython.register_magic_function(lambda line, cell: _decay(ipython, line, cell), "cell", "decay")


def _decay(ipython: Any, line: str, cell: str) -> None:
    from torchdecay.integrations.script.watching import watch

    settings = ipython.ev(f"dict({line})")
    with watch(**settings) as seen:
        result = ipython.run_cell(cell)
    display = need("IPython.display", "lab")
    for one in seen.record.seen:
        if one.plan is not None:
            display.display(one.plan.table())
        if one.audit is not None:
            display.display(one.audit)
    if seen.record.seen:
        display.display(display.HTML(_frame(seen.record)))
    # A notebook that is executed from end to end has to stop at a cell that failed.
    result.raise_error()


def _frame(record: Any) -> str:
    """The page inside the notebook, which needs no file."""
    from torchdecay.reports.document import render
    from torchdecay.reports.recorded import page_of

    page = html.escape(render(page_of(record)), quote=True)
    # In a division, because IPython warns of what begins with a frame.
    return f'<div><iframe srcdoc="{page}" style="width:100%;height:600px;border:0" title="torchdecay"></iframe></div>'
