"""What Python runs when it starts under `torchdecay run`: waits for torch.optim, and is otherwise not there.

It leaves sys.path as it is without it, and runs the user's own sitecustomize, if there is one. It imports nothing of
torchdecay before the script imports torch.
"""

# mypy: ignore-errors

import os
import sys

_AWAITED = "torch.optim.optimizer"


def _package():
    """`torchdecay.integrations.script.steps`, from the package that this file is part of."""
    if "torchdecay" not in sys.modules:
        from importlib import util

        home = os.path.abspath(__file__)
        for _ in range(4):
            home = os.path.dirname(home)
        spec = util.spec_from_file_location(
            "torchdecay", os.path.join(home, "__init__.py"), submodule_search_locations=[home]
        )
        assert spec is not None and spec.loader is not None
        sys.modules["torchdecay"] = module = util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules["torchdecay"]
            raise
    from torchdecay.integrations.script import steps

    return steps


def _guarded(call):
    """Nothing that goes wrong here is the script's."""
    try:
        call(_package())
    except Exception as error:
        print(f"torchdecay: not at work: {type(error).__name__}: {error}", file=sys.__stderr__)


class _Loader:
    """Loads what another loader loads, and then lets torchdecay hook it."""

    def __init__(self, loader, environment):
        self._loader, self._environment = loader, environment

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _guarded(lambda steps: steps.hook(module, self._environment))


class _Finder:
    """Finds one module, once, as the other finders do."""

    def __init__(self, environment):
        self._environment = environment

    def find_spec(self, name, path=None, target=None):
        if name != _AWAITED:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self._environment)
                return spec
        return None


def _open() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    place = next((place for place, path in enumerate(sys.path) if os.path.abspath(path) == here), None)
    if place is not None:
        del sys.path[place]
    environment = {name: value for name, value in os.environ.items() if name.startswith("TORCHDECAY_")}
    if environment.get("TORCHDECAY_DISABLE", "0").strip().lower() in ("", "0", "false", "no"):
        sys.meta_path.insert(0, _Finder(environment))
        if environment.get("TORCHDECAY_PID") == str(os.getpid()):
            import atexit

            # Registered first, so it runs last: whether anything was seen is known then.
            pid = os.getpid()
            atexit.register(lambda: os.getpid() == pid and _guarded(lambda steps: steps.close(environment)))


def _chain() -> None:
    """The user's own sitecustomize, which this one hides."""
    mine = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    if mine is not None:
        sys.modules.setdefault("sitecustomize", mine)


if __name__ == "sitecustomize":
    _open()
    _chain()
