"""What is said at the end of a script in which no optimizer took a step."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from torchdecay.integrations.script.folder import folders_of, shown
from torchdecay.integrations.script.guard import say
from torchdecay.integrations.script.options import Options
from torchdecay.text import listing


def say_unseen(environment: Mapping[str, str]) -> None:
    """Say what there was; where another process of the run saw something, which may be mute, where that is."""
    options = Options.from_environment(environment)
    if options.quiet:
        return
    folders = [shown(folder) for folder, _ in folders_of(Path(options.out), options.run)]
    if folders:
        say(f"torchdecay: a process that the script started trained: {listing(folders, most=4)}")
    elif "torch" in sys.modules or not hasattr(sys, "last_value"):
        # A script that does not parse, or fails at its first lines, has said so by its traceback.
        say(f"torchdecay: {why_unseen()} Nothing to show.")


def why_unseen() -> str:
    """Why no step of an optimizer was seen."""
    if "torch" not in sys.modules:
        return "the script did not import torch."
    import gc

    from torch.optim import Optimizer

    made = [one for one in gc.get_objects() if Optimizer in type(one).__mro__]
    if not made:
        return "no torch optimizer took a step, and none is there at the end."
    names = ", ".join(dict.fromkeys(type(one).__name__ for one in made))
    if any(one.__dict__.get("state") for one in made):
        return f"no step was seen of {names}, which has a state: a compiled step, or a checkpoint that was loaded."
    return f"{names} was made, and took no step."
