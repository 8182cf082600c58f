"""Every example in a docstring runs and prints what it shows."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest
from torch import optim

import torchdecay
from torchdecay.errors import MissingExtra

pytestmark = pytest.mark.long

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


FRAMEWORKS = {f"torchdecay.integrations.{name}" for name in ("lightning", "transformers", "skorch", "fastai")}
"""Loading one takes seconds: `make peers` does."""


def module_names() -> list[str]:
    return [
        "torchdecay",
        *(
            name
            for _, name, _ in pkgutil.walk_packages(torchdecay.__path__, "torchdecay.", onerror=lambda _: None)
            if not name.endswith("__main__")
        ),
    ]


def load(name: str) -> ModuleType:
    """The module, or a skip where a library that only an extra brings is not installed."""
    try:
        return importlib.import_module(name)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    except ImportError as missing:
        if (missing.name or "torchdecay").partition(".")[0] == "torchdecay":
            raise
        pytest.skip(f"{missing.name} is not installed")


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.peers] if one in FRAMEWORKS else []) for one in module_names()]
)
def test_the_examples_of_a_module_run(name: str) -> None:
    """What the documentation shows is what happens."""
    module = load(name)
    if not hasattr(optim, "Muon") and "optim.Muon(" in inspect.getsource(module):
        pytest.skip("this torch has no Muon")
    failed = doctest.testmod(module, optionflags=FLAGS, verbose=False)
    assert failed.failed == 0, f"{failed.failed} of {failed.attempted} examples of {name} fail; see above"


def test_there_are_examples_to_run() -> None:
    """A walk that found no module, or no example, would pass for the wrong reason."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [load(name) for name in module_names() if name.startswith("torchdecay.plans.")]
    examples = [example for module in modules for test in finder.find(module) for example in test.examples]
    assert len(examples) > 80


def test_an_example_that_lies_is_caught() -> None:
    """Seeded: a docstring that shows another number fails."""
    module = ModuleType("lying")
    exec('def f():\n    """Say.\n\n    >>> 1 + 1\n    3\n    """', module.__dict__)
    module.__dict__["f"].__module__ = "lying"
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    found = doctest.DocTestFinder().find(module, "lying")
    assert sum(runner.run(test, out=lambda text: None).failed for test in found) == 1
