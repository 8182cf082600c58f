"""IPython: `%load_ext torchdecay`, then `%%decay` over a cell that trains."""

from __future__ import annotations

import contextlib
import html
import inspect
import os
from typing import TYPE_CHECKING, Any

from torchdecay.errors import ApplyError, need
from torchdecay.text import describe_error, listing, nearest

if TYPE_CHECKING:
    from torchdecay.integrations.script.watching import Watching


def load_ipython_extension(ipython: Any) -> None:
    """Make `%%decay` known: it runs a cell, and shows in place who decayed, what was found, and the page.

    What stands behind it is what `torchdecay.watch` takes: `%%decay every_steps=10, apply="decoupled:0.1"`.

    Args:
        ipython: the shell, which calls this for `%load_ext torchdecay`.
    """

    def decay(line: str, cell: str) -> None:
        """Run the cell, and show below it who decayed, what was found, and the page.

        %%decay [every_steps=100, by="role", steps=None, apply="", rules="standard", out=None, quiet=True]

        As `torchdecay.watch` takes them: `%%decay every_steps=10, apply="decoupled:0.1"`.
        """
        _decay(ipython, line, cell)

    ipython.register_magic_function(decay, "cell")


def unload_ipython_extension(ipython: Any) -> None:
    """Take `%%decay` away again.

    Args:
        ipython: the shell, which calls this for `%unload_ext torchdecay`, and first for `%reload_ext`.
    """
    ipython.magics_manager.magics["cell"].pop("decay", None)


def _decay(ipython: Any, line: str, cell: str) -> None:
    from torchdecay.integrations.script.options import is_disabled

    display = need("IPython.display", "lab")
    with _watching(ipython, line) as seen:
        result = ipython.run_cell(cell)
    for one in seen.record.seen:
        if one.plan is not None:
            display.display(one.plan.table())
        if one.audit is not None:
            display.display(one.audit)
    if seen.record.seen:
        display.display(display.HTML(_frame(seen.record)))
    elif not is_disabled(os.environ):
        print("torchdecay: no optimizer took a step in this cell. Nothing to show.")
    error = result.error_before_exec or result.error_in_exec
    with contextlib.suppress(AttributeError):
        # It is shown already, and raised once more, because a notebook that is run from end to end has to stop there.
        error._render_traceback_ = lambda: ["The cell under %%decay failed: see above."]
    result.raise_error()


def _watching(ipython: Any, line: str) -> Watching:
    """What stands behind `%%decay`, as `watch` takes it; a slip there is told as IPython's own magics tell theirs."""
    from torchdecay.integrations.script.watching import watch

    try:
        given = ipython.ev(f"dict({line})")
        known = inspect.signature(watch).parameters
        if unknown := [name for name in given if name not in known]:
            raise ApplyError(
                f"it takes no {listing(unknown)}.", nearest(unknown[0], known), f"Known: {listing([*known])}."
            )
        return watch(**given)
    except Exception as error:
        raise need("IPython.core.error", "lab").UsageError(f"%%decay {line}: {describe_error(error)}") from None


def _frame(record: Any) -> str:
    """The page inside the notebook, which needs no file."""
    from torchdecay.reports.document import render
    from torchdecay.reports.recorded import page_of

    page = html.escape(render(page_of(record)), quote=True)
    # In a division, because IPython warns of what begins with a frame.
    return f'<div><iframe srcdoc="{page}" style="width:100%;height:600px;border:0" title="torchdecay"></iframe></div>'
