"""What can go wrong, drawn as a tree; every message says what and where, why, and what to write instead.

TorchdecayError
├── DecayError       a decay, schedule, mask or reference that means nothing (also a ValueError)
├── PlanError        a rule, selector or plan that does not fit the model    (also a ValueError)
├── ApplyError       a plan that this optimizer cannot carry out             (also a ValueError)
├── LoadError        a checkpoint, plan file or history that cannot be read  (also a ValueError)
├── UnitError        a conversion that lacks context or names no known unit  (also a ValueError)
├── TaskError        data, a task or a result that cannot be used            (also a ValueError)
└── MissingExtra     an optional library is not installed                    (also an ImportError)
"""

from __future__ import annotations

import errno
import importlib
import re
import warnings
from types import ModuleType

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What a disk says that can take no more."""

RAISED = (Exception, SystemExit)
"""What a user's code may raise without ending more than what it was called for: sys.exit too, of what was a script."""


class TorchdecayError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        what: what is wrong and where, with names and values.
        why: why that cannot stand.
        fix: what to write instead.
    """

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__("\n  ".join(part for part in (what, why, fix) if part))


class DecayError(TorchdecayError, ValueError):
    """A decay, schedule, mask or reference that means nothing."""


class PlanError(TorchdecayError, ValueError):
    """A rule, selector or plan that does not fit the model."""


class ApplyError(TorchdecayError, ValueError):
    """A plan that this optimizer cannot carry out."""


class LoadError(TorchdecayError, ValueError):
    """A checkpoint, plan file or history that cannot be read."""


class UnitError(TorchdecayError, ValueError):
    """A conversion that lacks context, contradicts itself, or names no known unit."""


class TaskError(TorchdecayError, ValueError):
    """Data, a task or a result that cannot be used."""


class MissingExtra(TorchdecayError, ImportError):
    """An optional library is not installed."""


def need(module: str, extra: str, *, at_least: str = "") -> ModuleType:
    """Import an optional library, or say which extra brings it.

    Args:
        module: what to import.
        extra: the extra of this package that installs it.
        at_least: the oldest version that will do, "2.4" say.

    Raises:
        MissingExtra: when `module` is not installed, or is older.
    """
    fix = f"Install it with: pip install --upgrade 'torchdecay[{extra}]'"
    top = module.split(".")[0]
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"This needs {top}, which could not be imported ({error}).", fix=fix.replace("--upgrade ", "")
        ) from error
    version = str(getattr(importlib.import_module(top), "__version__", at_least)) if at_least else ""
    if _numbers(version) < _numbers(at_least):
        raise MissingExtra(f"This needs {top} {at_least} or newer, and {version} is installed.", fix=fix)
    return found


def _numbers(version: str) -> list[int]:
    """The numbers of a version: those of "2.4.0rc1" are 2, 4 and 0."""
    return [int(digits[0]) for part in version.split(".")[:3] if (digits := re.match(r"\d+", part))]


class UnknownRoleWarning(UserWarning):
    """Parameters whose role is unknown were spared."""


class OwnershipWarning(UserWarning):
    """Another hand wrote the `weight_decay` that an attached plan owns."""


class DetachedWarning(UserWarning):
    """An optimizer takes steps, or is attached to, without what the plan remembered that was attached to it before."""


class ForgottenPenaltyWarning(UserWarning):
    """A step was taken without the penalty that the plan's LOSS rows need."""


class PeakWarning(UserWarning):
    """A learning rate is above what a decay has gone by as the highest."""


class NotCompiledWarning(UserWarning):
    """`attach(..., compile=True)` found nothing to compile with, and runs uncompiled."""


class NotRecordedWarning(UserWarning):
    """A monitor could not measure a step, or its file or a writer failed; the training goes on."""


class TornHistoryWarning(UserWarning):
    """The last line of a history file was cut off in the middle, and left out."""


_shown: set[tuple[type[Warning], str]] = set()


def warn_in_step(said: str, category: type[Warning], *, stacklevel: int) -> None:
    """Warn; where warnings are errors, show it all the same, once: raised, it would end the user's step halfway."""
    try:
        warnings.warn(said, category, stacklevel=stacklevel + 1)
    except category:
        if (category, said) not in _shown:
            _shown.add((category, said))
            with warnings.catch_warnings():
                warnings.simplefilter("always", category)
                warnings.warn(said, category, stacklevel=stacklevel + 1)
