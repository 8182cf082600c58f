"""Names and tensors from a checkpoint file; no code in it is ever run."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchdecay.errors import LoadError, need
from torchdecay.text import listed, repr_quoted

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
PARTS = ("state_dict", "model_state_dict", "model", "module", "weights")
"""Where training scripts put the weights among the rest of a checkpoint."""


def load_tensors(path: Path) -> Mapping[str, Tensor]:
    """Name → tensor of a safetensors file, or of one that torch.save wrote.

    Raises:
        LoadError: not there, truncated, no checkpoint, asks to run code, or without tensors.
        MissingExtra: safetensors is not installed.
    """
    if not path.is_file():
        raise LoadError(f"there is no file {path}.", fix="Give a checkpoint, or module:name for a model.")
    return _weights(path, _safetensors(path) if path.suffix == ".safetensors" else _torch(path))


def _safetensors(path: Path) -> Any:
    torch_part = need("safetensors.torch", "transformers")
    try:
        return torch_part.load_file(path)
    except Exception as error:
        raise _unreadable(path, error) from error


def _torch(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            # What torch has to say about old files concerns nobody who only reads names and shapes.
            warnings.simplefilter("ignore")
            # Mapped, so that of a large file only what is looked at is read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None:
            raise _unreadable(path, error) from error
        raise LoadError(
            f"{path} holds more than tensors: to read it, {asked[1]} would be called.",
            "A checkpoint from elsewhere could run any code that way; it was not run.",
            "Save model.state_dict() alone, or write it as safetensors.",
        ) from error


def _unreadable(path: Path, error: Exception) -> LoadError:
    lines = [line for line in str(error).splitlines() if line and not line.startswith("Weights only load failed")]
    said = f" ({type(error).__name__}: {lines[0][:100]})" if len(lines) == 1 else ""
    return LoadError(
        f"{path} is no checkpoint, or only a part of one{said}.",
        fix="Give a safetensors file, or what torch.save(model.state_dict(), path) wrote.",
    )


def _weights(path: Path, found: Any) -> Mapping[str, Tensor]:
    """The part of a checkpoint that holds the weights."""
    from torch import Tensor

    for part in (None, *PARTS):
        inside = found if part is None else found.get(part) if isinstance(found, Mapping) else None
        if (
            isinstance(inside, Mapping)
            and inside
            and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in inside.items())
        ):
            return inside
    keys = [str(key) for key in found] if isinstance(found, Mapping) else []
    holds = f"the keys {listed(keys)}" if keys else f"something of type {type(found).__name__}"
    raise LoadError(
        f"{path} holds {holds}, and no weights by name.",
        f"Looked for them at the top and under {', '.join(map(repr_quoted, PARTS))}.",
        "Save model.state_dict() by itself.",
    )
